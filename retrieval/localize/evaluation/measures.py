"""Measures of a map and a mask against an annotation: pointing game, IoU, Dice, normalised surface distance.

Masks are (height, width) bool of one image. Each measure is of one image and structure and lies in [0, 1],
higher is better; `retrieval.localize.evaluation.intervals` averages them over subjects.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from retrieval.localize.mask_location import laterality_of

Mask = NDArray[np.bool_]
Heat = NDArray[np.float32]

TOLERANCE = 0.02
"""Tolerance as a share of the image's longer side: 7.6 mm on a radiograph of 380 mm, 5 px of 256."""


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of one answer against the ground truth.

    `pointing`: whether the map's maximum lies in the structure.
    `iou`, `dice`, `nsd`: of the mask; all 0 where none was returned.
    `masked`: whether a mask was returned.
    `side_right`: whether the mask's laterality is the structure's, by the rule of the answers
    (`retrieval.localize.mask_location.laterality_of`); None where no mask was returned or the structure lies
    on both sides.
    """

    pointing: float
    iou: float
    dice: float
    nsd: float
    masked: bool
    side_right: bool | None


def tolerance_in_pixels(shape: tuple[int, ...]) -> float:
    """`TOLERANCE` for an image of this (height, width)."""
    return TOLERANCE * max(shape)


_FEW = 16  # maxima from which one distance map costs less than a search from each


def score(heat: Heat, mask: Mask | None, truth: Mask) -> Scores:
    """Score one answer.

    Args:
        heat: (height, width) map, higher where the structure is more likely; finite.
        mask: (height, width), or None where no mask was returned.
        truth: (height, width), not empty.

    Raises:
        ValueError: shapes differ, the truth is empty, or the map holds a value that is not finite.
    """
    _require_shape(heat, truth)
    if not truth.any():
        raise ValueError("the ground truth is empty: there is nothing to localize")
    if not np.isfinite(heat).all():
        raise ValueError("the map holds values that are not finite")
    tolerance = tolerance_in_pixels(truth.shape)
    pointing = pointing_game(heat, truth, tolerance)
    if mask is None:
        return Scores(pointing, 0.0, 0.0, 0.0, False, None)
    true_side = laterality_of(truth)
    side = laterality_of(mask) if mask.any() else None
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
        0 or 1; the share of hits among equal maxima, so that a level map gains nothing by pixel order.
    """
    _require_shape(heat, truth)
    highest = np.argwhere(heat == heat.max())
    if len(highest) > _FEW:
        away = ndimage.distance_transform_edt(~truth)[tuple(highest.T)]
    else:
        inside = np.argwhere(truth)
        away = np.array([np.sqrt(((inside - maximum) ** 2).sum(axis=1).min()) for maximum in highest])
    return float((away <= tolerance).mean())


def expected_pointing(truth: Mask, tolerance: float = 0.0) -> float:
    """The pointing-game accuracy that a uniformly random point has: the share of pixels that are a hit.

    Args:
        truth: (height, width), not empty.
        tolerance: pixels by which the point may lie outside.
    """
    return float((ndimage.distance_transform_edt(~truth) <= tolerance).mean())


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
    their four neighbours outside it or outside the image; a distance is between pixel centres.

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
    """The pixels of a mask with a four-neighbour outside it; beyond the image counts as outside."""
    inner: Mask = ndimage.binary_erosion(mask)
    return mask & ~inner


def _require_shape(one: NDArray[np.generic], other: NDArray[np.generic]) -> None:
    if one.shape != other.shape:
        raise ValueError(f"a map or mask of {one.shape} beside a ground truth of {other.shape}")
