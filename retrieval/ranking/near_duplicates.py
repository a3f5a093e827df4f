"""Near-duplicate removal: of studies with the same image or the same report only the best one is a hit."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import numpy as np

from corpus.redaction import redacted
from indexer.catalog.studies import StoredItem, StoredStudy
from retrieval.needs import Search, studies_of, vectors_of
from retrieval.query.feedback import Vector
from retrieval.query.query import Target
from retrieval.ranking.rerank import Reranked

NEAR = 0.9995
"""Least cosine of two images that may be one: in another file format, of another size."""
APART = 0.05
"""Greatest distance of two such images, as a share of the spread of the candidates. An encoder may map all
radiographs into a narrow cone, where a cosine alone says little."""
_FEWEST_IMAGES = 8  # that a spread is estimated from
_MOST_IMAGES = 2_000  # that are compared in pairs; an answer of more is an export

ImageVectors = Mapping[UUID, Vector]


@redacted
@dataclass(frozen=True, slots=True)
class NearDuplicate:
    """A study that is represented by another one.

    Attributes:
        study: the study.
        item_id: its image or report that equals one of the other study.
        score: cosine of the two items; 1 where their content is equal.
    """

    study: StoredStudy
    item_id: str
    score: float


@redacted
@dataclass(frozen=True, slots=True, eq=False)
class DistinctStudy:
    """A study that represents its near-duplicates.

    Attributes:
        candidate: its place among the candidates and its score.
        stored: the study as the catalog stores it.
        duplicates: the studies that it represents, best first.
        image_vectors: point → vector of its images, where images are compared.
    """

    candidate: Reranked
    stored: StoredStudy
    duplicates: tuple[NearDuplicate, ...]
    image_vectors: ImageVectors

    @property
    def study_id(self) -> str:
        """The study's key in the store."""
        return self.candidate.study.study_id


@redacted
@dataclass(frozen=True, slots=True)
class Distinct:
    """Studies without near-duplicates.

    Attributes:
        studies: best first.
        of_subjects: the studies of the subjects that were asked for, newest first.
        stamp: of the state that the catalog was read in.
    """

    studies: list[DistinctStudy]
    of_subjects: tuple[StoredStudy, ...]
    stamp: str


def remove_near_duplicates(
    ranked: Sequence[Reranked], target: Target, count: int, subjects: Collection[str] = ()
) -> Search[Distinct]:
    """Find the `count` best candidates that are no near-duplicates of better ones.

    A window of the best candidates is read, and doubled until it holds enough.

    Args:
        ranked: candidates, best first.
        target: what is searched for; with `reports` their text is compared, else images where there are any.
        count: how many studies; fewer where there are no more.
        subjects: of whom all studies are read in the same statement.
    """
    window = count + count // 2
    while True:
        candidates = ranked[:window]
        found = yield from studies_of([candidate.study.study_id for candidate in candidates], subjects)
        stored = found.by_key
        # A study that was removed while this search ran is no hit.
        present = [
            (candidate, stored[candidate.study.study_id])
            for candidate in candidates
            if candidate.study.study_id in stored
        ]
        images = [item.point for study in stored.values() for item in study.items if item.kind == "image"]
        vectors = yield from vectors_of("image", images if target != "reports" else ())
        distinct = group_near_duplicates(present, target, vectors)
        if len(distinct) >= count or window >= len(ranked):
            return Distinct(distinct[:count], found.of_subjects, found.stamp)
        window *= 2


def group_near_duplicates(
    candidates: Sequence[tuple[Reranked, StoredStudy]], target: Target, vectors: ImageVectors
) -> list[DistinctStudy]:
    """Group candidates with their near-duplicates, each group represented by its best one.

    Args:
        candidates: candidates as they are stored, best first.
        target: `images` compares images and `reports` reports; `cases` compares images, and reports of
            studies without one.
        vectors: point → vector of the images that are compared by more than equality.
    """
    near = _near_images(vectors)
    representatives: list[tuple[Reranked, StoredStudy, list[NearDuplicate]]] = []
    by_content: dict[tuple[str, str], int] = {}
    by_point: dict[UUID, int] = {}
    for candidate, study in candidates:
        items = _compared_items(study, target)
        match = _find_match(study, items, by_content, by_point, near)
        if match is not None:
            group, duplicate = match
            representatives[group][2].append(duplicate)
            continue
        for item in items:
            by_content.setdefault((item.kind, item.content), len(representatives))
            by_point[item.point] = len(representatives)
        representatives.append((candidate, study, []))
    return [
        DistinctStudy(
            candidate,
            study,
            tuple(duplicates),
            {item.point: vectors[item.point] for item in study.items if item.point in vectors},
        )
        for candidate, study, duplicates in representatives
    ]


def _find_match(
    study: StoredStudy,
    items: Sequence[StoredItem],
    by_content: Mapping[tuple[str, str], int],
    by_point: Mapping[UUID, int],
    near: Mapping[UUID, Mapping[UUID, float]],
) -> tuple[int, NearDuplicate] | None:
    """The group that a study belongs to: by equal content, else by a near image."""
    for item in items:
        group = by_content.get((item.kind, item.content))
        if group is not None:
            return group, NearDuplicate(study, item.item_id, 1.0)
    for item in items:
        for point, cosine in near.get(item.point, {}).items():
            if point in by_point:
                return by_point[point], NearDuplicate(study, item.item_id, min(cosine, 1.0))
    return None


def _near_images(vectors: ImageVectors) -> dict[UUID, dict[UUID, float]]:
    """Image → the images that may be the same one, with their cosine."""
    points = list(vectors)
    if not _FEWEST_IMAGES <= len(points) <= _MOST_IMAGES:
        return {}
    stacked = np.stack([vectors[point] for point in points])
    spread = float(np.sqrt(((stacked - stacked.mean(axis=0)) ** 2).sum(axis=1).mean()))
    cosines = stacked @ stacked.T
    # |a - b|² = 2 - 2·cos of unit vectors
    threshold = max(NEAR, 1.0 - (APART * spread) ** 2 / 2)
    near: dict[UUID, dict[UUID, float]] = {}
    for one, other in zip(*np.nonzero(np.triu(cosines >= threshold, 1)), strict=True):
        cosine = float(cosines[one, other])
        near.setdefault(points[one], {})[points[other]] = cosine
        near.setdefault(points[other], {})[points[one]] = cosine
    return near


def _compared_items(study: StoredStudy, target: Target) -> list[StoredItem]:
    images = [item for item in study.items if item.kind == "image"]
    reports = [item for item in study.items if item.kind == "report"]
    if target == "images":
        return images
    return reports if target == "reports" or not images else images
