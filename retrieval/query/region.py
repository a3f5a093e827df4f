"""A region of a picture: which of its patches lie in a box, and where in another picture the like is.

The box is in pixels of the picture as read; patches form a grid over the network's square, in which the
picture lies with padding around it (`corpus.geometry`). A search compares every patch of the box with the
nearest one of each picture (MaxSim, Khattab and Zaharia, SIGIR 2020).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from corpus.errors import UsageError
from corpus.geometry import Framing
from retrieval.localize.answer import Box

MOST_PATCHES = 16
"""Of a box that are searched with: of a larger box every so manieth, in both directions."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The grid of patches over one picture: `rows` × `columns` over a square of `size` pixels, in which a
    picture of `height` × `width` pixels lies as `Framing(size)` places it."""

    rows: int
    columns: int
    size: int
    height: int
    width: int

    def inside(self) -> NDArray[np.bool_]:
        """(rows, columns) bool: the patches that touch the picture, which are those that are kept."""
        left, top, right, bottom = self._edges()
        return (bottom > 0)[:, None] & (top < self.height)[:, None] & (right > 0) & (left < self.width)

    def cells(self, box: Box) -> tuple[slice, slice]:
        """The rows and columns of patches whose centre lies in a box; at least the one at its centre."""
        left, top, right, bottom = self._edges()
        return (
            _within((top + bottom) / 2, box.top, box.bottom),
            _within((left + right) / 2, box.left, box.right),
        )

    def box(self, rows: slice, columns: slice) -> Box:
        """The box of some patches, cut off at the picture's edge."""
        left, top, right, bottom = self._edges()
        return Box(
            left=int(np.clip(round(left[columns][0]), 0, self.width - 1)),
            top=int(np.clip(round(top[rows][0]), 0, self.height - 1)),
            right=int(np.clip(round(right[columns][-1]), 1, self.width)),
            bottom=int(np.clip(round(bottom[rows][-1]), 1, self.height)),
        )

    def _edges(self) -> tuple[NDArray[np.float64], ...]:
        """Left edges of the columns, top ones of the rows, then right and bottom, in pixels of the
        picture."""
        place = Framing(self.size).place(self.height, self.width)
        across = np.arange(self.columns + 1) * self.size / self.columns
        down = np.arange(self.rows + 1) * self.size / self.rows
        x = (across - place.left) * self.width / place.width
        y = (down - place.top) * self.height / place.height
        return x[:-1], y[:-1], x[1:], y[1:]


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """What is searched with. `vectors`: (n, dim) unit rows of the box's patches, at most `MOST_PATCHES`;
    `rows` and `columns`: how many patches the box is high and wide; `size`, `grid`: of the encoder."""

    vectors: NDArray[np.float32]
    rows: int
    columns: int
    size: int
    grid: tuple[int, int]


def cut(vectors: NDArray[np.float32], size: int, height: int, width: int, box: Box) -> Region:
    """Take the patches of a box.

    Args:
        vectors: (rows, columns, dim) unit along dim, of the whole square.
        size: of the square, in pixels.
        height: of the picture as read.
        width: of the picture as read.
        box: in its pixels; what of it lies outside the picture is cut off.

    Raises:
        UsageError: it lies wholly outside.
    """
    if box.left >= width or box.top >= height:
        raise UsageError(
            f"the region {box.left},{box.top},{box.right},{box.bottom} lies outside the picture, which has "
            f"{width} × {height} pixels"
        )
    kept = Box(box.left, box.top, min(box.right, width), min(box.bottom, height))
    grid = Grid(vectors.shape[0], vectors.shape[1], size, height, width)
    rows, columns = grid.cells(kept)
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


def find(region: Region, patches: NDArray[np.float32], height: int, width: int) -> Box:
    """Where a picture is most like a region: the window of the region's shape whose patches are, in the mean,
    nearest to any of the region's.

    Args:
        region: what was searched with.
        patches: (n, dim) of the picture, row by row, those of its padding left out.
        height: of the picture as read.
        width: of the picture as read.
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
    held = np.flatnonzero((centres >= low) & (centres < high))
    if not held.size:
        held = np.array([int(np.argmin(np.abs(centres - (low + high) / 2)))])
    return slice(int(held[0]), int(held[-1]) + 1)
