"""How a picture of any shape is placed into the network's square, and how a place is found back.

Padding keeps the aspect (a stretched chest is another chest) and the whole film (a cropped one loses the
costophrenic angles). The same arithmetic runs in decode processes, which must not pay for importing torch.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image


@dataclass(frozen=True, slots=True)
class Place:
    """Where a picture lies in the square: `top`, `left`, `height`, `width` in pixels of the square."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class Framing:
    """Fit a picture into `size` × `size` pixels: longest side to `size`, zeros around, centred."""

    size: int

    def place(self, height: int, width: int) -> Place:
        """Where a picture of `height` × `width` pixels lies in the square."""
        scale = self.size / max(height, width)
        new_height = max(1, round(height * scale))
        new_width = max(1, round(width * scale))
        return Place((self.size - new_height) // 2, (self.size - new_width) // 2, new_height, new_width)

    def apply(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the picture in its square.

        Args:
            image: (height, width) float32 grey in [0, 1].

        Returns:
            (size, size) float32 in [0, 1].
        """
        height, width = image.shape
        place = self.place(height, width)
        small = Image.fromarray(np.ascontiguousarray(image, dtype=np.float32)).resize(
            (place.width, place.height), Image.Resampling.BICUBIC
        )
        square = np.zeros((self.size, self.size), dtype=np.float32)
        square[place.top : place.top + place.height, place.left : place.left + place.width] = np.clip(
            np.asarray(small, dtype=np.float32), 0.0, 1.0
        )
        return square

    def undo(self, grid: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
        """Return a map over the square as a map over the picture: padding cut off, resizing undone.

        Each pixel of the picture takes the map's value at the very place of the square that `apply` puts its
        centre at, interpolated between the centres of the map's cells and level beyond the outermost.

        Args:
            grid: (…, rows, columns) float32; its cells cover the square evenly, so a map of any coarseness.
            height: rows of the picture as read.
            width: columns of the picture as read.

        Returns:
            (…, height, width) float32.
        """
        place = self.place(height, width)
        rows = self._weights(grid.shape[-2], place.top, place.height, height)
        columns = self._weights(grid.shape[-1], place.left, place.width, width)
        undone: NDArray[np.float32] = rows @ grid.astype(np.float32, copy=False) @ columns.T
        return undone

    def _weights(self, cells: int, start: int, length: int, pixels: int) -> NDArray[np.float32]:
        """(pixels, cells): how much of each cell the pixels along one side take."""
        centres = start + (np.arange(pixels) + 0.5) * (length / pixels)
        at = np.clip(centres * (cells / self.size) - 0.5, 0.0, cells - 1.0)
        below = np.minimum(at.astype(np.intp), max(cells - 2, 0))
        share = (at - below).astype(np.float32)
        weights = np.zeros((pixels, cells), np.float32)
        weights[np.arange(pixels), below] = 1 - share
        weights[np.arange(pixels), np.minimum(below + 1, cells - 1)] += share
        return weights
