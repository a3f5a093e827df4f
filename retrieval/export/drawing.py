"""Drawing with arrays alone: resizing, heat colours, outline, scale bar, lettering, PNG and HTML.

This module imports no answer class. What is drawn of an answer is in `retrieval.export.overlay`.
"""

import base64
import io
import math
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from corpus.dicom.spacing import Spacing
from corpus.errors import ExportError

NOTICE = "Research software. Not for diagnosis."
TEXT_COLOUR = (236, 238, 242)
BAND_COLOUR = (16, 18, 22)
HIGHLIGHT = (255, 196, 0)
DARK_EDGE = (20, 20, 20)

_SMALLEST, _LARGEST = 640, 2_048  # pixels of the longest side as drawn
_QUIET = (168, 174, 184)
_WARM = np.array([[0, 0, 0], [140, 20, 60], [235, 90, 20], [255, 220, 90]], dtype=np.float32)
_HEAT_SHARE = 0.45  # of the colour where the map is 1


def png(pixels: NDArray[np.uint8] | NDArray[np.bool_]) -> bytes:
    """Return an image, (height, width) grey or bool or (height, width, 3) RGB, as a PNG file's content."""
    values = pixels.astype(np.uint8) * 255 if pixels.dtype == np.bool_ else pixels
    written = io.BytesIO()
    Image.fromarray(values).save(written, "PNG")
    return written.getvalue()


def image_html(pixels: NDArray[np.uint8]) -> str:
    """Return an image, (height, width) grey or (height, width, 3) RGB, as an element with its own data."""
    return f'<img alt="" src="data:image/png;base64,{base64.b64encode(png(pixels)).decode()}">'


def drawn_size(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the height and width that an image of this height and width has in its overlay."""
    height, width = (max(1, round(side * drawn_scale(shape))) for side in shape)
    return height, width


def drawn_scale(shape: tuple[int, ...]) -> float:
    """Return the overlay's pixels per pixel of an image of this height and width."""
    longest = max(shape)
    return min(max(longest, _SMALLEST), _LARGEST) / longest


def resize(plane: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    """Return a (rows, columns) plane in [0, 1] as (height, width), bilinear."""
    image = Image.fromarray(np.ascontiguousarray(plane, dtype=np.float32))
    resized = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR), dtype=np.float32)
    return np.clip(resized, np.float32(0), np.float32(1))


def blend_heat(
    image: NDArray[np.float32], heat: NDArray[np.float32] | None, width: int, height: int
) -> NDArray[np.float32]:
    """Return a grey image at another size, (height, width, 3) in [0, 255], with a map over it in colour."""
    grey = np.repeat(resize(image, width, height)[..., np.newaxis], 3, axis=2) * 255
    if heat is None:
        return grey
    warm = resize(heat, width, height)
    stops = np.linspace(0, 1, len(_WARM))
    colour = np.stack([np.interp(warm, stops, _WARM[:, channel]) for channel in range(3)], axis=2)
    share = (_HEAT_SHARE * warm)[..., np.newaxis]
    mixed: NDArray[np.float32] = (grey * (1 - share) + colour * share).astype(np.float32)
    return mixed


def draw_outline(image: NDArray[np.uint8], mask: NDArray[np.bool_], unit: float) -> None:
    """Draw around a mask, never inside it, so that the outlined region stays visible.

    Args:
        image: (height, width, 3) uint8, drawn into.
        mask: (height, width) bool.
        unit: pixels of a thin line.
    """
    thickness = max(1, round(1.6 * unit))
    away = ndimage.distance_transform_edt(~mask) if mask.any() else np.full(mask.shape, np.inf)
    image[(away > 0) & (away <= 2 * thickness)] = DARK_EDGE  # dark around bright: visible on any image
    image[(away > 0) & (away <= thickness)] = HIGHLIGHT


def scale_bar(columns: int, scale: float, spacing: Spacing | None) -> tuple[float, str]:
    """Return the length of a scale bar in pixels as drawn, and its label.

    The bar has the longest round length that is no more than a third of the image's width.

    Args:
        columns: of the image.
        scale: pixels as drawn per pixel of the image.
        spacing: millimetres of the image's pixels; None: the bar counts pixels.
    """
    per_unit = scale if spacing is None else scale / spacing.across
    most = columns * scale / 3 / per_unit
    power = 10.0 ** math.floor(math.log10(most))
    length = next(step * power for step in (5, 2, 1) if step * power <= most)
    if spacing is None:
        return length * per_unit, f"{length:g} pixels of the image"
    return length * per_unit, f"{length:g} mm" + (" at the detector" if spacing.at_detector else "")


def add_band(
    image: NDArray[np.uint8], texts: tuple[str, ...], bar: tuple[float, str], unit: float, narrowest: int
) -> NDArray[np.uint8]:
    """Return an image with a band below it: scale bar, texts and `NOTICE`.

    Args:
        image: (height, width, 3) uint8.
        texts: each begins a line and is wrapped.
        bar: as `scale_bar` gives it.
        unit: pixels of a thin line.
        narrowest: width of the band, at least, so that a narrow image has legible words, too.
    """
    height, width = image.shape[0], max(image.shape[1], narrowest)
    size = max(9, round(min(15 * unit, width / 24)))
    font, line, margin = lettering(size), round(size * 1.4), size
    room = width - 2 * margin
    rows = [(row, TEXT_COLOUR) for text in texts for row in _wrap(text, font, room)]
    rows += [(row, _QUIET) for row in _wrap(NOTICE, font, room)]
    canvas = Image.new("RGB", (width, height + margin * 2 + line * (len(rows) + 1) + size // 2), BAND_COLOUR)
    canvas.paste(Image.fromarray(image), (0, 0))
    draw = ImageDraw.Draw(canvas)
    top = height + margin
    middle = top + line // 2
    tick = max(3, size // 3)
    length, label = bar
    end = margin + round(length)
    draw.line([(margin, middle), (end, middle)], fill=TEXT_COLOUR, width=max(1, round(unit)))
    for x in (margin, end):
        draw.line([(x, middle - tick), (x, middle + tick)], fill=TEXT_COLOUR, width=max(1, round(unit)))
    draw.text((end + size, top), label, font=font, fill=_QUIET)
    for number, (row, colour) in enumerate(rows, 1):
        draw.text((margin, top + size // 2 + line * number), row, font=font, fill=colour)
    return np.asarray(canvas)


def _wrap(text: str, font: ImageFont.FreeTypeFont, room: int, most: int = 3) -> list[str]:
    """Break a text into lines that fit; a text of more than `most` lines ends in an ellipsis."""
    words = "".join(c if c.isprintable() else " " for c in text[:1_000]).split()
    lines: list[str] = []
    for word in words:
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= room:
            lines[-1] = longer
        else:
            lines.append(_shorten(word, font, room))
    if len(lines) > most:
        lines = [*lines[: most - 1], _shorten(" ".join(lines[most - 1 :]), font, room)]
    return lines


def _shorten(text: str, font: ImageFont.FreeTypeFont, room: int) -> str:
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(text + "…") > room:
        text = text[:-1]
    return text + "…"


@lru_cache(maxsize=16)
def lettering(size: int) -> ImageFont.FreeTypeFont:
    """Return DejaVu Sans of matplotlib, which has the letters of most languages, unlike Pillow's own font."""
    found = find_spec("matplotlib")
    if found is None or found.origin is None:
        raise ExportError("the overlay's font is missing: install matplotlib again")
    return ImageFont.truetype(Path(found.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf", size)
