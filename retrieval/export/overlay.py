"""A film with the outline of a region, for people to look at: film in grey, outline, scale, words.

What is written stands in a band below the film, so that it hides nothing of it, and "not for diagnosis" is
part of the pixels: the picture carries it wherever it goes.
"""

import io
import math
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from corpus.dicom.spacing import Spacing
from corpus.errors import ExportError
from corpus.orientation import AS_STORED, Hanging
from retrieval.localize.answer import Localization

NOTICE = "Research software. Not for diagnosis."

_SMALLEST, _LARGEST = 640, 2_048  # pixels of the longest side as drawn
_NARROWEST = 480  # pixels of the band, so that a strip of a film has legible words, too
_OUTLINE = (255, 196, 0)
_EDGE = (20, 20, 20)
_BAND = (16, 18, 22)
_TEXT = (236, 238, 242)
_QUIET = (168, 174, 184)
_WARM = np.array([[0, 0, 0], [140, 20, 60], [235, 90, 20], [255, 220, 90]], dtype=np.float32)
_HEAT_SHARE = 0.45  # of the colour where the map is 1


def draw_overlay(
    image: NDArray[np.float32],
    localization: Localization,
    *,
    heat: bool = False,
    spacing: Spacing | None = None,
    hanging: Hanging = AS_STORED,
) -> NDArray[np.uint8]:
    """Draw where a phrase is in a picture.

    Args:
        image: (height, width) float32 grey in [0, 1].
        localization: of that picture; without a mask its reason is written instead.
        heat: lay the map over the film as well.
        spacing: of the picture as it is drawn; makes the scale bar one in millimetres, which else counts the
            image's pixels.
        hanging: undone before anything is drawn, so that the picture lies as its source is stored.

    Returns:
        (height', width', 3) uint8 RGB. The film, at the top left, is enlarged or reduced to a longest side
        between 640 and 2,048 pixels, its aspect kept; below it is a band with words, at least 480 wide.

    Raises:
        ExportError: the map or the mask has another size than the picture.
    """
    for part in (localization.heat, localization.mask):
        if part is not None and part.shape != image.shape:
            raise ExportError(
                f"the picture has {image.shape[0]} x {image.shape[1]} pixels, its localization "
                f"{part.shape[0]} x {part.shape[1]}: it is of another picture; localize it again"
            )
    image = hanging.undo(image)
    scale = _scale(image.shape)
    height, width = drawn_size(image.shape)
    film = warmed(image, hanging.undo(localization.heat) if heat else None, width, height)
    shown = np.rint(film).astype(np.uint8)
    unit = max(width, height) / 640
    if localization.mask is not None:
        mask = hanging.undo(localization.mask).astype(np.float32)
        _outline(shown, _resized(mask, width, height) >= 0.5, unit)
    bar = _bar(image.shape[1], scale, spacing)
    return _with_band(shown, localization, bar, unit)


def png(overlay: NDArray[np.uint8] | NDArray[np.bool_]) -> bytes:
    """Return an RGB picture, or a mask of bools, as the content of a PNG file."""
    pixels = overlay.astype(np.uint8) * 255 if overlay.dtype == np.bool_ else overlay
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, "PNG")
    return written.getvalue()


@dataclass(frozen=True, slots=True)
class _Bar:
    """The scale bar: its length as drawn, in pixels of the overlay, and its label."""

    length: float
    label: str


