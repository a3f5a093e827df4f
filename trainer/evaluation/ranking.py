"""Rankings of the gallery for queries, with ties, excluded pairs and short galleries.

Shapes: Q queries, G gallery items, K ranks.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

DEPTH = 10
"""The ranks that metrics use."""

BLOCK = 256
"""Queries ranked at a time: 256 × 100,000 gallery items are 100 MB."""

Ranking = NDArray[np.int64]
"""(Q, K) gallery indices, best first; −1 where there are fewer than K hits."""

Pairs = NDArray[np.int64]
"""(P, 2) rows of (query index, gallery index)."""


def no_pairs() -> Pairs:
    """An empty set of pairs."""
    return np.empty((0, 2), dtype=np.int64)


def rank(similarity: NDArray[Any], excluded: Pairs | None = None, depth: int = DEPTH) -> Ranking:
    """Rank the gallery for each query.

    Args:
        similarity: (Q, G), higher is more similar. Ties go to the earlier gallery item.
        excluded: pairs that are no hits.
        depth: number of ranks K.

    Returns:
        (Q, depth) gallery indices, −1 after the last hit.

    Raises:
        ValueError: a similarity is NaN and has no order.
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
    filled = min(depth, size)
    if filled == 0 or rows == 0:
        return ranking
    # All items above the k-th score are hits; of those equal to it, the earlier ones.
    threshold = np.partition(scores, size - filled, axis=1)[:, size - filled, None]
    above, level = scores > threshold, scores == threshold
    chosen = above | (level & (np.cumsum(level, axis=1) <= filled - above.sum(axis=1, keepdims=True)))
    index = np.nonzero(chosen)[1].reshape(rows, filled)
    order = np.argsort(np.negative(np.take_along_axis(scores, index, axis=1)), axis=1, kind="stable")
    index = np.take_along_axis(index, order, axis=1)
    is_hit = np.isfinite(np.take_along_axis(scores, index, axis=1))
    ranking[:, :filled] = np.where(is_hit, index, -1)
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
    """The pairs of the queries of one block, with query indices counted from its first query."""
    inside = (pairs[:, 0] >= start) & (pairs[:, 0] < start + BLOCK)
    within: Pairs = pairs[inside] - np.array([start, 0])
    return within
