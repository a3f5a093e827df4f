"""Answers as gallery positions, best first: ties, excluded pairs and short galleries in one place.

Shapes: Q queries, G gallery items, K places of an answer.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

DEPTH = 10
"""How many places of an answer any metric looks at."""

BLOCK = 256
"""Queries that are ranked at a time: 256 × 100,000 gallery items are 100 MB."""

Ranking = NDArray[np.int64]
"""(Q, K) gallery indices, best first; −1 where an answer has fewer than K hits."""

Pairs = NDArray[np.int64]
"""(P, 2) rows of (query index, gallery index)."""


def no_pairs() -> Pairs:
    """Return an empty set of pairs."""
    return np.empty((0, 2), dtype=np.int64)


def rank(similarity: NDArray[Any], excluded: Pairs | None = None, depth: int = DEPTH) -> Ranking:
    """Rank the gallery for each query.

    Args:
        similarity: (Q, G), higher is more alike. Ties go to the earlier gallery item.
        excluded: pairs that may not be answered.
        depth: how many places to fill.

    Returns:
        (Q, depth) gallery indices, −1 where the gallery has no more to give.

    Raises:
        ValueError: a similarity is NaN: no order can be read from it.
    """
    scores: NDArray[Any] = np.array(
        similarity, dtype=np.float32 if similarity.dtype == np.float32 else np.float64
    )
    if np.isnan(scores).any():
        raise ValueError("a similarity is NaN: no order can be read from it")
    if excluded is not None and len(excluded):
        scores[excluded[:, 0], excluded[:, 1]] = -np.inf
    rows, size = scores.shape
    ranking = np.full((rows, depth), -1, dtype=np.int64)
    kept = min(depth, size)
    if kept == 0 or rows == 0:
        return ranking
    # Everything above the k-th score is in; among those equal to it the earlier items are.
    threshold = np.partition(scores, size - kept, axis=1)[:, size - kept, None]
    above, level = scores > threshold, scores == threshold
    chosen = above | (level & (np.cumsum(level, axis=1) <= kept - above.sum(axis=1, keepdims=True)))
    index = np.nonzero(chosen)[1].reshape(rows, kept)
    order = np.argsort(np.negative(np.take_along_axis(scores, index, axis=1)), axis=1, kind="stable")
    index = np.take_along_axis(index, order, axis=1)
    answered = np.isfinite(np.take_along_axis(scores, index, axis=1))
    ranking[:, :kept] = np.where(answered, index, -1)
    return ranking


def rank_vectors(
    queries: NDArray[Any], gallery: NDArray[Any], excluded: Pairs | None = None, depth: int = DEPTH
) -> Ranking:
    """Rank by the dot product of vectors, (Q, dim) against (G, dim), a block of queries at a time."""
    excluded = no_pairs() if excluded is None else excluded
    blocks = [
        rank(queries[start : start + BLOCK] @ gallery.T, pairs_of_block(excluded, start), depth)
        for start in range(0, len(queries), BLOCK)
    ]
    return np.concatenate(blocks) if blocks else np.empty((0, depth), dtype=np.int64)


def pairs_of_block(pairs: Pairs, start: int) -> Pairs:
    """Return the pairs of the queries of one block, counted from its first query."""
    inside = (pairs[:, 0] >= start) & (pairs[:, 0] < start + BLOCK)
    within: Pairs = pairs[inside] - np.array([start, 0])
    return within