def drawn_size(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the height and width that a picture of this height and width has in its overlay."""
    height, width = (max(1, round(side * _scale(shape))) for side in shape)
    return height, width


def _scale(shape: tuple[int, ...]) -> float:
    longest = max(shape)
    return min(max(longest, _SMALLEST), _LARGEST) / longest


def _resized(plane: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    picture = Image.fromarray(np.ascontiguousarray(plane, dtype=np.float32))
    drawn = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR), dtype=np.float32)
    return np.clip(drawn, np.float32(0), np.float32(1))


def warmed(
    image: NDArray[np.float32], heat: NDArray[np.float32] | None, width: int, height: int
) -> NDArray[np.float32]:
    """A grey picture of another size, (height, width, 3) in [0, 255], a map laid over it in colour."""
    film = np.repeat(_resized(image, width, height)[..., np.newaxis], 3, axis=2) * 255
    if heat is None:
        return film
    warm = _resized(heat, width, height)
    stops = np.linspace(0, 1, len(_WARM))
    colour = np.stack([np.interp(warm, stops, _WARM[:, channel]) for channel in range(3)], axis=2)
    share = (_HEAT_SHARE * warm)[..., np.newaxis]
    mixed: NDArray[np.float32] = (film * (1 - share) + colour * share).astype(np.float32)
    return mixed


def _outline(film: NDArray[np.uint8], mask: NDArray[np.bool_], unit: float) -> None:
    """Draw around the mask, never inside it: what is outlined stays to be seen."""
    thickness = max(1, round(1.6 * unit))
    away = ndimage.distance_transform_edt(~mask) if mask.any() else np.full(mask.shape, np.inf)
    film[(away > 0) & (away <= 2 * thickness)] = _EDGE  # dark around bright: seen on any film
    film[(away > 0) & (away <= thickness)] = _OUTLINE


def _bar(columns: int, scale: float, spacing: Spacing | None) -> _Bar:
    """The longest round length that is no more than a third of the film's width."""
    per_unit = scale if spacing is None else scale / spacing.across
    most = columns * scale / 3 / per_unit
    power = 10.0 ** math.floor(math.log10(most))
    length = next(step * power for step in (5, 2, 1) if step * power <= most)
    if spacing is None:
        return _Bar(length * per_unit, f"{length:g} pixels of the image")
    return _Bar(length * per_unit, f"{length:g} mm" + (" at the detector" if spacing.at_detector else ""))


def _with_band(
    film: NDArray[np.uint8], localization: Localization, bar: _Bar, unit: float
) -> NDArray[np.uint8]:
    height, width = film.shape[0], max(film.shape[1], _NARROWEST)
    size = max(9, round(min(15 * unit, width / 24)))
    font, line, margin = lettering(size), round(size * 1.4), size
    room = width - 2 * margin
    told = localization.reason if localization.mask is None else localization.words
    rows = [(text, _TEXT) for text in _wrapped(f"“{localization.phrase}”", font, room)]
    rows += [(text, _TEXT) for text in _wrapped(told or "", font, room)]
    rows += [(text, _QUIET) for text in _wrapped(NOTICE, font, room)]
    picture = Image.new("RGB", (width, height + margin * 2 + line * (len(rows) + 1) + size // 2), _BAND)
    picture.paste(Image.fromarray(film), (0, 0))
    draw = ImageDraw.Draw(picture)
    top = height + margin
    middle = top + line // 2
    tick = max(3, size // 3)
    end = margin + round(bar.length)
    draw.line([(margin, middle), (end, middle)], fill=_TEXT, width=max(1, round(unit)))
    for x in (margin, end):
        draw.line([(x, middle - tick), (x, middle + tick)], fill=_TEXT, width=max(1, round(unit)))
    draw.text((end + size, top), bar.label, font=font, fill=_QUIET)
    for number, (text, colour) in enumerate(rows, 1):
        draw.text((margin, top + size // 2 + line * number), text, font=font, fill=colour)
    return np.asarray(picture)


def _wrapped(text: str, font: ImageFont.FreeTypeFont, room: int, most: int = 3) -> list[str]:
    """Break a text into lines that fit; what needs more than `most` lines ends in a sign of it."""
    words = "".join(c if c.isprintable() else " " for c in text[:1_000]).split()
    lines: list[str] = []
    for word in words:
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= room:
            lines[-1] = longer
        else:
            lines.append(_cut(word, font, room))
    if len(lines) > most:
        lines = [*lines[: most - 1], _cut(" ".join(lines[most - 1 :]), font, room)]
    return lines


def _cut(text: str, font: ImageFont.FreeTypeFont, room: int) -> str:
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(text + "…") > room:
        text = text[:-1]
    return text + "…"


@lru_cache(maxsize=16)
def lettering(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib brings: it has the letters of most languages, Pillow's own has not."""
    found = find_spec("matplotlib")
    if found is None or found.origin is None:
        raise ExportError("the overlay's font is missing: install matplotlib again")
    return ImageFont.truetype(Path(found.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf", size)
