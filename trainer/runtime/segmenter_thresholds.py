"""From which probability a segmenter's pixel is inside: for each structure, the cut that fits its masks best.

One half is that probability only where the masks are right. Masks that are often beside a small structure
teach a network probabilities that stay below one half everywhere, and yet are highest where it lies.
"""

import numpy as np
from numpy.typing import NDArray

CUTS = np.round(np.arange(0.1, 0.91, 0.05), 2)
"""The probabilities that are tried."""
PLAIN = 0.5
"""The cut where nothing speaks for another one."""


class BestCuts:
    """Gathers how well each cut agrees with masks, a batch of pictures at a time."""

    def __init__(self, structures: int) -> None:
        shape = structures, 2, len(CUTS)
        self._agreement, self._weight = np.zeros(shape), np.zeros(shape)

    def add(
        self, probability: NDArray[np.float32], masks: NDArray[np.uint8], weights: NDArray[np.float32]
    ) -> None:
        """Hold maps against masks.

        Args:
            probability: (n, s, size, size) in [0, 1].
            masks: of the same shape, 255 inside.
            weights: (n, s), how sure each mask is; 0 where nothing is known.
        """
        inside = masks > 127
        there = inside.any(axis=(2, 3)).astype(int)
        areas = inside.sum(axis=(2, 3))
        for number, cut in enumerate(CUTS):
            drawn = probability >= cut
            both = drawn.sum(axis=(2, 3)) + areas
            shared = (drawn & inside).sum(axis=(2, 3))
            dice = np.where(both > 0, 2 * shared / np.maximum(both, 1), 1.0)
            for kind in (0, 1):
                counted = weights * (there == kind)
                self._agreement[:, kind, number] += (counted * dice).sum(axis=0)
                self._weight[:, kind, number] += counted.sum(axis=0)

    def choose(self) -> tuple[float, ...]:
        """The cut of each structure with the highest Dice; pictures with and without it weigh the same.

        Of two without a mask the Dice is 1. Among equals the one nearest to `PLAIN` is chosen.
        """
        known = self._weight > 0
        dice = np.divide(self._agreement, self._weight, out=np.zeros_like(self._agreement), where=known)
        mean = dice.sum(axis=1) / np.maximum(known.sum(axis=1), 1)
        preferred = np.argsort(np.abs(CUTS - PLAIN), kind="stable")
        return tuple(float(CUTS[preferred[int(row[preferred].argmax())]]) for row in np.round(mean, 6))
