"""The area under the receiver operating characteristic, of many bootstrap draws at once."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_WEIGHTS_AT_ONCE = 4_000_000  # 32 MB of weights at a time


def auroc(
    scores: NDArray[Any], positive: NDArray[np.bool_], weights: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Return the area under the receiver operating characteristic, as the rank statistic it is.

    The probability that a positive item scores above a negative one, a tie counting half (Hanley and McNeil,
    1982).

    Args:
        scores: (n,), higher speaks for positive.
        positive: (n,) which items are.
        weights: (D, n) how often each item counts; None counts each once (D = 1).

    Returns:
        (D,) in [0, 1]; NaN where either side has no weight.

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
    ties = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))  # where each level begins
    block = max(1, _WEIGHTS_AT_ONCE // len(scores))
    areas = np.empty(len(weights))
    for start in range(0, len(weights), block):
        drawn = weights[start : start + block][:, order]
        for_it = np.add.reduceat(drawn * positive[order], ties, axis=1)
        against = np.add.reduceat(drawn * ~positive[order], ties, axis=1)
        won = (for_it * (np.cumsum(against, axis=1) - against / 2)).sum(axis=1)
        pairs = for_it.sum(axis=1) * against.sum(axis=1)
        areas[start : start + block] = np.divide(won, pairs, out=np.full_like(won, np.nan), where=pairs > 0)
    return areas
