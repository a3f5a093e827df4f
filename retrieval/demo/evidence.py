"""The evidence for one image: where its finding is, what corresponds in a hit, a draft with its sources."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from corpus.findings import Status, Statuses, status_lists
from corpus.images.reader import read_image
from corpus.phantom import describe, masks
from indexer.index import Index
from retrieval.answer import Hit
from retrieval.demo.cards import chips, label
from retrieval.demo.page import DraftedSentence, DraftPanel, Evidence, Tile, inline_pixels
from retrieval.demo.searches import Question, query_card
from retrieval.draft.draft import draft, localizer
from retrieval.draft.text import HEADING, Statement
from retrieval.draft.votes import Vote
from retrieval.export.drawing import drawn_size
from retrieval.export.overlay import CORRESPONDENCE_SIDE, draw_overlay, draw_pairs
from retrieval.localize.answer import Localization
from retrieval.localize.correspondence import find_correspondence
from retrieval.localize.localizer import localize
from retrieval.localize.refine.refiner import open_refiner
from retrieval.localize.specificity.calibration import SpecificityCalibration

METHOD = "patches"
"""How maps are made: by the cosine of each patch with the phrase. The quickest method; the encoder is trained
for it."""

_STRONG = 0.1  # of the strongest pair's strength: weaker pairs say nothing
_SOURCES = 3  # source sentences shown of each sentence of the draft
_COLOUR = np.array([255, 196, 0], dtype=np.uint8)


def localization_evidence(index: Index, question: Question, calibration: SpecificityCalibration) -> Evidence:
    """Ask where the query's finding is, and where one is that it does not show: map, mask, ground truth."""
    assert question.scene is not None
    location = question.query.location or ""
    image = read_image(location)
    finding = question.scene.lesions[0].finding
    absent = _absent(question)
    shown, other = localize(
        index.encoder,
        image,
        [label(finding), label(absent)],
        method=METHOD,
        refine=open_refiner("random-walker"),
        calibration=calibration,
    )
    drawn = masks(question.scene, image.shape[0])[finding]
    grey = np.repeat(np.rint(image * 255).astype(np.uint8)[..., None], 3, axis=2)
    rates = calibration.rates
    return Evidence(
        heading="Where the finding is",
        explanation=f"Each patch of the radiograph is compared with the words “{label(finding)}”. A mask is "
        "returned only where the map is specific for the phrase. How specific it has to be was calibrated on "
        f"other phantoms: there {rates['present']:.0%} of the findings that are present got a mask, and "
        f"{rates['absent']:.0%} of those that are absent got none.",
        command=f"similarity localize --image {location} --finding '{label(finding)}' "
        f"--finding '{label(absent)}' --refine random-walker --out found",
        tiles=(
            Tile("Radiograph", inline_pixels(grey), "as read"),
            Tile("Saliency map", _overlay(image, shown, heat=True), f"for “{label(finding)}”"),
            Tile("Mask", _overlay(image, shown), _words(shown)),
            Tile("Ground truth", _outlined(grey, drawn), "what was drawn into the phantom"),
            Tile(f"Absent finding: “{label(absent)}”", _overlay(image, other, heat=True), _words(other)),
        ),
        note=_measured(shown, drawn),
    )


def correspondence_evidence(index: Index, question: Question, hit: Hit) -> Evidence:
    """Match the patches of the query and of a hit: which part of one is like which part of the other."""
    location = question.query.location or ""
    query, other = read_image(location), read_image(hit.case.path or "")
    found = find_correspondence(index.encoder, query, other)
    strong = tuple(pair for pair in found.pairs if pair.score >= _STRONG)
    both = draw_pairs(query, other, replace(found, pairs=strong))
    height = CORRESPONDENCE_SIDE  # phantoms are square
    return Evidence(
        heading="What corresponds in the most similar case",
        explanation="Patches of both radiographs that choose each other, less what radiographs usually show "
        "at the same place. Boxes with the same number correspond; 1 is the strongest pair.",
        command=f"similarity localize --image {location} --like {hit.case.study_id} --out pairs",
        tiles=(
            Tile("Query", inline_pixels(both[:height, :height], 480), _leaves(question.findings)),
            Tile(
                f"Hit {hit.rank}: {hit.case.study_id}",
                inline_pixels(both[:height, -height:], 480),
                _leaves(hit.case.findings),
            ),
        ),
        note=f"Pairs with less than {_STRONG:.0%} of the strength of the strongest are left out: "
        f"{len(found.pairs) - len(strong)}.",
    )


