"""Image geometry: boxes, the letterbox of an encoder's square input, and the orientation of a stored image.

Letterboxing keeps the aspect ratio (a stretched chest is another chest) and the whole image (a crop loses the
costophrenic angles). The same arithmetic runs in decode processes, which must not pay for importing torch.
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from corpus.resize import Rows, resize


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels of the image as read, columns `left` to `right`, rows `top` to `bottom`.

    `right` and `bottom` are exclusive.
    """

    left: int
    top: int
    right: int
    bottom: int

    @property
    def area(self) -> int:
        """The number of its pixels."""
        return (self.right - self.left) * (self.bottom - self.top)

    def as_json(self) -> dict[str, int]:
        """Return the JSON of the contract."""
        return {"left": self.left, "top": self.top, "right": self.right, "bottom": self.bottom}


@dataclass(frozen=True, slots=True)
class Placement:
    """The part of the square that the image covers.

    `top`, `left`, `height`, `width`: pixels of the square.
    """

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class Framing:
    """The letterbox: an image in `size` × `size` pixels.

    Its longer side is scaled to `size`, it is centred, and the rest is zero.
    """

    size: int

    def placement(self, height: int, width: int) -> Placement:
        """Return the part of the square that an image of `height` × `width` pixels covers."""
        scale = self.size / max(height, width)
        new_height = max(1, round(height * scale))
        new_width = max(1, round(width * scale))
        return Placement((self.size - new_height) // 2, (self.size - new_width) // 2, new_height, new_width)

    def apply(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the image in its square.

        Args:
            image: (height, width) float32 grey in [0, 1].

        Returns:
            (size, size) float32 in [0, 1].
        """
        height, width = image.shape
        if height == width == self.size:  # framed when it was decoded: only its patches are new
            return np.clip(image.astype(np.float32, copy=False), 0.0, 1.0)
        return self.apply_rows(
            lambda start, stop: image[start:stop].astype(np.float32, copy=False), (height, width)
        )

    def apply_rows(self, rows: Rows, shape: tuple[int, int]) -> NDArray[np.float32]:
        """Return an image in its square, reading each of its rows once.

        Args:
            rows: grey in [0, 1], as for `corpus.resize.resize`.
            shape: (height, width) of the image.

        Returns:
            (size, size) float32 in [0, 1].
        """
        placement = self.placement(*shape)
        square = np.zeros((self.size, self.size), dtype=np.float32)
        part = square[
            placement.top : placement.top + placement.height,
            placement.left : placement.left + placement.width,
        ]
        np.clip(resize(rows, shape, (placement.height, placement.width)), 0.0, 1.0, out=part)
        return square

    def undo(self, grid: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
        """Return a map over the square as a map over the image, without the padding.

        Each pixel of the image takes the map's value at the point of the square to which `apply` moves its
        centre: interpolated linearly between the centres of the map's cells, constant beyond the outermost.

        Args:
            grid: (…, rows, columns) float32; its cells cover the square evenly, at any resolution.
            height: rows of the image as read.
            width: columns of the image as read.

        Returns:
            (…, height, width) float32.
        """
        placement = self.placement(height, width)
        rows = self._weights(grid.shape[-2], placement.top, placement.height, height)
        columns = self._weights(grid.shape[-1], placement.left, placement.width, width)
        undone: NDArray[np.float32] = rows @ grid.astype(np.float32, copy=False) @ columns.T
        return undone

    def _weights(self, cells: int, start: int, length: int, pixels: int) -> NDArray[np.float32]:
        """Return (pixels, cells): the interpolation weight of each cell for the pixels along one side."""
        centres = start + (np.arange(pixels) + 0.5) * (length / pixels)
        position = np.clip(centres * (cells / self.size) - 0.5, 0.0, cells - 1.0)
        below = np.minimum(position.astype(np.intp), max(cells - 2, 0))
        share = (position - below).astype(np.float32)
        weights = np.zeros((pixels, cells), np.float32)
        weights[np.arange(pixels), below] = 1 - share
        weights[np.arange(pixels), np.minimum(below + 1, cells - 1)] += share
        return weights


_Value = TypeVar("_Value", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Orientation:
    """One of the eight orientations (PS3.3 C.7.6.1.1.1) that lead from a stored image to its display.

    `transposed`: rows become columns, before any reversal.
    `up_down`: the order of the rows is reversed.
    `left_right`: the order of the columns is reversed.
    """

    transposed: bool = False
    up_down: bool = False
    left_right: bool = False

    def apply(self, plane: NDArray[_Value]) -> NDArray[_Value]:
        """Return a stored (height, width) plane as it is displayed; a turn by 90° swaps the two."""
        turned = plane.T if self.transposed else plane
        turned = turned[::-1] if self.up_down else turned
        return turned[:, ::-1] if self.left_right else turned

    def undo(self, plane: NDArray[_Value]) -> NDArray[_Value]:
        """Return a displayed (height, width) plane in the stored geometry: the inverse of `apply`."""
        turned = plane[:, ::-1] if self.left_right else plane
        turned = turned[::-1] if self.up_down else turned
        return turned.T if self.transposed else turned


AS_STORED = Orientation()
