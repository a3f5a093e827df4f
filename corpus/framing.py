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
