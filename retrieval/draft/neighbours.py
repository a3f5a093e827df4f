"""The films and the reports nearest to a picture, with what is known of each: who votes on its draft."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from corpus.findings import Status
from corpus.records import Study
from corpus.redaction import redacted
from indexer.index import Index
from indexer.vectors.filters import And, Comparison, Condition, Not

Kind = Literal["image", "report"]
KINDS: tuple[Kind, ...] = ("image", "report")
VOTERS = 20
"""Neighbours of each kind that vote, unless the reader asks for another number."""


@redacted
@dataclass(frozen=True, slots=True)
class Neighbour:
    """A study near the picture. `kind`: by its film or by its report. `cosine`: in [-1, 1]."""

    study: Study
    kind: Kind
    cosine: float

    def says(self, finding: str) -> Status:
        """What is known of a finding there."""
        return self.study.findings.get(finding, Status.UNMENTIONED)


def nearest(
    index: Index,
    kind: Kind,
    vector: NDArray[np.float32],
    count: int = VOTERS,
    *,
    subjects: Collection[str] = (),
    where: Condition | None = None,
) -> list[Neighbour]:
    """The nearest studies of a kind that something is known of, best first; none where there are no such
    items.

    Args:
        index: the index.
        kind: by their films or by their reports.
        vector: (dim,) float32 unit, of the picture.
        count: how many.
        subjects: subject_ids whose studies are no neighbours: the picture's own.
        where: only studies that meet this.
    """
    collection = index.collection(kind)
    if collection not in index.store.collections():
        return []
    condition = _but(index, where, subjects)
    limit = count + count // 2
    while True:
        hits = index.store.search(collection, vector, limit, condition)
        studies = index.catalog.studies_by_key(str(hit.payload["study"]) for hit in hits)
        found: dict[str, Neighbour] = {}
        for hit in hits:
            study = studies.get(str(hit.payload["study"]))
            if study is not None and study.findings:
                found.setdefault(study.study_id, Neighbour(study, kind, hit.score))
        if len(found) >= count or len(hits) < limit:
            return list(found.values())[:count]
        limit *= 2


def holding(finding: str, status: Status, where: Condition | None) -> Condition:
    """The condition that a finding is present (or absent), and what else is asked."""
    value = finding if status is Status.PRESENT else f"{finding}:{status}"
    held = Comparison("finding", "=", value)
    return held if where is None else And((where, held))


def _but(index: Index, where: Condition | None, subjects: Collection[str]) -> Condition | None:
    if not subjects:
        return where
    keys = tuple(sorted(index.home.keyed("subject", subject) for subject in subjects))
    others = Not(Comparison("subject", "in", keys))
    return others if where is None else And((where, others))


def weights(count: int) -> NDArray[np.float64]:
    """The weight of each place, falling with the place and summing to 1, (count,)."""
    raw = 1.0 / (np.arange(count) + _FLATTENING)
    return np.asarray(raw / raw.sum()) if count else np.zeros(0)


_FLATTENING = 10.0
"""How flat the weights are. Ranks are weighed, not cosines: those of films and of reports are on two
scales.
"""


def shares(neighbours: Collection[Neighbour], status: Status, names: Collection[str]) -> dict[str, float]:
    """The weighted share of neighbours, in order, that give each finding this status."""
    weighed = list(zip(neighbours, weights(len(neighbours)), strict=True))
    return {name: float(sum(w for n, w in weighed if n.says(name) is status)) for name in names}


def agreeing(neighbours: Collection[Neighbour], status: Status, name: str) -> int:
    """How many neighbours give the finding this status."""
    return sum(neighbour.says(name) is status for neighbour in neighbours)


def reports_of(neighbours: Collection[Neighbour]) -> Iterator[Neighbour]:
    """Those that have a report, each study once, in order."""
    seen: set[str] = set()
    for neighbour in neighbours:
        if neighbour.study.report is not None and neighbour.study.study_id not in seen:
            seen.add(neighbour.study.study_id)
            yield neighbour
