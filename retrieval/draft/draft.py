"""A draft report of a picture, from its nearest neighbours: votes, sentences, and what they leave open."""

import logging
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from corpus.dicom.spacing import Spacing
from corpus.errors import EncoderError, SimilarityError
from corpus.findings import NO_FINDING, SUPPORT_DEVICES, Status
from indexer.index import Index
from indexer.vectors.filters import Condition
from retrieval.draft.consistency import reconcile, unrepeated
from retrieval.draft.modifiers import Agreed, agreement
from retrieval.draft.neighbours import KINDS, VOTERS, holding, nearest, reports_of
from retrieval.draft.sentences import Sentence, choose
from retrieval.draft.text import Draft, Statement, spoken
from retrieval.draft.votes import Ballot, Vote, gather, load_votes, vote
from retrieval.localize.answer import Localization
from retrieval.query.encode import understand
from retrieval.query.image import Picture, read_picture
from retrieval.query.probes import Vector
from retrieval.query.query import Query

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from trainer.runtime.encoder import Encoder


class Localizing(Protocol):
    """Shows where phrases are in an image."""

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


_READ = 40
"""Reports with a finding whose sentences are read for it, beside those of the voters."""


def draft(
    index: Index,
    image: str,
    *,
    k: int = VOTERS,
    where: str | None = None,
    subject: str | None = None,
    localizing: Localizing | None = None,
    picture: Picture | None = None,
) -> Draft:
    """Draft a report of a picture.

    Args:
        index: an open index.
        image: a file, or `phantom://SEED/NUMBER`.
        k: how many neighbours of each kind (films, reports) vote.
        where: only neighbours that meet this expression of `retrieval.query.filters`.
        subject: whose picture it is; that person's studies are no neighbours, nor are those of equal pixels.
        localizing: shows where findings are in the picture; without it every side, zone and device is asked.
        picture: what `image` holds, where it was read already.

    Raises:
        UsageError: the filter cannot be understood.
        UnreadableImage, NotAdmitted: the picture cannot be read, or is no radiograph by its header.
    """
    picture = picture or read_picture(image)
    query = Query(image=image, target="reports", k=k, where=where, subject=subject, picture=picture)
    understood = understand(index, [query])[0]
    if isinstance(understood, SimilarityError):
        raise understood
    asked = {"image": image, "k": k, "where": where}
    encoder = {"name": index.active_version.name, "fingerprint": index.active_version.fingerprint}
    if understood.refused is not None:
        return Draft(asked, encoder, reason=f"No draft: {understood.refused}", notes=picture.notes)
    probe = understood.probes[0].vector
    near = gather(index, probe, k, subjects=understood.subjects, where=understood.where)
    voters = sum(map(len, near.neighbours.values()))
    reason = _why_none(near, where)
    if reason is not None:
        return Draft(asked, encoder, neighbours=voters, reason=reason, notes=picture.notes)
    calibration = load_votes(index)
    passed = reconcile(vote(near, calibration))
    shown = _localize(index, picture, passed, localizing)
    devices = [v for v in passed if v.finding == SUPPORT_DEVICES and v.status is Status.PRESENT]
    unseen = devices if SUPPORT_DEVICES not in shown else []
    passed = [v for v in passed if v not in unseen]
    sentences = _sentences(index, probe, near, passed, shown, understood.subjects, understood.where)
    votes = {v.finding: v for v in passed}
    statements = tuple(Statement(sentence, _votes_on(sentence, votes)) for sentence in sentences)
    said = {name for sentence in sentences for name in sentence.claims}
    return Draft(
        asked,
        encoder,
        statements,
        unworded=tuple(v for v in passed if v.finding not in said),
        asked_of_reader=tuple(spoken(v.finding) for v in unseen),
        neighbours=voters,
        calibrated_by=None if calibration is None else calibration.films,
        reason=None if passed or unseen else _NOTHING_PASSED,
        notes=picture.notes,
    )


