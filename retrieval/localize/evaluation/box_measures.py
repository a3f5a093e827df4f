"""Measures of boxes: hit rates at IoU and IoBB, Dice of the boxes, false boxes; after Wang et al. 2017.

ChestX-ray8 (Wang et al., CVPR 2017, arXiv 1705.02315) draws a box around every isolated region
of an answer and calls an annotated box found where one of them overlaps it enough, by intersection over union
(IoU) or by intersection over the area of the detected box (IoBB). So do these measures: a detected box is the
box around a region of the mask, and a ground-truth box the box around a region of the annotation. The
threshold itself counts as a hit.

IoBB alone is easy to raise: a box of one pixel inside the annotation has 1. Beside it stand the Dice of the
one box around the whole mask, and the number of false boxes (AFP in the paper).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from corpus.geometry import Box
from retrieval.localize.refine.regions import boxes_of, drop_specks

Mask = NDArray[np.bool_]

LEVELS = (0.1, 0.25, 0.5)
"""Thresholds of IoU and IoBB: those of the published table that the hit rates are given at."""
FALSE_BELOW = 0.1
"""A detected box with less IoBB with every ground-truth box is false."""


@dataclass(frozen=True, slots=True)
class BoxScores:
    """The scores of one answer's boxes against the annotation's. All 0 where no mask was returned.

    `hit_iou_10`, `hit_iou_25`, `hit_iou_50`: share of ground-truth boxes that a detected box overlaps by an
    IoU of at least 0.10, 0.25 and 0.50.
    `hit_iobb_10`, `hit_iobb_25`, `hit_iobb_50`: the same by IoBB.
    `box_dice`: Dice of the box around the whole mask and the box around the whole annotation.
    `false_boxes`: number of detected boxes with an IoBB below `FALSE_BELOW`, ≥ 0; lower is better.
    """

    hit_iou_10: float
    hit_iou_25: float
    hit_iou_50: float
    hit_iobb_10: float
    hit_iobb_25: float
    hit_iobb_50: float
    box_dice: float
    false_boxes: float


NO_BOXES = BoxScores(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
"""The scores of an answer without a mask."""


def score_boxes(mask: Mask | None, truth: Mask) -> BoxScores:
    """Score the boxes of one answer.

    Regions are connected, corners included; one smaller than a tenth of the largest is a speck and has no
    box, in the annotation as in the mask.

    Args:
        mask: (height, width), or None where no mask was returned.
        truth: (height, width), not empty.

    Raises:
        ValueError: shapes differ, or the truth is empty.
    """
    if not truth.any():
        raise ValueError("the ground truth is empty: there is no box to find")
    if mask is None or not mask.any():
        return NO_BOXES
    if mask.shape != truth.shape:
        raise ValueError(f"a mask of {mask.shape} beside a ground truth of {truth.shape}")
    found, true = boxes_of(drop_specks(mask)), boxes_of(drop_specks(truth))
    shared = np.array([[intersection(one, other) for one in found] for other in true], dtype=np.float64)
    areas = np.array([one.area for one in found], dtype=np.float64)
    true_areas = np.array([other.area for other in true], dtype=np.float64)
    unions = areas[None, :] + true_areas[:, None] - shared
    by_iou, by_iobb = (shared / unions).max(axis=1), shared / areas[None, :]
    iou_hits, iobb_hits = _hit_rates(by_iou), _hit_rates(by_iobb.max(axis=1))
    around, true_around = box_around(mask), box_around(truth)
    overlap = 2 * intersection(around, true_around) / (around.area + true_around.area)
    false = float((by_iobb.max(axis=0) < FALSE_BELOW).sum())
    return BoxScores(*iou_hits, *iobb_hits, box_dice=overlap, false_boxes=false)


def expected_for_random_box(truth: Mask, sides: tuple[float, float]) -> BoxScores:
    """The expected scores of a box of a given size anywhere in the image, every location equally likely.

    Exact: the mean over all locations of whole pixels at which the box lies within the image.

    Args:
        truth: (height, width), not empty.
        sides: height and width of the box as shares of the image's, in (0, 1].
    """
    shape = truth.shape
    height, width = (min(side, max(1, round(share * side))) for share, side in zip(sides, shape, strict=True))
    area = height * width
    true = boxes_of(drop_specks(truth))
    shared = np.stack([_overlaps(other, height, width, shape) for other in true])
    true_areas = np.array([other.area for other in true], dtype=np.float64)[:, None, None]
    by_iou, by_iobb = shared / (area + true_areas - shared), shared / area
    iou_hits, iobb_hits = _hit_rates(by_iou), _hit_rates(by_iobb)
    around = box_around(truth)
    overlap = 2 * _overlaps(around, height, width, shape) / (area + around.area)
    false = float((by_iobb.max(axis=0) < FALSE_BELOW).mean())
    return BoxScores(*iou_hits, *iobb_hits, box_dice=float(overlap.mean()), false_boxes=false)


def box_around(mask: Mask) -> Box:
    """The smallest box around a whole mask, which is not empty."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def intersection(one: Box, other: Box) -> int:
    """The pixels that two boxes share."""
    width = min(one.right, other.right) - max(one.left, other.left)
    height = min(one.bottom, other.bottom) - max(one.top, other.top)
    return max(0, width) * max(0, height)


def _hit_rates(overlaps: NDArray[np.float64]) -> tuple[float, float, float]:
    """The share of overlaps of at least each of `LEVELS`."""
    low, middle, high = (float((overlaps >= level).mean()) for level in LEVELS)
    return low, middle, high


def _overlaps(box: Box, height: int, width: int, shape: Sequence[int]) -> NDArray[np.float64]:
    """(rows, columns) pixels that `box` shares with one of `height` × `width` at every location."""
    along = [
        np.clip(np.minimum(starts + side, stop) - np.maximum(starts, start), 0, None)
        for starts, side, start, stop in (
            (np.arange(shape[0] - height + 1), height, box.top, box.bottom),
            (np.arange(shape[1] - width + 1), width, box.left, box.right),
        )
    ]
    return np.outer(along[0], along[1]).astype(np.float64)
