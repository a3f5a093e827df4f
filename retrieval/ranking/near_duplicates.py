"""Near-duplicates: the same film sent twice, the same report written twice. One stands for all of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from corpus.redaction import redacted
from retrieval.lookup import Item, Known
from retrieval.query.query import Target

NEAR = 0.9995
"""Cosine from which on two pictures may be one: another file format, another size."""
APART = 0.05
"""How far apart, of the spread among the candidates, two pictures may then be. An encoder may hold all films
within a narrow cone, where a cosine alone says little."""
_SPREAD_OF = 8  # pictures that a spread is told from
_MOST_PAIRED = 2_000  # pictures compared each with each; an answer of more is an export

Vectors = Mapping[UUID, NDArray[np.float32]]


@redacted
@dataclass(frozen=True, slots=True)
class Twin:
    """A study that another stands for: its own item, and its cosine with the other's (1: equal)."""

    known: Known
    item_id: str
    score: float


def fold(studies: Sequence[Known], target: Target, vectors: Vectors) -> list[tuple[Known, tuple[Twin, ...]]]:
    """Leave of studies that show or say the same only the first, with the others as its twins.

    Images are compared for `images`, reports for `reports`; cases are the same where their images are, or,
    without one on both sides, their reports.

    Args:
        studies: best first.
        target: what is searched for.
        vectors: point → picture vector, of those pictures that are to be compared by more than equality.
    """
    near = _near_pairs(vectors)
    kept: list[tuple[Known, list[Twin]]] = []
    by_content: dict[tuple[str, str], int] = {}
    by_point: dict[UUID, int] = {}
    for known in studies:
        items = _compared(known, target)
        place, twin = _find(known, items, by_content, by_point, near)
        if twin is not None:
            kept[place][1].append(twin)
            continue
        for item in items:
            by_content.setdefault((item.kind, item.content), len(kept))
            by_point[item.point] = len(kept)
        kept.append((known, []))
    return [(known, tuple(twins)) for known, twins in kept]


def _find(
    known: Known,
    items: Sequence[Item],
    by_content: Mapping[tuple[str, str], int],
    by_point: Mapping[UUID, int],
    near: Mapping[UUID, Mapping[UUID, float]],
) -> tuple[int, Twin | None]:
    for item in items:
        place = by_content.get((item.kind, item.content))
        if place is not None:
            return place, Twin(known, item.item_id, 1.0)
    for item in items:
        for point, cosine in near.get(item.point, {}).items():
            if point in by_point:
                return by_point[point], Twin(known, item.item_id, min(cosine, 1.0))
    return 0, None


def _near_pairs(vectors: Vectors) -> dict[UUID, dict[UUID, float]]:
    """Picture → those that may be the same picture, with their cosine."""
    points = list(vectors)
    if not _SPREAD_OF <= len(points) <= _MOST_PAIRED:
        return {}
    held = np.stack([vectors[point] for point in points])
    spread = float(np.sqrt(((held - held.mean(axis=0)) ** 2).sum(axis=1).mean()))
    cosines = held @ held.T
    # |a - b|² = 2 - 2·cos of unit vectors
    least = max(NEAR, 1.0 - (APART * spread) ** 2 / 2)
    near: dict[UUID, dict[UUID, float]] = {}
    for one, other in zip(*np.nonzero(np.triu(cosines >= least, 1)), strict=True):
        cosine = float(cosines[one, other])
        near.setdefault(points[one], {})[points[other]] = cosine
        near.setdefault(points[other], {})[points[one]] = cosine
    return near


def _compared(known: Known, target: Target) -> list[Item]:
    images = [item for item in known.items if item.kind == "image"]
    reports = [item for item in known.items if item.kind == "report"]
    if target == "images":
        return images
    return reports if target == "reports" or not images else images