def localizer(index: Index) -> Localizing | None:
    """What shows findings in the pictures that are drafted for, or None while nothing it shows is believed.

    Of the methods that the encoder was calibrated for (`similarity localize --calibrate SOURCE`) the one that
    gives most findings a mask. Without any there would be only masks with a reservation, which settle no
    side: to make them would be time lost.
    """
    from retrieval.localize.localize import localize
    from retrieval.localize.specificity.calibration import (  # late: takes seconds
        best_method,
        find_calibration,
    )

    home, fingerprint = index.home.folder, index.active_version.fingerprint
    method = best_method(fingerprint, home)
    if method is None:
        return None
    return partial(localize, method=method, thresholds=find_calibration(fingerprint, method, home))


_NOTHING_PASSED = "No draft: the neighbours agree on no finding, and on no absence of one, surely enough."


def _votes_on(sentence: Sentence, votes: Mapping[str, Vote]) -> tuple[Vote, ...]:
    """The votes on what a sentence claims, the one that it was chosen for first."""
    others = (name for name in sentence.claims if name != sentence.finding)
    return tuple(votes[name] for name in (sentence.finding, *others) if name in votes)


def _why_none(near: Ballot, where: str | None) -> str | None:
    """Why nothing can be drafted from these neighbours, in a sentence."""
    everyone = [neighbour for kind in KINDS for neighbour in near.neighbours[kind]]
    if not everyone:
        filtered = "meets the filter and " if where is not None else ""
        return f"No draft: no case of the index {filtered}has findings that could vote."
    if len({n.study.report.described for n in reports_of(everyone) if n.study.report is not None}) == 0:
        return "No draft: none of the neighbours has a report to take sentences from."
    return None


def _localize(
    index: Index, picture: Picture, passed: Sequence[Vote], localizing: Localizing | None
) -> dict[str, Agreed]:
    """Where this picture shows what was voted present; what is not in the result is shown nowhere.

    A map is believed that was checked against films without the finding (a mask without reservation), and
    that turns with the picture: in the mirrored film it must lie on the other side, in the same zone. A map
    that follows the film's edges, its marker or its heart does not.
    """
    wanted = [v.finding for v in passed if v.status is Status.PRESENT and v.finding != NO_FINDING]
    if localizing is None or not wanted:
        return {}
    phrases = [spoken(name) for name in wanted]
    mirror = np.ascontiguousarray(picture.pixels[:, ::-1])
    try:
        answers = localizing(index.encoder, picture.pixels, phrases, spacing=picture.spacing)
        mirrored = localizing(index.encoder, mirror, phrases, spacing=picture.spacing)
    except EncoderError as error:  # a tower without a map of features: every side is asked
        log.info("nothing is localized: %s", error)
        return {}
    return {
        name: agreement(answer.side, answer.zone)
        for name, answer, other in zip(wanted, answers, mirrored, strict=True)
        if _believed(answer) and _believed(other) and other.side == _TURNED.get(answer.side)
        if answer.zone == other.zone
    }


_TURNED: Mapping[str | None, str] = {"left": "right", "right": "left", "both": "both"}


def _believed(answer: Localization) -> bool:
    return answer.mask is not None and answer.reason is None


def _sentences(
    index: Index,
    probe: Vector,
    near: Ballot,
    passed: Sequence[Vote],
    shown: Mapping[str, Agreed],
    subjects: Collection[str],
    where: Condition | None,
) -> list[Sentence]:
    """A sentence for each vote that has one, none saying again what another said."""
    stated = {v.finding: v.status for v in passed}
    voters = [neighbour for kind in reversed(KINDS) for neighbour in near.neighbours[kind]]
    chosen = []
    for one in passed:
        holders = nearest(
            index,
            "report",
            probe,
            _READ,
            subjects=subjects,
            where=holding(one.finding, one.status, where),
        )
        sentence = choose(one.finding, one.status, [*voters, *holders], stated, shown)
        if sentence is not None:
            chosen.append(sentence)
    return unrepeated(chosen)
