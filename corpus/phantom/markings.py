"""The lungs' own markings: hila, vessels that branch outwards from them, and a fine mottle."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from corpus.phantom.frame import FILM_MM, Map, Stance, to_pixels

_LEVELS = 3  # a trunk, its branches, their branches
_POINTS = 5  # points along one vessel
_TRUNK_RADIUS = 2.7  # mm
_HILUM = (34.0, 148.0)  # distance from the midline and height v, mm


def draw_markings(seed: int, stance: Stance, u: Map, v: Map) -> Map:
    """Return the attenuation of the markings, before the lungs' outline is applied.

    Args:
        seed: names the vessel tree.
        u, v: (size, size) body coordinates, mm.
    """
    size = u.shape[0]
    random = np.random.Generator(np.random.PCG64(seed))
    picture = Image.new("L", (size, size))
    pen = ImageDraw.Draw(picture)
    grown = _grow(random)
    for level in reversed(range(_LEVELS)):  # thick vessels are drawn over thin ones
        places = to_pixels(*grown[level], stance, size)
        width = max(1, round(2.0 * _TRUNK_RADIUS * 0.62**level * size / FILM_MM))
        for line in places.reshape(len(places), -1).tolist():
            pen.line(line, fill=205 - 55 * level, width=width)
    vessels = np.asarray(picture.filter(ImageFilter.GaussianBlur(1.1 * size / 256)), dtype=np.float32)
    mottle = Image.fromarray(random.standard_normal((96, 96), dtype=np.float32))
    grain = np.asarray(mottle.resize((size, size), Image.Resampling.BICUBIC))
    hila = np.square((np.abs(u) - 36.0) / 15.0) + np.square((v - _HILUM[1]) / 30.0)
    drawn: Map = vessels * np.float32(0.55 / 255.0) + 0.035 * grain + 0.42 / (1.0 + hila * hila)
    return drawn


def _grow(random: np.random.Generator) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Vessel trees of both lungs: for each level, u and v (vessels, points) in mm."""
    angle = (np.linspace(-1.25, 1.35, 8) + random.uniform(-0.14, 0.14, (2, 8))).ravel()
    sign = np.repeat([-1.0, 1.0], 8)
    start_u, start_v = sign * _HILUM[0], _HILUM[1] + 14.0 * angle
    grown = []
    for level in range(_LEVELS):
        count = len(angle)
        bends = angle[:, None] + np.cumsum(random.uniform(-0.16, 0.16, (count, _POINTS - 1)), axis=1)
        steps = random.uniform(0.75, 1.2, bends.shape) * (15.0 - 2.0 * level)
        first = np.zeros((count, 1))
        u = start_u[:, None] + sign[:, None] * np.hstack([first, np.cumsum(steps * np.cos(bends), axis=1)])
        v = start_v[:, None] + np.hstack([first, np.cumsum(steps * np.sin(bends), axis=1)])
        grown.append((u, v))
        # Each vessel forks at its middle and at its end, to either side.
        fork = np.repeat([[2, _POINTS - 1]], count, axis=0)
        turn = random.uniform(0.2, 0.75, (count, 2)) * np.where(random.random((count, 2)) < 0.5, 1.0, -1.0)
        angle = (np.take_along_axis(bends, fork - 1, axis=1) + turn).ravel()
        start_u, start_v = np.take_along_axis(u, fork, 1).ravel(), np.take_along_axis(v, fork, 1).ravel()
        sign = np.repeat(sign, 2)
    return grown
