"""DICOM values to what a radiologist sees: one function for each step of the standard, the section cited.

The order is the standard's (PS3.4 N.2): modality transform, then value-of-interest transform, then the
presentation's polarity. Every step works value by value, so a film of 16-bit values is rendered through one
table of at most 65,536 entries rather than pixel by pixel.
"""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

log = logging.getLogger(__name__)

Count = Callable[[], NDArray[Any]]

_TABLE_VALUES = 1 << 16
_OUTLYING = 0.005  # share of pixels at either end left out where no window says what matters


def to_grey(stored: NDArray[Any], dataset: Dataset) -> NDArray[np.float32]:
    """Turn stored values into grey in [0, 1] by the header's transforms.

    Args:
        stored: (height, width) numbers, or (height, width, 3) red, green, blue.
        dataset: the header.
    """
    if stored.ndim == 3:
        return _luminance(stored, dataset)
    if stored.dtype.kind == "f":
        return _render_floats(stored.astype(np.float64), dataset)
    low, high = int(stored.min()), int(stored.max())
    if high - low >= _TABLE_VALUES:
        return _render_floats(stored.astype(np.float64), dataset)
    offsets = (
        stored.astype(np.int64) - low
        if low < 0 or stored.dtype.itemsize > 2
        else stored - stored.dtype.type(low)
    )
    values = np.arange(low, high + 1, dtype=np.float64)
    shades = grey_of(values, dataset, lambda: np.bincount(offsets.ravel(), minlength=high - low + 1))
    return np.take(shades, offsets, mode="clip")  # every offset fits; unchecked it takes a sixth of the time


def _render_floats(stored: NDArray[np.float64], dataset: Dataset) -> NDArray[np.float32]:
    known = np.isfinite(stored)
    if not known.any():
        return np.zeros(stored.shape, dtype=np.float32)
    values = np.where(known, stored, stored[known].min())
    return np.where(known, grey_of(values, dataset, lambda: np.ones(values.shape)), np.float32(0))


def grey_of(values: NDArray[np.float64], dataset: Dataset, count: Count) -> NDArray[np.float32]:
    """Run the whole chain (PS3.4 N.2) over stored values, whatever their shape.

    Args:
        values: stored values.
        dataset: the header.
        count: tells how many pixels have each value, in the shape of `values`; asked only without a window.

    Returns:
        Grey in [0, 1], in the shape of `values`.
    """
    padding = is_padding(values, dataset)

    def count_picture() -> NDArray[Any]:
        seen = np.where(padding, 0, count())
        return seen if seen.any() else count()

    grey = apply_voi(apply_modality(values, dataset), dataset, count_picture)
    if is_inverse(dataset):
        grey = 1.0 - grey
    return np.where(padding, 0.0, np.clip(grey, 0.0, 1.0)).astype(np.float32)


def apply_modality(values: NDArray[np.float64], dataset: Dataset) -> NDArray[np.float64]:
    """Apply the modality LUT, else rescale slope and intercept (PS3.3 C.11.1)."""
    table = _read_table(dataset, "ModalityLUTSequence", values)
    if table is not None:
        first, entries = table
        return _look_up(values, first, entries)
    slope, intercept = _number(dataset, "RescaleSlope"), _number(dataset, "RescaleIntercept")
    return values * (1.0 if slope is None or slope == 0 else slope) + (intercept or 0.0)


def apply_voi(values: NDArray[np.float64], dataset: Dataset, count: Count) -> NDArray[np.float64]:
    """Apply the VOI LUT, else the first window, else the range that occurs (PS3.3 C.11.2).

    Returns:
        Values that are 0 at the dark end and 1 at the bright end; beyond them where the range clips.
    """
    table = _read_table(dataset, "VOILUTSequence", values)
    if table is not None:
        first, entries = table
        # Descriptors often promise 16 bits for tables of 12: the entries themselves say what white is.
        white = float((1 << max(8, int(entries.max()).bit_length())) - 1)
        return _look_up(values, first, entries) / white
    centre, width = _number(dataset, "WindowCenter"), _number(dataset, "WindowWidth")
    function = str(dataset.get("VOILUTFunction") or "LINEAR").strip().upper()
    if centre is not None and width is not None and width >= (1.0 if function == "LINEAR" else 1e-9):
        return apply_window(values, centre, width, function)
    if "WindowCenter" in dataset or "WindowWidth" in dataset:
        log.debug("window ignored: centre %s, width %s are no window", centre, width)
    return _stretch(values, dataset, count)


