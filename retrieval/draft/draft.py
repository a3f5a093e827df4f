"""A draft report of an image from its nearest neighbours: votes, sentences, and questions to the reader."""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from corpus.dicom.spacing import Spacing
from corpus.errors import EncoderError, NotInstalled, SimilarityError
from corpus.findings import NO_FINDING, SUPPORT_DEVICES, VOCABULARY, Status
from indexer.index import Index
from indexer.vectors.filters import Condition
from retrieval.draft.modifiers import ConfirmedLocation, confirmed_location
from retrieval.draft.neighbours import KINDS, VOTERS, finding_condition, nearest, reports_of
from retrieval.draft.sentences import Sentence, choose
from retrieval.draft.text import Draft, Statement, spoken
from retrieval.draft.votes import Ballot, Vote, gather, load_votes, vote
from retrieval.localize.answer import Localization
from retrieval.query.encode import encode_queries
from retrieval.query.feedback import Vector
from retrieval.query.image import QueryImage, read_query_image
from retrieval.query.query import Query

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from trainer.runtime.encoder import Encoder

_REPORTS_READ = 40
"""Reports with a finding, beside those of the voters, that are searched for a sentence about it."""
_NOTHING_PASSED = "No draft: the neighbours agree on no finding, and on no absence of one, surely enough."
_MIRRORED: Mapping[str | None, str] = {"left": "right", "right": "left", "both": "both"}


class PhraseLocalizer(Protocol):
    """Localizes phrases in an image by an encoder."""

    def __call__(
        self,
        encoder: "Encoder",
        image: NDArray[np.float32],
        phrases: Sequence[str],
        /,
        *,
        spacing: Spacing | None = None,
    ) -> Sequence[Localization]:
        """Return an answer to each phrase; `image`: (height, width) float32 in [0, 1]."""
        ...


def draft(
    index: Index,
    image: str,
    *,
    k: int = VOTERS,
    where: str | None = None,
    subject: str | None = None,
    phrase_localizer: PhraseLocalizer | None = None,
    decoded: QueryImage | None = None,
) -> Draft:
    """Draft a report of an image.

    Args:
        index: an open index.
        image: a file, or `phantom://SEED/NUMBER`.
        k: the number of neighbours of each kind (images, reports) that vote.
        where: only neighbours that meet this expression of `retrieval.query.filters`.
        subject: of the image; this subject's studies are no neighbours, nor are those of equal pixels.
        phrase_localizer: localizes findings in the image; without it the draft asks for every side, zone and
            device.
        decoded: the content of `image`, where it was read already.

    Raises:
        UsageError: the filter cannot be parsed.
        UnreadableImage, NotAdmitted: the image cannot be read, or is no radiograph by its header.
    """
    decoded = decoded or read_query_image(image)
    query = Query(image=image, target="reports", k=k, where=where, subject=subject, decoded=decoded)
    encoded = encode_queries(index, [query])[0]
    if isinstance(encoded, SimilarityError):
        raise encoded
    request = {"image": image, "k": k, "where": where}
    encoder = {"name": index.active_version.name, "fingerprint": index.active_version.fingerprint}
    if encoded.refused is not None:
        return Draft(request, encoder, reason=f"No draft: {encoded.refused}", notes=decoded.notes)
    vector = encoded.vectors[0].vector
    ballot = gather(index, vector, k, subjects=encoded.subjects, where=encoded.where)
    voters = sum(map(len, ballot.neighbours.values()))
    reason = _why_none(ballot, where)
    if reason is not None:
        return Draft(request, encoder, neighbours=voters, reason=reason, notes=decoded.notes)
    calibration = load_votes(index)
    passed = reconcile(vote(ballot, calibration))
    locations = _localize(index, decoded, passed, phrase_localizer)
    devices = [v for v in passed if v.finding == SUPPORT_DEVICES and v.status is Status.PRESENT]
    unlocated = devices if SUPPORT_DEVICES not in locations else []
    passed = [v for v in passed if v not in unlocated]
    sentences = _sentences(index, vector, ballot, passed, locations, encoded.subjects, encoded.where)
    votes = {v.finding: v for v in passed}
    statements = tuple(Statement(sentence, _votes_on(sentence, votes)) for sentence in sentences)
    worded = {name for sentence in sentences for name in sentence.claims}
    return Draft(
        request,
        encoder,
        statements,
        unworded=tuple(v for v in passed if v.finding not in worded),
        asked_of_reader=tuple(spoken(v.finding) for v in unlocated),
        neighbours=voters,
        calibrated_by=None if calibration is None else calibration.images,
        reason=None if passed or unlocated else _NOTHING_PASSED,
        notes=decoded.notes,
    )


def localizer(index: Index) -> PhraseLocalizer | None:
    """The localizer for drafts from an index, or None where the encoder is not calibrated for localization.

    Of the calibrated methods (`similarity localize --calibrate SOURCE`), it uses the one with the highest
    sensitivity. Without calibration every mask would be qualified, and a qualified mask confirms no side: to
    make it would be time lost.
    """
    from retrieval.localize.localizer import localize  # late: takes seconds
    from retrieval.localize.specificity.calibration import best_method, find_calibration

    home, fingerprint = index.home.folder, index.active_version.fingerprint
    method = best_method(fingerprint, home)
    if method is None:
        return None
    return partial(localize, method=method, calibration=find_calibration(fingerprint, method, home))


