"""Diversity: maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998)."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from retrieval.needs import Search, vectors_of
from retrieval.query.feedback import Vector
from retrieval.query.query import Query
from retrieval.ranking.near_duplicates import DistinctStudy

POOL = 50
"""Studies among which diverse ones are chosen."""
BALANCE = 0.6
"""Weight of relevance; the rest is that of difference."""


def pool_size(query: Query) -> int:
    """Return how many studies a query needs before diverse ones are chosen: k where none are chosen."""
    return max(query.k, POOL) if query.diversify else query.k


def diversify(studies: Sequence[DistinctStudy], dim: int, k: int) -> Search[list[DistinctStudy]]:
    """Choose k studies that are relevant and differ in their first image and report.

    Args:
        studies: the pool.
        dim: of the vectors.
        k: how many.
    """
    points = [item.point for study in studies for item in study.stored.items if item.kind == "report"]
    reports = yield from vectors_of("report", points)
    missing = np.zeros(dim, np.float32)
    vectors: dict[str, list[Vector]] = {}
    for study in studies:
        first = {item.kind: item.point for item in reversed(study.stored.items)}  # of each kind
        vectors[study.study_id] = [
            study.image_vectors.get(first["image"], missing) if "image" in first else missing,
            reports.get(first["report"], missing) if "report" in first else missing,
        ]
    by_id = {study.study_id: study for study in studies}
    scores = {study.study_id: study.candidate.score for study in studies}
    return [by_id[study_id] for study_id in maximal_marginal_relevance(scores, vectors, k)]


def maximal_marginal_relevance(
    scores: Mapping[str, float], vectors: Mapping[str, Sequence[Vector]], k: int
) -> list[str]:
    """Choose k candidates: the best one, then each time the one of greatest marginal relevance,
    BALANCE · relevance - (1 - BALANCE) · the greatest similarity to one that is already chosen.

    Relevance and similarity are each scaled to [0, 1] over the candidates, so that neither dominates.

    Args:
        scores: candidate → score.
        vectors: candidate → (dim,) unit vectors, of an image and of a text; zeros where there is none, which
            is similar to nothing.
        k: how many.
    """
    names = sorted(scores, key=lambda name: (-scores[name], name))
    if len(names) <= 1:
        return names[:k]
    relevance = _scaled(np.array([scores[name] for name in names], dtype=np.float64))
    stacked = np.stack([np.stack(list(vectors[name])) for name in names])
    similarity = _scaled(np.einsum("aid,bid->abi", stacked, stacked, dtype=np.float64).max(axis=2))
    chosen = [0]
    nearest = similarity[0].copy()
    while len(chosen) < min(k, len(names)):
        marginal = BALANCE * relevance - (1 - BALANCE) * nearest
        marginal[chosen] = -np.inf
        best = int(np.argmax(marginal))
        chosen.append(best)
        nearest = np.maximum(nearest, similarity[best])
    return [names[number] for number in chosen]


def _scaled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = float(values.min()), float(values.max())
    return (values - low) / (high - low) if high > low else np.zeros_like(values)
