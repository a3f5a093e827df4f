"""Masks from maps: random field, threshold, specks removed, regions bounded in size; and their boxes."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from corpus.dicom.spacing import Spacing
from corpus.findings import VOCABULARY
from corpus.geometry import Box
from retrieval.localize.refine.crf import refine_maps

Mask = NDArray[np.bool_]

LEVEL = 0.6
"""Of a map between its background and its peak: the level at which inside and outside are equally likely. A
higher one would suit small findings, with maps that extend beyond them, a lower one broad findings."""
ASSUMED_FIELD_MM = 380.0
"""Assumed length of an image's longer side, where a size in mm is needed and the pixel spacing is unknown: an
adult's chest."""
LEAST_SHARE = 0.1
"""A component smaller than this share of the largest is a speck."""
_NEIGHBOURS = np.ones((3, 3), dtype=bool)  # corners touch


def clean_masks(
    image: NDArray[np.float32],
    heats: Sequence[NDArray[np.float32]],
    findings: Sequence[str | None],
    spacing: Spacing | None = None,
) -> list[Mask]:
    """Return the masks of maps of one image.

    Args:
        image: (height, width) float32 grey in [0, 1].
        heats: (height, width) float32 in [0, 1] each.
        findings: of each map, None for one outside the vocabulary. The largest size of a finding bounds its
            regions.
        spacing: of the image's pixels; where it is unknown, the longer side is taken for `ASSUMED_FIELD_MM`.

    Returns:
        (height, width) bool each; the map's own peak is in it where the random field leaves nothing.
    """
    if not heats:
        return []
    raised = [above_background(heat) for heat in heats]
    likely = np.stack(raised) ** np.float32(math.log(0.5) / math.log(LEVEL))
    inside = refine_maps(image, likely) >= 0.5
    masks = []
    for mask, heat, finding in zip(inside, raised, findings, strict=True):
        clean = drop_specks(mask if mask.any() else heat >= LEVEL)
        largest = VOCABULARY.largest_mm(finding)
        masks.append(clean if largest is None else _within(clean, heat, _disc(largest, image.shape, spacing)))
    return masks


def largest_pixels(finding: str | None, shape: tuple[int, ...], spacing: Spacing | None) -> float | None:
    """The largest diameter of a finding by definition, in pixels of the image; None without a bound.

    Args:
        finding: of the vocabulary, or None.
        shape: height and width of the image.
        spacing: as for `clean_masks`.
    """
    largest = VOCABULARY.largest_mm(finding)
    return None if largest is None else largest / math.sqrt(_pixel_area(shape, spacing))


def largest_region(mask: Mask) -> int:
    """Pixels of the largest component of a mask; 0 of an empty one."""
    labels, _ = ndimage.label(mask, structure=_NEIGHBOURS)
    return int(np.bincount(labels.ravel())[1:].max(initial=0))


def _pixel_area(shape: tuple[int, ...], spacing: Spacing | None) -> float:
    return (ASSUMED_FIELD_MM / max(shape)) ** 2 if spacing is None else spacing.pixel_area


def _disc(diameter: float, shape: tuple[int, ...], spacing: Spacing | None) -> float:
    """Pixels of a disc with a diameter in mm."""
    return math.pi / 4 * diameter**2 / _pixel_area(shape, spacing)


def _within(mask: Mask, heat: NDArray[np.float32], pixels: float) -> Mask:
    """The mask at the lowest level at which no component covers more than so many pixels.

    Over a small finding, a map of patches is as wide as a patch's receptive field. A component below that
    level is no second finding.
    """
    most = max(1, round(pixels))
    labels, _ = ndimage.label(mask, structure=_NEIGHBOURS)
    level = 0.0
    for number, around in enumerate(ndimage.find_objects(labels), 1):
        warmth = heat[around][labels[around] == number]
        if len(warmth) > most:
            level = max(level, float(np.partition(warmth, -most)[-most]))
    return drop_specks(mask & (heat >= level))


def above_background(heat: NDArray[np.float32]) -> NDArray[np.float32]:
    """A map in [0, 1] with its median as zero and its maximum unchanged.

    Values that half of the image exceeds are background, however far below them the map falls elsewhere. A
    map that is level above its median is returned unchanged.
    """
    middle, high = float(np.median(heat)), float(heat.max())
    if not high - middle > 1e-6:
        return heat
    raised: NDArray[np.float32] = np.clip((heat - np.float32(middle)) / np.float32(high - middle), 0, 1)
    return raised * np.float32(high)


def drop_specks(mask: Mask) -> Mask:
    """The components with at least `LEAST_SHARE` of the largest one's pixels."""
    labels, count = ndimage.label(mask, structure=_NEIGHBOURS)
    if count <= 1:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    large: Mask = np.isin(labels, np.flatnonzero(sizes >= LEAST_SHARE * sizes.max()))
    return large


def boxes_of(mask: Mask) -> tuple[Box, ...]:
    """The boxes of a mask's components, largest component first."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return ()
    top, left = int(rows[0]), int(columns[0])
    # An image has many times the pixels of a finding: only the rectangle around the mask is labelled.
    labels, _ = ndimage.label(mask[top : rows[-1] + 1, left : columns[-1] + 1], structure=_NEIGHBOURS)
    sizes = np.bincount(labels.ravel())[1:]
    boxes = [
        Box(left + across.start, top + down.start, left + across.stop, top + down.stop)
        for down, across in ndimage.find_objects(labels)
    ]
    return tuple(boxes[number] for number in np.argsort(-sizes, kind="stable"))