def reconcile(votes: Iterable[Vote]) -> list[Vote]:
    """The stated votes that are consistent with each other, the most probable first.

    A present finding excludes an absence that denies it. A normal image has no findings except devices: the
    more probable of the two is stated. Of a finding and its parent, the child is stated, unless the parent is
    more probable by half: "opacity" adds nothing to "consolidation".
    """
    passed = sorted((v for v in votes if v.stated), key=lambda v: (-v.probability, v.finding))
    present = [v for v in passed if v.status is Status.PRESENT]
    normal = next((v for v in present if v.finding == NO_FINDING), None)
    findings = [v for v in present if v.finding != NO_FINDING]
    pathological = [v for v in findings if v.finding != SUPPORT_DEVICES]
    if normal is not None and pathological:
        if normal.probability > pathological[0].probability:
            findings = [v for v in findings if v.finding == SUPPORT_DEVICES]
        else:
            normal = None
    specific = [v for v in findings if not _covered_by_child(v, findings)]
    named = {v.finding for v in specific}
    absent = [
        v
        for v in passed
        if v.status is Status.ABSENT and v.finding != NO_FINDING and not _denies(v.finding, named)
    ]
    return [*([] if normal is None else [normal]), *specific, *absent]


def consistent(sentences: Sequence[Sentence]) -> list[Sentence]:
    """The sentences that neither repeat nor contradict an earlier one."""
    selected: list[Sentence] = []
    claims: dict[str, Status] = {}
    for sentence in sentences:
        if all(claims.get(name) is status for name, status in sentence.claims.items()):
            continue
        if any(_contradicts(name, status, claims) for name, status in sentence.claims.items()):
            continue
        claims |= sentence.claims
        selected.append(sentence)
    return selected


def _covered_by_child(vote: Vote, votes: Sequence[Vote]) -> bool:
    children = [other for other in votes if vote.finding in VOCABULARY.ancestors(other.finding)]
    return any(vote.probability <= 1.5 * child.probability for child in children)


def _denies(finding: str, present: set[str]) -> bool:
    """Whether the absence of a finding denies one of these."""
    return any(finding == name or finding in VOCABULARY.ancestors(name) for name in present)


def _contradicts(name: str, status: Status, claims: Mapping[str, Status]) -> bool:
    if status is Status.ABSENT:
        return _denies(name, {other for other, claim in claims.items() if claim is Status.PRESENT})
    denied = {other for other, claim in claims.items() if claim is Status.ABSENT}
    return name in denied or any(ancestor in denied for ancestor in VOCABULARY.ancestors(name))


def _votes_on(sentence: Sentence, votes: Mapping[str, Vote]) -> tuple[Vote, ...]:
    """The votes on a sentence's claims, the one that it was chosen for first."""
    others = (name for name in sentence.claims if name != sentence.finding)
    return tuple(votes[name] for name in (sentence.finding, *others) if name in votes)


def _why_none(ballot: Ballot, where: str | None) -> str | None:
    """Why these neighbours make no draft, in a sentence; None where they make one."""
    everyone = [neighbour for kind in KINDS for neighbour in ballot.neighbours[kind]]
    if not everyone:
        filtered = "meets the filter and " if where is not None else ""
        return f"No draft: no case of the index {filtered}has findings that could vote."
    if len({n.study.report.described for n in reports_of(everyone) if n.study.report is not None}) == 0:
        return "No draft: none of the neighbours has a report to take sentences from."
    return None


def _localize(
    index: Index, decoded: QueryImage, passed: Sequence[Vote], phrase_localizer: PhraseLocalizer | None
) -> dict[str, ConfirmedLocation]:
    """Finding → confirmed location in this image, for the findings that were voted present and localized.

    A mask confirms a location where it is unqualified (its map was checked against images without the
    finding) and follows the image: in the mirrored image it must lie on the other side, in the same zone. A
    map of the image's edges, its marker or the heart does not.
    """
    findings = [v.finding for v in passed if v.status is Status.PRESENT and v.finding != NO_FINDING]
    if phrase_localizer is None or not findings:
        return {}
    phrases = [spoken(name) for name in findings]
    mirror = np.ascontiguousarray(decoded.pixels[:, ::-1])
    try:
        answers = phrase_localizer(index.encoder, decoded.pixels, phrases, spacing=decoded.spacing)
        mirrored = phrase_localizer(index.encoder, mirror, phrases, spacing=decoded.spacing)
    except EncoderError as error:  # no map of features: the draft asks for every side
        log.info("nothing is localized: %s", error)
        return {}
    except NotInstalled as error:
        log.warning("the draft asks for every side, since nothing is localized: %s", error)
        return {}
    return {
        name: confirmed_location(answer.side, answer.zone)
        for name, answer, other in zip(findings, answers, mirrored, strict=True)
        if _is_unqualified(answer) and _is_unqualified(other) and other.side == _MIRRORED.get(answer.side)
        if answer.zone == other.zone
    }


def _is_unqualified(answer: Localization) -> bool:
    return answer.mask is not None and answer.reason is None


def _sentences(
    index: Index,
    vector: Vector,
    ballot: Ballot,
    passed: Sequence[Vote],
    locations: Mapping[str, ConfirmedLocation],
    subjects: Collection[str],
    where: Condition | None,
) -> list[Sentence]:
    """A sentence for each vote that has one, none repeating another."""
    stated = {v.finding: v.status for v in passed}
    voters = [neighbour for kind in reversed(KINDS) for neighbour in ballot.neighbours[kind]]
    chosen = []
    for one in passed:
        condition = finding_condition(one.finding, one.status, where)
        others = nearest(index, "report", vector, _REPORTS_READ, subjects=subjects, where=condition)
        sentence = choose(one.finding, one.status, [*voters, *others], stated, locations)
        if sentence is not None:
            chosen.append(sentence)
    return consistent(chosen)
