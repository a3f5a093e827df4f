"""Maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998): hits that answer and differ."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

BALANCE = 0.6
"""Of relevance, beside what is left for difference."""


def diversify(
    scores: Mapping[str, float], vectors: Mapping[str, Sequence[NDArray[np.float32]]], k: int
) -> list[str]:
    """Choose k of the candidates, the best first, then each time the one of most marginal relevance:
    BALANCE · relevance - (1 - BALANCE) · the greatest likeness to one chosen before.

    Relevance and likeness are each scaled to [0, 1] over the candidates, so that their scales do not decide.

    Args:
        scores: candidate → score.
        vectors: candidate → unit vectors, of pictures and of texts in one fixed order, (dim,) each; an empty
            place is a vector of zeros, which is like none.
        k: how many.
    """
    names = sorted(scores, key=lambda name: (-scores[name], name))
    if len(names) <= 1:
        return names[:k]
    relevance = _scaled(np.array([scores[name] for name in names], dtype=np.float64))
    held = np.stack([np.stack(list(vectors[name])) for name in names])
    likeness = np.einsum("aid,bid->abi", held, held, dtype=np.float64).max(axis=2)
    likeness = _scaled(likeness)
    chosen = [0]
    nearest = likeness[0].copy()
    while len(chosen) < min(k, len(names)):
        marginal = BALANCE * relevance - (1 - BALANCE) * nearest
        marginal[chosen] = -np.inf
        best = int(np.argmax(marginal))
        chosen.append(best)
        nearest = np.maximum(nearest, likeness[best])
    return [names[place] for place in chosen]


def _scaled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = float(values.min()), float(values.max())
    return (values - low) / (high - low) if high > low else np.zeros_like(values)
