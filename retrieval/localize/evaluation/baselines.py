"""Baselines that a localizer must beat: answers that do not search the image for the structure.

All use something true of the structure: its size on other subjects' images. The mean mask uses its position
there, too. Each is made for one image from the annotations of all other subjects, those of other splits
included: the more there are, the stronger the baseline.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from corpus.redaction import redacted
from retrieval.localize.evaluation.box_measures import box_around

Heat = NDArray[np.float32]
Mask = NDArray[np.bool_]

BASELINES = ("random", "centre_box", "brightest", "mean_mask")

GRID = 64
"""Masks of all sizes are averaged on a square of so many cells a side."""

_LEVELS = np.linspace(0.05, 0.95, 19, dtype=np.float32)  # of the mean mask, tried as thresholds
_BLUR = 0.02  # of the longer side: what counts as a region and not a bright pixel


@dataclass(frozen=True, slots=True)
class BaselineAnswer:
    """A baseline's map and mask, each (height, width) of the image it was made for."""

    heat: Heat
    mask: Mask


@redacted
@dataclass(frozen=True)
class Atlas:
    """The annotations of one structure on images of several subjects.

    `masks`: (n, GRID, GRID) float32, the share of each cell that a mask covers.
    `subjects`: the subject of each mask.
    `sides`: (n, 2) height and width of the box around each mask, as shares of the image's.
    """

    masks: NDArray[np.float32]
    subjects: tuple[str, ...]
    sides: NDArray[np.float64]

    @classmethod
    def of(cls, masks: Sequence[Mask], subjects: Sequence[str]) -> "Atlas":
        """Bring masks of any sizes onto the common grid."""
        rows = [to_grid(mask) for mask in masks]
        boxes = [(box_around(mask), mask.shape) for mask in masks]
        sides = [((b.bottom - b.top) / height, (b.right - b.left) / width) for b, (height, width) in boxes]
        stacked = np.stack(rows) if rows else np.zeros((0, GRID, GRID), np.float32)
        return cls(stacked, tuple(subjects), np.array(sides, np.float64).reshape(-1, 2))

    def answers(self, image: Heat, subject: str, random: np.random.Generator) -> dict[str, BaselineAnswer]:
        """Every baseline's answer for one image; none where the atlas has no other subject.

        Args:
            image: (height, width) in [0, 1].
            subject: of the image; masks of this subject are excluded.
            random: generator of the random baseline.
        """
        others = self._others(subject)
        if not others.any():
            return {}
        share = float(self.masks[others].mean())
        mean, threshold = self._mean_mask(others)
        likely = from_grid(mean, image.shape)
        heats = {
            "random": random.random(image.shape, dtype=np.float32),
            "centre_box": _nearness_to_centre(image.shape),
            "brightest": ndimage.gaussian_filter(image, _BLUR * max(image.shape)),
        }
        answers = {name: BaselineAnswer(heat, highest(heat, share)) for name, heat in heats.items()}
        return answers | {"mean_mask": BaselineAnswer(likely, likely >= threshold)}

    def mean_sides(self, subject: str) -> tuple[float, float]:
        """Mean height and width of the boxes around other subjects' masks, as shares of the image's."""
        height, width = self.sides[self._others(subject)].mean(axis=0)
        return float(height), float(width)

    def _others(self, subject: str) -> NDArray[np.bool_]:
        return np.array([other != subject for other in self.subjects], np.bool_)

    def _mean_mask(self, others: NDArray[np.bool_]) -> tuple[NDArray[np.float32], float]:
        """The mean of other subjects' masks, and the threshold with the best mean Dice on them."""
        flat = self._flat[others]
        mean = flat.mean(axis=0)
        levels = _LEVELS * mean.max()
        candidates = (mean[None, :] >= levels[:, None]).astype(np.float32)  # (levels, cells)
        shared = flat @ candidates.T
        areas = flat.sum(axis=1)[:, None] + candidates.sum(axis=1)[None, :]
        best = int(np.argmax((2 * shared / areas).mean(axis=0)))
        return mean.reshape(GRID, GRID), float(levels[best])

    @cached_property
    def _flat(self) -> NDArray[np.float32]:
        return self.masks.reshape(len(self.masks), -1)


def to_grid(mask: Mask) -> NDArray[np.float32]:
    """(height, width) bool → (GRID, GRID) float32, the share of each cell that is covered."""
    image = Image.fromarray(mask.astype(np.float32))
    return np.asarray(image.resize((GRID, GRID), Image.Resampling.BOX), dtype=np.float32)


def from_grid(heat: NDArray[np.float32], shape: tuple[int, ...]) -> Heat:
    """(GRID, GRID) → (height, width), linear between cell centres."""
    image = Image.fromarray(heat).resize((shape[1], shape[0]), Image.Resampling.BILINEAR)
    return np.asarray(image, dtype=np.float32)


def highest(heat: Heat, share: float) -> Mask:
    """The `share` of pixels where a map is highest, at least one; of equal ones, the first in row order."""
    count = max(1, round(share * heat.size))
    chosen = np.zeros(heat.size, np.bool_)
    chosen[np.argsort(-heat, axis=None, kind="stable")[:count]] = True
    return chosen.reshape(heat.shape)


def _nearness_to_centre(shape: tuple[int, ...]) -> Heat:
    """1 at the centre to 0 at the border, level along boxes of the image's own proportions."""
    rows, columns = (np.abs((np.arange(n, dtype=np.float32) + 0.5) * (2 / n) - 1) for n in shape[:2])
    return np.asarray(1 - np.maximum(rows[:, None], columns[None, :]), dtype=np.float32)
