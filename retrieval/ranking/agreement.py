"""Agreement of a study's findings with those that a query asks for, computed from the payload.

A payload holds the status of each finding, and the whole concept of those with laterality, zone or severity
(`indexer.ingest.payload`). So the candidates of a hundred thousand studies are reranked without a report
from the catalog.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from corpus.findings import VOCABULARY, Status
from corpus.language.concepts import Concept
from corpus.language.modifiers import PARENT_ZONE
from indexer.ingest.payload import listed, payload_concepts
from indexer.vectors.filters import PayloadValue
from retrieval.query.intent import Intent, covers, describe

_WRONG_SIDE, _WRONG_ZONE, _WRONG_SEVERITY = -0.8, -0.5, -0.5
"""Penalty of a side, zone or severity other than the one asked for. A finding on the wrong side is still
worth a little more than none: its sum stays above zero."""
_UNCERTAIN = 0.5
_IMPLIED = 0.7
"""Grade of a denial that is only implied: clear lungs have no atelectasis without saying so."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How the findings of a study agree with those asked for.

    Attributes:
        score: in [-1, 1]: 1 where all agree with side, zone and severity, 0 where none is mentioned, -1 where
            all are the opposite.
        agree: what the study shows in agreement, in words.
        conflict: what it shows in conflict, in words.
        excluded: whether it shows a finding that a phrase denies.
    """

    score: float
    agree: tuple[str, ...] = ()
    conflict: tuple[str, ...] = ()
    excluded: bool = False


def agreement(intent: Intent, payload: Mapping[str, PayloadValue]) -> Agreement:
    """Compare the findings asked for with those of a study.

    The score is the mean over the wished findings, the mean over the described ones, or the mean of both. A
    present finding counts (1 + its modifiers that agree) / (1 + the modifiers asked for), with a penalty for
    each modifier (side, zone, severity) that differs; an uncertain one counts half.
    """
    statuses, concepts = _findings(payload)
    agree: list[str] = []
    conflict: list[str] = []
    excluded = False
    means: list[float] = []
    for requested in filter(None, (intent.wished, intent.described)):
        grades = []
        for concept in requested:
            denied = concept.status is Status.ABSENT
            grade, shown = (_grade_denied if denied else _grade_affirmed)(concept, statuses, concepts)
            grades.append(grade)
            if grade:
                (agree if grade > 0 else conflict).append(shown)
            excluded |= denied and grade == -1.0 and requested is intent.wished
        means.append(sum(grades) / len(grades))
    score = sum(means) / len(means) if means else 0.0
    return Agreement(score, tuple(dict.fromkeys(agree)), tuple(dict.fromkeys(conflict)), excluded)


def _findings(payload: Mapping[str, PayloadValue]) -> tuple[dict[str, Status], list[Concept]]:
    return dict(map(_status, listed(payload, "finding"))), payload_concepts(payload)


@lru_cache(maxsize=1 << 10)  # the vocabulary in four statuses, read for every candidate
def _status(entry: str) -> tuple[str, Status]:
    name, _, status = entry.partition(":")
    return name, Status(status) if status else Status.PRESENT


def _grade_affirmed(
    requested: Concept, statuses: Mapping[str, Status], concepts: Sequence[Concept]
) -> tuple[float, str]:
    """Grade a finding that is to be present; with what the study shows of it, in words."""
    status = statuses.get(requested.finding)
    plain = requested.finding.replace("_", " ")
    if status is Status.ABSENT:
        return -1.0, f"no {plain}"
    if status is None:
        return 0.0, ""
    below = (requested.finding, *VOCABULARY.descendants(requested.finding))
    shown = [c for c in concepts if c.finding in below and c.status is status]
    best = max(shown or [Concept(requested.finding, status)], key=lambda c: _grade_modifiers(requested, c))
    grade, words = _grade_modifiers(requested, best), describe(best)
    return (grade, words) if status is Status.PRESENT else (grade * _UNCERTAIN, f"possible {words}")


def _grade_modifiers(requested: Concept, shown: Concept) -> float:
    """Grade side, zone and severity of a finding that is there, in (0, 1]."""
    modifiers = 0
    met = 1.0
    if requested.side is not None:
        modifiers += 1
        if shown.side is not None:
            met += 1.0 if shown.side in (requested.side, "bilateral") else _WRONG_SIDE
    if requested.zone is not None:
        modifiers += 1
        if shown.zone is not None:
            within = requested.zone in (shown.zone, PARENT_ZONE.get(shown.zone))
            met += 1.0 if within or shown.zone == PARENT_ZONE.get(requested.zone) else _WRONG_ZONE
    if requested.degree is not None:
        modifiers += 1
        if shown.degree is not None:
            met += 1.0 if shown.degree == requested.degree else _WRONG_SEVERITY
    return max(met, 0.05) / (1 + modifiers)


def _grade_denied(
    denied: Concept, statuses: Mapping[str, Status], concepts: Sequence[Concept]
) -> tuple[float, str]:
    """Grade a finding that is to be absent; with what the study shows of it, in words."""
    status = statuses.get(denied.finding)
    plain = describe(denied)
    below = (denied.finding, *VOCABULARY.descendants(denied.finding))
    shown = [c for c in concepts if c.finding in below and c.status is not Status.ABSENT]
    here = [c for c in shown if covers(denied, c)]
    anywhere = denied.side is None and denied.zone is None and denied.degree is None
    stated = any(
        c.finding == denied.finding and c.status is Status.ABSENT and covers(c, denied) for c in concepts
    )
    if status is Status.ABSENT:
        return (1.0 if stated else _IMPLIED), f"no {plain}"
    if status is Status.PRESENT:
        if anywhere or here:
            return -1.0, describe(here[0]) if here else plain
        return (1.0, f"no {plain}") if stated else (0.0, "")
    return (-_UNCERTAIN, f"possible {plain}") if status is Status.UNCERTAIN else (0.0, "")