def apply_window(
    values: NDArray[np.float64], centre: float, width: float, function: str = "LINEAR"
) -> NDArray[np.float64]:
    """Map a window to [0, 1] (PS3.3 C.11.2.1.2 LINEAR, C.11.2.1.3.1 SIGMOID, C.11.2.1.3.2 LINEAR_EXACT).

    Args:
        values: modality values.
        centre: the window's centre.
        width: its width: at least 1 for LINEAR, above 0 for the others.
        function: LINEAR, LINEAR_EXACT or SIGMOID; anything else counts as LINEAR.
    """
    if function == "SIGMOID":
        sigmoid: NDArray[np.float64] = 1.0 / (
            1.0 + np.exp(np.clip(-4.0 * (values - centre) / width, -700, 700))
        )
        return sigmoid
    if function == "LINEAR_EXACT":
        return np.clip((values - centre) / width + 0.5, 0.0, 1.0)
    if width == 1.0:
        return np.where(values <= centre - 0.5, 0.0, 1.0)
    return np.clip((values - (centre - 0.5)) / (width - 1.0) + 0.5, 0.0, 1.0)


def is_inverse(dataset: Dataset) -> bool:
    """Tell whether low values are bright (PS3.3 C.7.6.3.1.2 MONOCHROME1, C.8.11.3 PresentationLUTShape).

    The two say the same thing twice: either inverts, both together invert once.
    """
    return (
        str(dataset.get("PhotometricInterpretation", "")).strip() == "MONOCHROME1"
        or str(dataset.get("PresentationLUTShape", "")).strip() == "INVERSE"
    )


def is_padding(values: NDArray[np.float64], dataset: Dataset) -> NDArray[np.bool_]:
    """Tell which stored values mean "no picture here" (PS3.3 C.7.5.1.1.2, a value or a range)."""
    first = _number(dataset, "PixelPaddingValue")
    if first is None:
        return np.zeros(values.shape, dtype=bool)
    last = _number(dataset, "PixelPaddingRangeLimit")
    low, high = sorted((first, first if last is None else last))
    return (values >= low) & (values <= high)


def _stretch(values: NDArray[np.float64], dataset: Dataset, count: Count) -> NDArray[np.float64]:
    """Without a window: 8-bit values as they are, others over the range that all but 1 % of pixels have."""
    transformed = "ModalityLUTSequence" in dataset or _number(dataset, "RescaleSlope") not in (None, 1.0)
    if _number(dataset, "BitsStored") == 8 and not transformed and not dataset.get("PixelRepresentation"):
        return values / 255.0
    counts = count()
    order = np.argsort(values, axis=None)
    ranked = values.ravel()[order]
    share = np.cumsum(counts.ravel()[order], dtype=np.float64)
    share /= share[-1]
    low = ranked[min(int(np.searchsorted(share, _OUTLYING, side="right")), ranked.size - 1)]
    high = ranked[min(int(np.searchsorted(share, 1.0 - _OUTLYING)), ranked.size - 1)]
    if high <= low:  # nearly all pixels have one value: the whole range, then
        occurring = ranked[counts.ravel()[order] > 0]
        low, high = occurring[0], occurring[-1]
    stretched: NDArray[np.float64] = (values - low) / (high - low if high > low else 1.0)
    return stretched


def _read_table(
    dataset: Dataset, sequence: str, values: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64]] | None:
    """Return a look-up table's first mapped value and its entries (PS3.3 C.11.1.1.1), None without one."""
    items = dataset.get(sequence)
    if not items:
        return None
    entry_count, first, bits = (int(number) for number in items[0].LUTDescriptor)
    data = items[0].LUTData
    if isinstance(data, bytes):
        data = np.frombuffer(data, dtype="<u2")
    entries = np.atleast_1d(np.asarray(data, dtype=np.float64))[: (entry_count or _TABLE_VALUES)]
    if entries.size == 0 or entries.min() == entries.max():
        log.debug("%s ignored: it maps everything to one value (%s bits)", sequence, bits)
        return None
    # A descriptor read as unsigned where pixels are signed: 0xF800 is −2048 (PS3.3 C.11.1.1.1).
    if values.min() < 0 and first > 32767:
        first -= 65536
    return float(first), entries


def _look_up(values: NDArray[np.float64], first: float, entries: NDArray[np.float64]) -> NDArray[np.float64]:
    """Map values by a table; what lies before or after it takes its first or last entry."""
    places = np.clip(np.rint(values - first), 0, entries.size - 1).astype(np.intp)
    return entries[places]


def _luminance(stored: NDArray[Any], dataset: Dataset) -> NDArray[np.float32]:
    """Luminance of red, green, blue (ITU-R BT.601), white at the top of the values' bits."""
    palette = dataset.get("PhotometricInterpretation") == "PALETTE COLOR"
    bits = 8 * stored.dtype.itemsize if palette else int(dataset.get("BitsStored") or 8)
    weights = np.array([0.299, 0.587, 0.114], dtype=np.float32)
    grey: NDArray[np.float32] = stored[..., :3].astype(np.float32) @ weights / np.float32((1 << bits) - 1)
    return np.clip(grey, np.float32(0), np.float32(1))


def _number(dataset: Dataset, keyword: str) -> float | None:
    """Return an element's first value, or None where it is absent or no finite number."""
    try:
        value = dataset.get(keyword)
        first = value if isinstance(value, (int, float, str)) or value is None else value[0]
        number = None if first is None else float(first)
    except (TypeError, ValueError, IndexError, ArithmeticError):
        return None
    return number if number is not None and np.isfinite(number) else None
