"""The coordinates of a phantom image: the position of each pixel in the body.

Lengths are millimetres on the image, which is `IMAGE_MM` wide and high. Body coordinates: u runs across from
the midline (negative: the patient's right, which an image shows on its left), v runs down from the image's
top.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.float32]

IMAGE_MM = 380.0
"""Side of the square image, mm."""


@dataclass(frozen=True, slots=True)
class Positioning:
    """The body's position before the detector.

    `tilt`: radians, ±0.05.
    `shift_across`, `shift_down`: mm, ±10.
    `turn`: mm, ±5; how far a rotation about the long axis moves the medial ends of the clavicles and the
    windpipe.
    """

    tilt: float
    shift_across: float
    shift_down: float
    turn: float


@lru_cache(maxsize=4)
def _image_coordinates(size: int) -> tuple[Map, Map]:
    """Pixel centres in mm from the image's centre line and from its top: (1, size) and (size, 1)."""
    centres = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * np.float32(IMAGE_MM / size)
    return (centres - np.float32(IMAGE_MM / 2))[None, :], centres[:, None]


def body_coordinates(positioning: Positioning, size: int) -> tuple[Map, Map]:
    """Return u and v of every pixel centre, mm: two (size, size) float32 maps."""
    across, down = _image_coordinates(size)
    across = across - np.float32(positioning.shift_across)
    down = down - np.float32(IMAGE_MM / 2 + positioning.shift_down)
    cos, sin = np.float32(np.cos(positioning.tilt)), np.float32(np.sin(positioning.tilt))
    return cos * across + sin * down, cos * down - sin * across + np.float32(IMAGE_MM / 2)


def to_pixels(
    u: NDArray[np.float64], v: NDArray[np.float64], positioning: Positioning, size: int
) -> NDArray[np.float64]:
    """Return the pixel coordinates (…, 2) as (x, y) of body coordinates, mm."""
    cos, sin = np.cos(positioning.tilt), np.sin(positioning.tilt)
    down = v - IMAGE_MM / 2
    x = cos * u - sin * down + IMAGE_MM / 2 + positioning.shift_across
    y = sin * u + cos * down + IMAGE_MM / 2 + positioning.shift_down
    pixels: NDArray[np.float64] = np.stack([x, y], axis=-1) * (size / IMAGE_MM) - 0.5
    return pixels
