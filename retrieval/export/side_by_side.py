"""Two films beside one another, what is alike in them warm and in numbered boxes of one colour."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from retrieval.export.overlay import NOTICE, lettering, warmed
from retrieval.localize.answer import Box

if TYPE_CHECKING:
    from retrieval.localize.correspondence import Likeness

SIDE = 640
"""Pixels of each film's longer side as drawn."""
_GAP, _BAND = 16, 44
_BACKGROUND, _TEXT = (16, 18, 22), (236, 238, 242)
_COLOURS = ((255, 196, 0), (90, 200, 250), (255, 120, 170))


def draw_pairs(query: NDArray[np.float32], hit: NDArray[np.float32], found: "Likeness") -> NDArray[np.uint8]:
    """Draw the likeness of two films, the query on the left.

    Args:
        query: (height, width) float32 in [0, 1].
        hit: the same of another size, if need be.
        found: of these two.

    Returns:
        (height', width', 3) uint8 RGB; "not for diagnosis" is part of it.
    """
    films = []
    for image, heat, boxes in (
        (query, found.query, [pair.query for pair in found.pairs]),
        (hit, found.hit, [pair.hit for pair in found.pairs]),
    ):
        films.append(_film(image, heat, boxes))
    height = max(film.height for film in films)
    picture = Image.new("RGB", (sum(film.width for film in films) + _GAP, height + _BAND), _BACKGROUND)
    picture.paste(films[0], (0, 0))
    picture.paste(films[1], (films[0].width + _GAP, 0))
    draw = ImageDraw.Draw(picture)
    told = f"Boxes of one number are alike. {NOTICE}"
    draw.text((12, height + 12), told, font=lettering(18), fill=_TEXT)
    return np.asarray(picture)


def _film(image: NDArray[np.float32], heat: NDArray[np.float32], boxes: list[Box]) -> Image.Image:
    scale = SIDE / max(image.shape)
    height, width = (max(1, round(side * scale)) for side in image.shape)
    drawn = Image.fromarray(np.rint(warmed(image, heat, width, height)).astype(np.uint8))
    draw = ImageDraw.Draw(drawn)
    for number, box in enumerate(boxes):
        corners = [scale * edge for edge in (box.left, box.top, box.right, box.bottom)]
        draw.rectangle(corners, outline=_COLOURS[number % len(_COLOURS)], width=3)
        draw.text(
            (corners[0] + 6, corners[1] + 3), str(number + 1), font=lettering(22),
            fill=_COLOURS[number % len(_COLOURS)], stroke_width=2, stroke_fill=(20, 20, 20),
        )  # fmt: skip
    return drawn
