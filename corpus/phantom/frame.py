"""The film's frame: where each pixel of it lies in the body.

Lengths are millimetres on the film, which is `FILM_MM` wide and high. Body coordinates: u runs across from
the midline (negative: the patient's right, which a film shows on its left), v runs down from the film's top.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.float32]

FILM_MM = 380.0
"""Side of the square film, mm."""


@dataclass(frozen=True, slots=True)
class Stance:
    """How the body stands before one film: `tilt` in radians (±0.05), shifts in mm (±10), `turn` ±5 mm.

    `turn` is how far a rotation about the long axis moves the collar bones' inner ends and the windpipe.
    """

    tilt: float
    shift_across: float
    shift_down: float
    turn: float


@lru_cache(maxsize=4)
def _film_coordinates(size: int) -> tuple[Map, Map]:
    """Pixel centres in mm from the film's centre line and from its top: (1, size) and (size, 1)."""
    centres = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * np.float32(FILM_MM / size)
    return (centres - np.float32(FILM_MM / 2))[None, :], centres[:, None]


def body_coordinates(stance: Stance, size: int) -> tuple[Map, Map]:
    """Return u and v of every pixel centre, mm: two (size, size) float32 maps."""
    across, down = _film_coordinates(size)
    across = across - np.float32(stance.shift_across)
    down = down - np.float32(FILM_MM / 2 + stance.shift_down)
    cos, sin = np.float32(np.cos(stance.tilt)), np.float32(np.sin(stance.tilt))
    return cos * across + sin * down, cos * down - sin * across + np.float32(FILM_MM / 2)


def to_pixels(
    u: NDArray[np.float64], v: NDArray[np.float64], stance: Stance, size: int
) -> NDArray[np.float64]:
    """Return the pixel coordinates (…, 2) as (x, y) of places in the body: `body_coordinates` undone."""
    cos, sin = np.cos(stance.tilt), np.sin(stance.tilt)
    down = v - FILM_MM / 2
    x = cos * u - sin * down + FILM_MM / 2 + stance.shift_across
    y = sin * u + cos * down + FILM_MM / 2 + stance.shift_down
    places: NDArray[np.float64] = np.stack([x, y], axis=-1) * (size / FILM_MM) - 0.5
    return places
