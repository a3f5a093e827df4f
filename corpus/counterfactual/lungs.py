"""The lung fields of a normal frontal radiograph: the two dark fields in its middle.

Found by grey values, without a model. The method finds aerated lungs and returns nothing where it is not
certain, as on most radiographs with disease. It serves to draw lesions into normal radiographs; it is no
organ segmentation.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from skimage import filters, measure
from skimage.morphology import closing, dilation, disk, opening

from corpus.geometry import Framing

Mask = NDArray[np.bool_]
Pixels = NDArray[np.float32]

_SIZE = 256  # pixels along each side of the square that is searched
_MARGIN = 28  # pixels ignored by the threshold: collimators, letters, air beyond the body
_OFFSETS = (0.0, -0.04, 0.04, -0.08, 0.08, -0.12, 0.12, -0.16)  # tried around Otsu's threshold
_MIN_AREA, _MAX_AREA = 0.05, 0.24  # of the square, a lung
_MIN_HEIGHT = 85  # pixels of the square
_MIN_SOLIDITY = 0.70  # area over that of the convex hull
_MAX_RATIO = 2.0  # of the right lung's area to the left's; the heart takes from the left one
_MIN_RATIO = 0.6
_NOTCH = 8  # pixels of the square: largest width of the ribs that notch a field
_RIM = 3  # pixels from the threshold's outline to the lung's border
_WHITE = 0.95  # of the grey scale; an image with half its border whiter is framed, and frames have dark gaps
_MIN_ABREAST = 70  # rows of the square that both lungs reach


@dataclass(frozen=True, slots=True, eq=False)
class Lungs:
    """The visible lung fields, (height, width) bool each; right and left are the patient's."""

    right: Mask
    left: Mask


def find_lungs(image: Pixels) -> Lungs | None:
    """Return the lungs of a frontal radiograph, the patient's right on the image's left.

    Several thresholds are tried; the best formed pair of dark fields that lie side by side, one in each half,
    is taken.

    Args:
        image: (height, width) float32 in [0, 1], white is dense.

    Returns:
        The lungs, or None where no pair is formed like lungs.
    """
    if _is_framed_in_white(image):
        return None
    framing = Framing(_SIZE)
    square = _stretched(framing.apply(image))
    smooth = ndimage.gaussian_filter(square, 2.0)
    middle = smooth[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
    threshold = float(filters.threshold_otsu(middle))
    pairs = (_pair(smooth < threshold + offset) for offset in _OFFSETS)
    best = max((pair for pair in pairs if pair is not None), key=lambda pair: pair[0], default=None)
    if best is None:
        return None
    closed = [_closed(mask) for mask in best[1:]]
    if max(mask.mean() for mask in closed) > _MAX_AREA:  # a dark frame was closed over
        return None
    placement = framing.placement(*image.shape)
    inside = np.s_[
        placement.top : placement.top + placement.height, placement.left : placement.left + placement.width
    ]
    right, left = (_resized(mask[inside], image.shape) for mask in closed)
    return Lungs(right, left)


def _is_framed_in_white(image: Pixels) -> bool:
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    return bool((border > _WHITE).mean() >= 0.5)


def _stretched(square: Pixels) -> Pixels:
    low, high = np.quantile(square, [0.01, 0.99])
    stretched: Pixels = np.clip((square - low) / max(high - low, 1e-6), 0.0, 1.0)
    return stretched


def _pair(dark: Mask) -> tuple[float, Mask, Mask] | None:
    """Return a score of shape for the best pair of dark fields, and their masks; None without such a pair."""
    fields = measure.label(opening(dark, disk(3)), connectivity=1)
    lungs = [field for field in measure.regionprops(fields) if _is_formed_like_a_lung(field)]
    right = _largest(field for field in lungs if 0.15 < field.centroid[1] / _SIZE < 0.48)
    left = _largest(field for field in lungs if 0.52 < field.centroid[1] / _SIZE < 0.85)
    if right is None or left is None:
        return None
    abreast = min(right.bbox[2], left.bbox[2]) - max(right.bbox[0], left.bbox[0])
    if abreast < _MIN_ABREAST or not _MIN_RATIO < right.area / left.area < _MAX_RATIO:
        return None
    formed = right.solidity + left.solidity + (right.area + left.area) / _SIZE**2
    return float(formed), fields == right.label, fields == left.label


def _is_formed_like_a_lung(field: Any) -> bool:
    top, left, bottom, right = field.bbox
    beyond = top <= 1 or left <= 1 or bottom >= _SIZE - 1 or right >= _SIZE - 1  # air around the body
    return (
        not beyond
        and _MIN_AREA < field.area / _SIZE**2 < _MAX_AREA
        and bottom - top >= max(_MIN_HEIGHT, right - left)
        and 0.27 < field.centroid[0] / _SIZE < 0.74
        and field.solidity >= _MIN_SOLIDITY
    )


def _largest(fields: Iterable[Any]) -> Any | None:
    return max(fields, key=lambda field: field.area, default=None)


def _closed(mask: Mask) -> Mask:
    """Return the field grown to its border, with its holes and the notches of ribs and vessels filled."""
    margin = 2 * _NOTCH
    closed = closing(np.pad(mask, margin), disk(_NOTCH))
    filled: Mask = ndimage.binary_fill_holes(closed[margin:-margin, margin:-margin])
    grown: Mask = dilation(filled, disk(_RIM))
    return grown


def _resized(mask: Mask, shape: tuple[int, ...]) -> Mask:
    resized = Image.fromarray(mask.astype(np.float32))
    return np.asarray(resized.resize((shape[1], shape[0]), Image.Resampling.BILINEAR)) > 0.5
