"""A region of an image: the patches in a box, and the most similar box of another image.

The box is in pixels of the image as read; patches form a grid over the network's square, in which the image
is letterboxed (`corpus.geometry`). A search compares every patch of the box with the nearest one of each
image (MaxSim, Khattab and Zaharia, SIGIR 2020).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from corpus.errors import UsageError
from corpus.geometry import Box, Framing

MOST_PATCHES = 16
"""Patches of a box that are searched with; a larger box is subsampled evenly in both directions."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The grid of patches over one image, letterboxed by `Framing(size)`.

    Attributes:
        rows: of patches.
        columns: of patches.
        size: side of the network's square in pixels.
        height: of the image as read, in pixels.
        width: of the image as read, in pixels.
    """

    rows: int
    columns: int
    size: int
    height: int
    width: int

    def inside(self) -> NDArray[np.bool_]:
        """(rows, columns) bool: the patches that touch the image; the index stores these."""
        left, top, right, bottom = self._edges()
        return (bottom > 0)[:, None] & (top < self.height)[:, None] & (right > 0) & (left < self.width)

    def cells(self, box: Box) -> tuple[slice, slice]:
        """The rows and columns of patches with their centre in a box; at least the one at its centre."""
        left, top, right, bottom = self._edges()
        return (
            _within((top + bottom) / 2, box.top, box.bottom),
            _within((left + right) / 2, box.left, box.right),
        )

    def box(self, rows: slice, columns: slice) -> Box:
        """The box of some patches, clipped to the image."""
        left, top, right, bottom = self._edges()
        return Box(
            left=int(np.clip(round(left[columns][0]), 0, self.width - 1)),
            top=int(np.clip(round(top[rows][0]), 0, self.height - 1)),
            right=int(np.clip(round(right[columns][-1]), 1, self.width)),
            bottom=int(np.clip(round(bottom[rows][-1]), 1, self.height)),
        )

    def _edges(self) -> tuple[NDArray[np.float64], ...]:
        """Left edges of the columns, top ones of the rows, then right and bottom, in pixels of the image."""
        letterbox = Framing(self.size).placement(self.height, self.width)
        across = np.arange(self.columns + 1) * self.size / self.columns
        down = np.arange(self.rows + 1) * self.size / self.rows
        x = (across - letterbox.left) * self.width / letterbox.width
        y = (down - letterbox.top) * self.height / letterbox.height
        return x[:-1], y[:-1], x[1:], y[1:]


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """The patches of a box that are searched with.

    Attributes:
        vectors: (n, dim) float32 unit rows, n at most `MOST_PATCHES`.
        rows: height of the box in patches.
        columns: width of the box in patches.
        size: side of the network's square in pixels.
        grid: rows and columns of patches over that square.
    """

    vectors: NDArray[np.float32]
    rows: int
    columns: int
    size: int
    grid: tuple[int, int]


def crop_region(vectors: NDArray[np.float32], size: int, height: int, width: int, box: Box) -> Region:
    """Return the patches of a box.

    Args:
        vectors: (rows, columns, dim) float32 unit along dim, of the whole square.
        size: of the square, in pixels.
        height: of the image as read.
        width: of the image as read.
        box: in pixels of the image; it is clipped to the image.

    Raises:
        UsageError: it lies wholly outside the image.
    """
    if box.left >= width or box.top >= height:
        raise UsageError(
            f"the region {box.left},{box.top},{box.right},{box.bottom} lies outside the image, which has "
            f"{width} × {height} pixels"
        )
    clipped = Box(box.left, box.top, min(box.right, width), min(box.bottom, height))
    grid = Grid(vectors.shape[0], vectors.shape[1], size, height, width)
    rows, columns = grid.cells(clipped)
    cells = vectors[rows, columns]
    step = max(1, int(np.ceil(np.sqrt(cells.shape[0] * cells.shape[1] / MOST_PATCHES))))
    chosen = cells[(step - 1) // 2 :: step, (step - 1) // 2 :: step]
    return Region(
        np.ascontiguousarray(chosen.reshape(-1, vectors.shape[2])),
        cells.shape[0],
        cells.shape[1],
        size,
        (vectors.shape[0], vectors.shape[1]),
    )


def find_region(region: Region, patches: NDArray[np.float32], height: int, width: int) -> Box:
    """Return the box of an image that is most similar to a region.

    It has the region's shape in patches, and the greatest mean over them of the cosine with the nearest patch
    of the region.

    Args:
        region: what was searched with.
        patches: (n, dim) float32 of the image, row by row, without those of its padding.
        height: of the image as read.
        width: of the image as read.
    """
    grid = Grid(*region.grid, region.size, height, width)
    inside = grid.inside()
    rows = np.flatnonzero(inside.any(axis=1))
    columns = np.flatnonzero(inside.any(axis=0))
    nearest = (patches @ region.vectors.T).max(axis=1).reshape(len(rows), len(columns))
    high, wide = min(region.rows, len(rows)), min(region.columns, len(columns))
    windows = np.lib.stride_tricks.sliding_window_view(nearest, (high, wide)).mean(axis=(2, 3))
    row, column = np.unravel_index(int(np.argmax(windows)), windows.shape)
    top, left = int(rows[0] + row), int(columns[0] + column)
    return grid.box(slice(top, top + high), slice(left, left + wide))


def _within(centres: NDArray[np.float64], low: int, high: int) -> slice:
    inside = np.flatnonzero((centres >= low) & (centres < high))
    if not inside.size:
        inside = np.array([int(np.argmin(np.abs(centres - (low + high) / 2)))])
    return slice(int(inside[0]), int(inside[-1]) + 1)
