"""How far the findings of a study are those that were asked for, from what stands beside its vectors.

A study's payload holds the status of each finding, and for those that its report places or grades the whole
concept (`indexer.ingest.payload`). So a search of a hundred thousand studies judges its candidates without
asking the catalog for a single report.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from corpus.findings import VOCABULARY, Status
from corpus.language.concepts import Concept
from corpus.language.modifiers import WITHIN
from indexer.ingest.payload import listed, told_concepts
from indexer.vectors.filters import PayloadValue
from retrieval.query.intent import Asked, covers, describe

_WRONG_SIDE, _WRONG_ZONE, _WRONG_DEGREE = -0.8, -0.5, -0.5
"""What a place or degree takes away that is another than the one asked for. A finding on the wrong side is
still worth a little more than none: its sum stays above zero."""
_DOUBTED = 0.5
_IMPLIED = 0.7
"""Of a denial that is only implied: clear lungs have no atelectasis, and do not say so."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How a study meets what was asked.

    `score` in [-1, 1]: 1 says all of it in its place and degree, 0 says nothing of it, -1 the opposite.
    `agree` and `conflict` name what it says, in words. `excluded`: it shows what was to be absent.
    """

    score: float
    agree: tuple[str, ...] = ()
    conflict: tuple[str, ...] = ()
    excluded: bool = False


def agreement(asked: Asked, payload: Mapping[str, PayloadValue]) -> Agreement:
    """Compare what was asked with a study's findings.

    The score is the mean over what was wished, the mean over what was described, or half of each. A present
    finding counts (1 + the parts of its place and degree that agree) / (1 + the parts asked for), and a part
    that differs takes away from it; an uncertain one counts half.
    """
    statuses, placed = _findings(payload)
    agree: list[str] = []
    conflict: list[str] = []
    excluded = False
    means: list[float] = []
    for concepts in filter(None, (asked.wished, asked.described)):
        grades = []
        for concept in concepts:
            denied = concept.status is Status.ABSENT
            grade, said = (_denied if denied else _shown)(concept, statuses, placed)
            grades.append(grade)
            if grade:
                (agree if grade > 0 else conflict).append(said)
            excluded |= denied and grade == -1.0 and concepts is asked.wished
        means.append(sum(grades) / len(grades))
    score = sum(means) / len(means) if means else 0.0
    return Agreement(score, tuple(dict.fromkeys(agree)), tuple(dict.fromkeys(conflict)), excluded)


def _findings(payload: Mapping[str, PayloadValue]) -> tuple[dict[str, Status], list[Concept]]:
    return dict(map(_status, listed(payload, "finding"))), told_concepts(payload)


@lru_cache(maxsize=1 << 10)  # the vocabulary in four statuses, read for every candidate
def _status(entry: str) -> tuple[str, Status]:
    name, _, status = entry.partition(":")
    return name, Status(status) if status else Status.PRESENT


def _shown(asked: Concept, statuses: Mapping[str, Status], placed: Sequence[Concept]) -> tuple[float, str]:
    """Grade a finding that is asked for, and say what the study says of it."""
    status = statuses.get(asked.finding)
    plain = asked.finding.replace("_", " ")
    if status is Status.ABSENT:
        return -1.0, f"no {plain}"
    if status is None:
        return 0.0, ""
    below = descendants(asked.finding)
    said = [c for c in placed if c.finding in below and c.status is status]
    best = max(said or [Concept(asked.finding, status)], key=lambda concept: _grade(asked, concept))
    grade, told = _grade(asked, best), describe(best)
    return (grade, told) if status is Status.PRESENT else (grade * _DOUBTED, f"possible {told}")


def _grade(asked: Concept, said: Concept) -> float:
    parts = 0
    met = 1.0
    if asked.side is not None:
        parts += 1
        if said.side is not None:
            met += 1.0 if said.side in (asked.side, "bilateral") else _WRONG_SIDE
    if asked.zone is not None:
        parts += 1
        if said.zone is not None:
            same = asked.zone in (said.zone, WITHIN.get(said.zone)) or said.zone == WITHIN.get(asked.zone)
            met += 1.0 if same else _WRONG_ZONE
    if asked.degree is not None:
        parts += 1
        if said.degree is not None:
            met += 1.0 if said.degree == asked.degree else _WRONG_DEGREE
    return max(met, 0.05) / (1 + parts)


def _denied(asked: Concept, statuses: Mapping[str, Status], placed: Sequence[Concept]) -> tuple[float, str]:
    """Grade a finding that is to be absent, and say what the study says of it."""
    status = statuses.get(asked.finding)
    plain = describe(asked)
    below = descendants(asked.finding)
    shown = [c for c in placed if c.finding in below and c.status is not Status.ABSENT]
    here = [c for c in shown if covers(asked, c)]
    somewhere = asked.side is None and asked.zone is None and asked.degree is None
    stated = any(
        c.finding == asked.finding and c.status is Status.ABSENT and covers(c, asked) for c in placed
    )
    if status is Status.ABSENT:
        return (1.0 if stated else _IMPLIED), f"no {plain}"
    if status is Status.PRESENT:
        if somewhere or here:
            return -1.0, describe(here[0]) if here else plain
        return (1.0, f"no {plain}") if stated else (0.0, "")
    return (-_DOUBTED, f"possible {plain}") if status is Status.UNCERTAIN else (0.0, "")


@lru_cache(maxsize=256)
def descendants(finding: str) -> frozenset[str]:
    """A finding and all below it in the vocabulary's tree."""
    found = {finding}
    for child in VOCABULARY.children(finding):
        found |= descendants(child)
    return frozenset(found)