def draft_panel(index: Index, question: Question) -> DraftPanel:
    """Draft a report of the query from its neighbours, with votes and source sentences."""
    assert question.scene is not None
    location = question.query.location or ""
    made = draft(index, location, phrase_localizer=localizer(index))
    rest = [made.reason] if made.reason else []
    if made.unworded:
        rest.append("Voted, without a sentence that fits: " + "; ".join(map(_vote, made.unworded)))
    rest += [f"{finding.capitalize()}?" for finding in made.asked_of_reader]
    if made.statements or made.unworded:
        rest.append("Not assessed: " + ", ".join(map(label, made.not_assessed)) + ".")
    return DraftPanel(
        explanation="The nearest cases vote on each finding; sentences come from their reports, and state "
        f"side and zone only where the mask confirms them. {made.neighbours} reports and radiographs voted; "
        f"what a vote is worth was calibrated on {made.calibrated_by or 'no'} studies of the archive.",
        command=f"similarity draft --image {location}",
        query=query_card(question),
        heading=HEADING,
        sentences=tuple(_sentence(statement) for statement in made.statements),
        rest=tuple(rest),
        report=describe(question.scene).text,
    )


def _sentence(statement: Statement) -> DraftedSentence:
    body = statement.as_json()
    sources = tuple((source["study_id"], source["text"]) for source in body["sources"][:_SOURCES])
    return DraftedSentence(body["text"], tuple(map(_vote, statement.votes)), sources)


def _vote(vote: Vote) -> str:
    negation = "no " if vote.status is Status.ABSENT else ""
    return (
        f"{negation}{label(vote.finding)}: {vote.agree} of {vote.voters} neighbours, estimated probability "
        f"{vote.probability:.0%}"
    )


def _leaves(findings: Statuses) -> str:
    return ", ".join(chip.label for chip in chips(findings)) or "no finding"


def _absent(question: Question) -> str:
    present = set(status_lists(question.findings)["present"])
    return next(name for name in ("pleural_effusion", "pneumothorax", "nodule") if name not in present)


def _overlay(image: NDArray[np.float32], found: Localization, *, heat: bool = False) -> str:
    """The radiograph with map or outline, without the band of words that an exported overlay has."""
    height, width = drawn_size(image.shape)
    return inline_pixels(draw_overlay(image, found, heat=heat)[:height, :width])


def _outlined(grey: NDArray[np.uint8], mask: NDArray[np.bool_]) -> str:
    inner = mask[1:-1, 1:-1] & mask[:-2, 1:-1] & mask[2:, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:]
    border = mask.copy()
    border[1:-1, 1:-1] &= ~inner
    outlined = grey.copy()
    outlined[border] = _COLOUR
    return inline_pixels(outlined)


def _words(found: Localization) -> str:
    if found.mask is None:
        return found.reason or "no mask"
    return (found.words or "") + (f" ({found.reason})" if found.reason else "")


def _measured(found: Localization, drawn: NDArray[np.bool_]) -> str:
    """How well mask and map agree with the ground truth."""
    peak = np.unravel_index(int(found.heat.argmax()), found.heat.shape)
    where = "inside" if drawn[peak] else "outside"
    if found.mask is None:
        return f"The map's peak lies {where} the finding as it was drawn; no mask was returned."
    dice = 2 * (found.mask & drawn).sum() / max(1, found.mask.sum() + drawn.sum())
    return f"The map's peak lies {where} the finding as it was drawn; the mask's Dice is {dice:.2f}."
