"""How well a map and a mask show where a structure is: pointing game, IoU, Dice, surface distance.

Masks are (height, width) bool of one picture. Each measure is of one picture and structure and lies in
[0, 1], higher is better; `retrieval.localize.evaluation.intervals` adds them up over people.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from retrieval.localize.mask_location import side_of

Mask = NDArray[np.bool_]
Heat = NDArray[np.float32]

TOLERANCE = 0.02
"""Share of a picture's longer side by which a place may be off: 7.6 mm on a film of 380 mm, 5 px of 256."""


@dataclass(frozen=True, slots=True)
class Scores:
    """One answer beside the truth.

    `pointing`: whether the map's maximum lies in the structure. `iou`, `dice`, `nsd` of the mask, all 0 where
    none was given. `masked`: whether one was given. `side_right`: whether the mask's side (the patient's) is
    the structure's, by the rule that answers are given by (`whereabouts.side_of`); None where no mask was
    given or the structure lies on both sides.
    """

    pointing: float
    iou: float
    dice: float
    nsd: float
    masked: bool
    side_right: bool | None


def tolerance_in_pixels(shape: tuple[int, ...]) -> float:
    """`TOLERANCE` for a picture of this (height, width)."""
    return TOLERANCE * max(shape)


_FEW = 16  # maxima from which one distance map costs less than a search from each


def score(heat: Heat, mask: Mask | None, truth: Mask) -> Scores:
    """Score one answer.

    Args:
        heat: (height, width) map, higher where the structure is more likely; finite.
        mask: (height, width), or None where no mask was given.
        truth: (height, width), not empty.

    Raises:
        ValueError: shapes differ, the truth is empty, or the map holds a value that is not finite.
    """
    _require_shape(heat, truth)
    if not truth.any():
        raise ValueError("an empty mask has no place to be found")
    if not np.isfinite(heat).all():
        raise ValueError("the map holds values that are not finite")
    tolerance = tolerance_in_pixels(truth.shape)
    pointing = pointing_game(heat, truth, tolerance)
    if mask is None:
        return Scores(pointing, 0.0, 0.0, 0.0, False, None)
    true_side = side_of(truth)
    side = side_of(mask) if mask.any() else None
    return Scores(
        pointing,
        iou(mask, truth),
        dice(mask, truth),
        surface_dice(mask, truth, tolerance),
        True,
        None if true_side == "both" else side == true_side,
    )


def pointing_game(heat: Heat, truth: Mask, tolerance: float = 0.0) -> float:
    """Whether the map's maximum lies in the structure (Zhang et al. 2016, arXiv 1608.00507).

    Args:
        heat: (height, width).
        truth: (height, width), not empty.
        tolerance: pixels by which the maximum may lie outside.

    Returns:
        0 or 1; the share of hits among equal maxima, so that a map without a peak gains nothing by order.
    """
    _require_shape(heat, truth)
    highest = np.argwhere(heat == heat.max())
    if len(highest) > _FEW:
        away = ndimage.distance_transform_edt(~truth)[tuple(highest.T)]
    else:
        inside = np.argwhere(truth)
        away = np.array([np.sqrt(((inside - place) ** 2).sum(axis=1).min()) for place in highest])
    return float((away <= tolerance).mean())


def iou(mask: Mask, truth: Mask) -> float:
    """Intersection over union; two empty masks agree."""
    _require_shape(mask, truth)
    union = int(np.count_nonzero(mask | truth))
    return int(np.count_nonzero(mask & truth)) / union if union else 1.0


def dice(mask: Mask, truth: Mask) -> float:
    """Twice the intersection over the sum of areas; two empty masks agree."""
    _require_shape(mask, truth)
    areas = int(np.count_nonzero(mask)) + int(np.count_nonzero(truth))
    return 2 * int(np.count_nonzero(mask & truth)) / areas if areas else 1.0


def surface_dice(mask: Mask, truth: Mask, tolerance: float) -> float:
    """Normalised surface distance: the share of both borders that lies within `tolerance` of the other.

    After Nikolov et al. 2018 (arXiv 1809.04430), on pixels: a mask's border are its pixels with one of
    their four neighbours outside it or outside the picture; a distance is between pixel centres.

    Args:
        mask, truth: (height, width).
        tolerance: pixels, ≥ 0.

    Returns:
        A share in [0, 1]; two empty masks agree, and an empty one agrees with no other.
    """
    _require_shape(mask, truth)
    borders = border(mask), border(truth)
    total = sum(int(np.count_nonzero(one)) for one in borders)
    if not total:
        return 1.0
    if not (borders[0].any() and borders[1].any()):
        return 0.0
    both = borders[0] | borders[1]
    (rows,), (columns,) = (np.nonzero(both.any(axis=axis)) for axis in (1, 0))
    around = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    near = 0
    for one, other in (borders, borders[::-1]):
        away = ndimage.distance_transform_edt(~other[around])
        near += int(np.count_nonzero(away[one[around]] <= tolerance))
    return near / total


def border(mask: Mask) -> Mask:
    """The pixels of a mask that touch, by a side, what is not in it; beyond the picture counts as outside."""
    inner: Mask = ndimage.binary_erosion(mask)
    return mask & ~inner


def _require_shape(one: NDArray[np.generic], other: NDArray[np.generic]) -> None:
    if one.shape != other.shape:
        raise ValueError(f"a map or mask of {one.shape} beside a truth of {other.shape}")
