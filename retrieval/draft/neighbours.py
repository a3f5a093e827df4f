"""The neighbours of an image that vote on its draft: the nearest images and reports with known findings."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from corpus.findings import Status
from corpus.records import Study
from corpus.redaction import redacted
from indexer.index import Index
from indexer.vectors.filters import And, Comparison, Condition
from retrieval.query.filters import conjunction, excluding

Kind = Literal["image", "report"]
KINDS: tuple[Kind, ...] = ("image", "report")
VOTERS = 20
"""Neighbours of each kind that vote, by default."""
_FLATTENING = 10.0
"""The flatness of the weights. They depend on ranks, not on cosines: cosines of images and of reports are on
two scales."""


@redacted
@dataclass(frozen=True, slots=True)
class Neighbour:
    """A study near the image.

    `kind`: by its image or by its report.
    `cosine`: in [-1, 1].
    """

    study: Study
    kind: Kind
    cosine: float

    def status(self, finding: str) -> Status:
        """The study's status of a finding."""
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
    """The nearest studies of a kind with known findings, best first; none where there are no such items.

    Args:
        index: the index.
        kind: by their images or by their reports.
        vector: (dim,) float32 unit, of the image.
        count: of neighbours.
        subjects: subject_ids to exclude: the image's own.
        where: only studies that meet this.
    """
    collection = index.collection(kind)
    if collection not in index.store.collections():
        return []
    condition = conjunction((where, excluding(index.home, "subject", subjects)))
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


def finding_condition(finding: str, status: Status, where: Condition | None) -> Condition:
    """The condition that a finding is present (or absent), joined with another condition."""
    value = finding if status is Status.PRESENT else f"{finding}:{status}"
    has_finding = Comparison("finding", "=", value)
    return has_finding if where is None else And((where, has_finding))


def weights(count: int) -> NDArray[np.float64]:
    """The weight of each rank, falling with the rank and summing to 1, (count,)."""
    raw = 1.0 / (np.arange(count) + _FLATTENING)
    return np.asarray(raw / raw.sum()) if count else np.zeros(0)


def shares(neighbours: Collection[Neighbour], status: Status, names: Collection[str]) -> dict[str, float]:
    """The weighted share of neighbours, in order, that give each finding this status."""
    weighed = list(zip(neighbours, weights(len(neighbours)), strict=True))
    return {name: float(sum(w for n, w in weighed if n.status(name) is status)) for name in names}


def agreeing(neighbours: Collection[Neighbour], status: Status, name: str) -> int:
    """The number of neighbours that give the finding this status."""
    return sum(neighbour.status(name) is status for neighbour in neighbours)


def reports_of(neighbours: Collection[Neighbour]) -> Iterator[Neighbour]:
    """The neighbours with a report, each study once, in order."""
    seen: set[str] = set()
    for neighbour in neighbours:
        if neighbour.study.report is not None and neighbour.study.study_id not in seen:
            seen.add(neighbour.study.study_id)
            yield neighbour
