"""Bicubic resizing of an image that is read a few rows at a time.

A full-size radiograph does not fit the processor's cache as float32, and a pass over it costs more than the
arithmetic. So each part of some rows is made, used and overwritten while it is in the cache.

The filter is Keys' cubic convolution with a = −0.5 (IEEE Transactions on ASSP 29(6), 1981), stretched by the
scale where an image is reduced: what Pillow calls BICUBIC. For values in [0, 1] the two differ by less than
1e-6: Pillow sums in float64, this module in float32.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Rows = Callable[[int, int], NDArray[np.float32]]
"""Returns the rows from the first number to before the second, valid until the next call."""

PART_PIXELS = 1 << 15
"""Pixels of one part: 128 KiB as float32. With the indices of a look-up it fits half a megabyte of cache, and
a product of it stays below the size at which OpenBLAS starts threads."""

_REACH = 2.0  # of the filter, in pixels of the coarser of the two images
_MOST_SIZES = 64  # (length, target) with weights in memory; the images of a set have few


def parts_of(height: int, width: int) -> Iterator[tuple[int, int]]:
    """Yield the parts of an image: first row, and the row after the last."""
    step = _part_length(width)
    return ((start, min(start + step, height)) for start in range(0, height, step))


def resize(rows: Rows, shape: tuple[int, int], target: tuple[int, int]) -> NDArray[np.float32]:
    """Return an image in another size.

    Args:
        rows: the image's rows, float32. It is called for each of `parts_of`, once and in their order.
        shape: (height, width) of the image.
        target: (height, width) of the result.

    Returns:
        (height, width) float32. Beside steep edges values exceed the image's range by up to a sixth.
    """
    height, width = shape
    lower = np.zeros((target[0], width), np.float32)
    for start, stop in parts_of(height, width):
        part = rows(start, stop)
        band = _bands(height, target[0], _part_length(width))[start // _part_length(width)]
        lower[band.first : band.last] += band.weights @ part
    narrower = np.zeros(target, np.float32)
    step = _part_length(target[0])
    for band, start in zip(_bands(width, target[1], step), range(0, width, step), strict=True):
        narrower[:, band.first : band.last] += lower[:, start : start + step] @ band.weights.T
    return narrower


def _part_length(other_side: int) -> int:
    return max(8, PART_PIXELS // other_side)


@dataclass(frozen=True, slots=True, eq=False)
class _Band:
    """What one part adds to the result.

    `first`, `last`: the results that it adds to, the second exclusive.
    `weights`: (last − first, length of the part) float32.
    """

    first: int
    last: int
    weights: NDArray[np.float32]


@lru_cache(maxsize=_MOST_SIZES)
def _bands(length: int, target: int, step: int) -> tuple[_Band, ...]:
    """Return the bands of each part of `step` pixels along a side that is resized to `target` pixels."""
    scale = length / target
    stretch = max(scale, 1.0)
    centres = (np.arange(target) + 0.5) * scale
    reach = _REACH * stretch
    starts = np.maximum(np.ceil(centres - reach - 0.5), 0).astype(np.intp)
    pixels = starts[:, None] + np.arange(math.floor(2 * reach) + 1)
    weights = np.where(pixels < length, _cubic((pixels + 0.5 - centres[:, None]) / stretch), 0.0)
    weights /= weights.sum(axis=1, keepdims=True)
    bands = []
    for start in range(0, length, step):
        size = min(step, length - start)
        first = int(np.searchsorted(starts, start - pixels.shape[1], side="right"))
        last = int(np.searchsorted(starts, start + size))
        inside = (pixels[first:last] >= start) & (pixels[first:last] < start + size)
        band = np.zeros((last - first, size), np.float32)
        results, taps = np.nonzero(inside)
        band[results, pixels[first:last][inside] - start] = weights[first:last][results, taps]
        bands.append(_Band(first, last, band))
    return tuple(bands)


def _cubic(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    x = np.abs(distance)
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((2.5 - 0.5 * x) * x - 4.0) * x + 2.0
    return np.where(x < 1.0, near, np.where(x < _REACH, far, 0.0))
