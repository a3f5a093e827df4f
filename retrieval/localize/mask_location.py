"""The location of a mask in the terms of a report: laterality, zone, and the share of the lung it covers.

Laterality is the patient's: on a frontal radiograph the patient's right is on the left of the image. Without
masks of the lungs the image is halved and divided into thirds, and the words state it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from corpus.language.concepts import MIDLINE
from retrieval.localize.answer import MaskLaterality

Mask = NDArray[np.bool_]
Lungs = Mapping[MaskLaterality, Mask]
"""`right` and `left`: (height, width) bool of the patient's lungs."""

MINOR = 0.2
"""A mask with at least this share of its pixels on the smaller side is on both sides."""
_ZONES = ("upper", "mid", "lower")
_ZONE_SHARE = 0.3  # of the mask's pixels, from which a zone is named


@dataclass(frozen=True, slots=True)
class MaskLocation:
    """Where a mask is.

    `laterality`: the patient's side.
    `zone`: "lower zone".
    `share`: in [0, 1], of the lung or the half of the image that the mask covers.
    `words`: all three in one phrase.
    """

    laterality: MaskLaterality
    zone: str
    share: float
    words: str


def locate(mask: Mask, finding: str | None = None, lungs: Lungs | None = None) -> MaskLocation:
    """Return the location of a mask.

    Args:
        mask: (height, width) bool, not empty.
        finding: one of the midline (cardiomegaly, …) is described by its share of the image alone.
        lungs: masks of both lungs, where they are known; else halves of the image stand for them.
    """
    side = laterality_of(mask)
    fields = lungs if lungs is not None else _halves(mask.shape)
    covered = tuple(fields[one] for one in (("right", "left") if side == "both" else (side,)))
    field = np.logical_or.reduce(covered)
    share = _portion(mask & field, field)
    zone = _zone(mask, field)
    percent = "under 1 %" if share < 0.01 else f"{100 * share:.0f} %"
    if finding in MIDLINE:
        whole = _portion(mask, np.ones_like(mask))
        return MaskLocation(side, zone, whole, f"around the middle, {100 * whole:.0f} % of the image")
    if lungs is not None:
        area = "both lungs" if side == "both" else f"the {side} lung"
    else:
        area = "the image" if side == "both" else f"the {side} half of the image"
    region = f"{zone} of both sides" if side == "both" else f"{side} {zone}"
    return MaskLocation(side, zone, share, f"{region}, {percent} of {area}")


def laterality_of(mask: Mask) -> MaskLaterality:
    """The patient's side that a mask, which is not empty, is on."""
    columns = mask.sum(axis=0)
    centres = np.arange(mask.shape[1]) + 0.5
    # A column in the very middle counts half on either side.
    weights = np.where(centres < mask.shape[1] / 2, 1.0, np.where(centres > mask.shape[1] / 2, 0.0, 0.5))
    on_right = float((columns * weights).sum() / columns.sum())
    if MINOR <= on_right <= 1 - MINOR:
        return "both"
    return "right" if on_right > 0.5 else "left"


def _portion(part: Mask, whole: Mask) -> float:
    pixels = int(np.count_nonzero(whole))
    return int(np.count_nonzero(part)) / pixels if pixels else 0.0


def _halves(shape: tuple[int, ...]) -> Lungs:
    on_left = np.broadcast_to((np.arange(shape[1]) + 0.5 < shape[1] / 2)[None, :], shape)
    return {"right": on_left, "left": ~on_left}


def _zone(mask: Mask, field: Mask) -> str:
    """The thirds of the field's height that contain a good part of the mask."""
    rows = np.flatnonzero(field.any(axis=1))
    top, bottom = (rows[0], rows[-1] + 1) if rows.size else (0, mask.shape[0])
    pixels = mask.sum(axis=1)
    third = np.clip((np.arange(mask.shape[0]) + 0.5 - top) * 3 // max(1, bottom - top), 0, 2).astype(int)
    shares = np.bincount(third, weights=pixels, minlength=3) / pixels.sum()
    named = [name for name, share in zip(_ZONES, shares, strict=True) if share >= _ZONE_SHARE]
    named = named or [_ZONES[int(shares.argmax())]]
    if len(named) == 1:
        return f"{named[0]} zone"
    return f"{', '.join(named[:-1])} and {named[-1]} zones"
