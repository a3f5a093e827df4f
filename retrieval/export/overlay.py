"""Overlays for the reader: an image with the outline of a finding, and two images with their correspondence.

Words stand in a band below the image, so that they hide nothing of it. "Not for diagnosis" is part of the
pixels: the overlay carries it wherever it goes.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from corpus.dicom.spacing import Spacing
from corpus.errors import ExportError
from corpus.geometry import AS_STORED, Box, Orientation
from retrieval.export.drawing import (
    BAND_COLOUR,
    DARK_EDGE,
    HIGHLIGHT,
    NOTICE,
    TEXT_COLOUR,
    add_band,
    blend_heat,
    draw_outline,
    drawn_scale,
    drawn_size,
    lettering,
    resize,
    scale_bar,
)

CORRESPONDENCE_SIDE = 640
"""Pixels of each image's longer side beside its counterpart."""
_NARROWEST = 480  # pixels of the band
_GAP, _BAND = 16, 44
_COLOURS = (HIGHLIGHT, (90, 200, 250), (255, 120, 170))


class Drawable(Protocol):
    """What an overlay shows of a localization; `retrieval.localize.answer.Localization` has all of it."""

    @property
    def phrase(self) -> str:
        """The phrase that was localized."""
        ...

    @property
    def summary(self) -> str:
        """Where the mask is, or why there is none."""
        ...

    @property
    def heat(self) -> NDArray[np.float32]:
        """(height, width) map in [0, 1]."""
        ...

    @property
    def mask(self) -> NDArray[np.bool_] | None:
        """(height, width)."""
        ...


class BoxPair(Protocol):
    """A box of the query and the corresponding box of the hit."""

    @property
    def query(self) -> Box:
        """In pixels of the query."""
        ...

    @property
    def hit(self) -> Box:
        """In pixels of the hit."""
        ...


class DrawableCorrespondence(Protocol):
    """What is drawn of a `retrieval.localize.correspondence.Correspondence`."""

    @property
    def query(self) -> NDArray[np.float32]:
        """(height, width) map over the query."""
        ...

    @property
    def hit(self) -> NDArray[np.float32]:
        """(height, width) map over the hit."""
        ...

    @property
    def pairs(self) -> Sequence[BoxPair]:
        """The strongest first."""
        ...


def draw_overlay(
    image: NDArray[np.float32],
    localization: Drawable,
    *,
    heat: bool = False,
    spacing: Spacing | None = None,
    hanging: Orientation = AS_STORED,
) -> NDArray[np.uint8]:
    """Draw where a phrase is in an image.

    Args:
        image: (height, width) float32 grey in [0, 1].
        localization: of that image; without a mask its reason is written instead.
        heat: lay the map over the image as well.
        spacing: of the image as it is drawn; the scale bar is in millimetres with it, else in pixels.
        hanging: undone before anything is drawn, so that the overlay lies as its source is stored.

    Returns:
        (height', width', 3) uint8 RGB. The image, at the top left, is enlarged or reduced to a longest side
        between 640 and 2,048 pixels, its aspect kept; below it is a band with words, at least 480 wide.

    Raises:
        ExportError: the map or the mask has another size than the image.
    """
    for part in (localization.heat, localization.mask):
        if part is not None and part.shape != image.shape:
            raise ExportError(
                f"the image has {image.shape[0]} x {image.shape[1]} pixels, its localization "
                f"{part.shape[0]} x {part.shape[1]}: it is of another image; localize it again"
            )
    image = hanging.undo(image)
    height, width = drawn_size(image.shape)
    drawn = np.rint(blend_heat(image, hanging.undo(localization.heat) if heat else None, width, height))
    overlay = drawn.astype(np.uint8)
    unit = max(width, height) / 640
    if localization.mask is not None:
        mask = hanging.undo(localization.mask).astype(np.float32)
        draw_outline(overlay, resize(mask, width, height) >= 0.5, unit)
    bar = scale_bar(image.shape[1], drawn_scale(image.shape), spacing)
    return add_band(overlay, (f"“{localization.phrase}”", localization.summary), bar, unit, _NARROWEST)


def draw_pairs(
    query: NDArray[np.float32], hit: NDArray[np.float32], found: DrawableCorrespondence
) -> NDArray[np.uint8]:
    """Draw the correspondence of two images, the query on the left: maps in colour, pairs as numbered boxes.

    Args:
        query: (height, width) float32 in [0, 1].
        hit: the same, of any size.
        found: of these two.

    Returns:
        (height', width', 3) uint8 RGB; "not for diagnosis" is part of it.
    """
    images = [
        _draw_boxes(query, found.query, [pair.query for pair in found.pairs]),
        _draw_boxes(hit, found.hit, [pair.hit for pair in found.pairs]),
    ]
    height = max(image.height for image in images)
    canvas = Image.new("RGB", (sum(image.width for image in images) + _GAP, height + _BAND), BAND_COLOUR)
    canvas.paste(images[0], (0, 0))
    canvas.paste(images[1], (images[0].width + _GAP, 0))
    caption = f"Boxes of one number correspond. {NOTICE}"
    ImageDraw.Draw(canvas).text((12, height + 12), caption, font=lettering(18), fill=TEXT_COLOUR)
    return np.asarray(canvas)


def _draw_boxes(image: NDArray[np.float32], heat: NDArray[np.float32], boxes: list[Box]) -> Image.Image:
    scale = CORRESPONDENCE_SIDE / max(image.shape)
    height, width = (max(1, round(side * scale)) for side in image.shape)
    drawn = Image.fromarray(np.rint(blend_heat(image, heat, width, height)).astype(np.uint8))
    draw = ImageDraw.Draw(drawn)
    for number, box in enumerate(boxes):
        corners = [scale * edge for edge in (box.left, box.top, box.right, box.bottom)]
        colour = _COLOURS[number % len(_COLOURS)]
        draw.rectangle(corners, outline=colour, width=3)
        draw.text(
            (corners[0] + 6, corners[1] + 3), str(number + 1), font=lettering(22),
            fill=colour, stroke_width=2, stroke_fill=DARK_EDGE,
        )  # fmt: skip
    return drawn
