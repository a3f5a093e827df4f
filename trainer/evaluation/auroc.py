"""The area under the receiver operating characteristic, of many bootstrap draws at once."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_WEIGHTS_AT_ONCE = 4_000_000  # 32 MB of weights at a time


def auroc(
    scores: NDArray[Any], positive: NDArray[np.bool_], weights: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """The area under the receiver operating characteristic, as a rank statistic.

    It is the probability that a positive item scores above a negative one, a tie counting half (Hanley and
    McNeil, 1982).

    Args:
        scores: (n,), higher for positive.
        positive: (n,) bool.
        weights: (D, n) weight of each item in each draw; None: all 1 (D = 1).

    Returns:
        (D,) in [0, 1]; NaN where the positive or the negative items have no weight.

    Raises:
        ValueError: a score is NaN.
    """
    if np.isnan(scores).any():
        raise ValueError("a score is NaN: no order can be read from it")
    weights = np.ones((1, len(scores))) if weights is None else weights
    if not len(scores):
        return np.full(len(weights), np.nan)
    order = np.argsort(scores, kind="stable")
    ranked = scores[order]
    levels = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))  # start of each tie
    block = max(1, _WEIGHTS_AT_ONCE // len(scores))
    areas = np.empty(len(weights))
    for start in range(0, len(weights), block):
        drawn = weights[start : start + block][:, order]
        positives = np.add.reduceat(drawn * positive[order], levels, axis=1)
        negatives = np.add.reduceat(drawn * ~positive[order], levels, axis=1)
        won = (positives * (np.cumsum(negatives, axis=1) - negatives / 2)).sum(axis=1)
        pairs = positives.sum(axis=1) * negatives.sum(axis=1)
        areas[start : start + block] = np.divide(won, pairs, out=np.full_like(won, np.nan), where=pairs > 0)
    return areas
