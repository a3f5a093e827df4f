"""Prompts for Segment Anything from a map's regions: a box, a point and a mask for each.

The box is the region's; the point is where the map is warmest in it; the mask is the region itself, as the
logits of SAM's low resolution.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from retrieval.localize.answer import Box
from retrieval.localize.refine.regions import boxes_of

PromptKind = Literal["box", "point", "mask"]

LOW = 256
"""Pixels along each side of SAM's low resolution, in which it takes and gives masks."""

_SURE = 8.0  # the logit inside a region; its negative outside


@dataclass(frozen=True, slots=True)
class Region:
    """One region of a mask: `mask` (height, width) bool, its box, and `point` (x, y) where the map peaks."""

    mask: NDArray[np.bool_]
    box: Box
    point: tuple[float, float]


def regions_of(heat: NDArray[np.float32], mask: NDArray[np.bool_], boxes: Sequence[Box]) -> list[Region]:
    """Take the regions of a mask that boxes name, in their order; without boxes, all components, that of
    most pixels first.

    Args:
        heat: (height, width) float32.
        mask: (height, width) bool.
        boxes: in pixels of the image; what reaches out of it is cut, one without a pixel of the mask is left
            out.
    """
    regions = []
    for box in boxes or boxes_of(mask):
        rows, columns = slice(max(box.top, 0), max(box.bottom, 0)), slice(max(box.left, 0), max(box.right, 0))
        inside = np.zeros_like(mask)
        inside[rows, columns] = mask[rows, columns]
        if not inside.any():
            continue
        warmth = np.where(mask[rows, columns], heat[rows, columns], -np.inf)
        y, x = np.unravel_index(np.argmax(warmth), warmth.shape)
        height, width = mask.shape
        cut = Box(columns.start, rows.start, min(box.right, width), min(box.bottom, height))
        regions.append(Region(inside, cut, (float(columns.start + x), float(rows.start + y))))
    return regions


def low_logits(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.float32]:
    """A region as SAM's mask prompt: (LOW, LOW) float32 logits.

    Args:
        mask: (height, width) bool, in the image.
        size: height and width that the image takes in the low resolution; what is beyond is padding.
    """
    plane = Image.fromarray(mask.astype(np.float32)).resize((size[1], size[0]), Image.Resampling.BILINEAR)
    logits = np.full((LOW, LOW), -_SURE, np.float32)
    logits[: size[0], : size[1]] = (np.asarray(plane) * 2 - 1) * _SURE
    return logits
