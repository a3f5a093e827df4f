"""Display transforms of DICOM values: one function for each step of the standard, the section cited.

The order is the standard's (PS3.4 N.2): modality transform, then value-of-interest transform, then the
presentation's polarity. Every step works value by value, so an image of 16-bit values is rendered through one
table of at most 65,536 entries rather than pixel by pixel. Look-up tables of a header: PS3.3 C.11.1.1.1,
C.11.2.1.1.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from corpus.dicom.elements import Undecodable, named, number_of, numbers_of, photometric_of, text_of
from corpus.images.plane import Plane
from corpus.resize import parts_of

MOST_ENTRIES = 1 << 16


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A look-up table.

    `first`: the value that maps to the first entry.
    `entries`: float64, one axis.
    """

    first: float
    entries: NDArray[np.float64]

    @property
    def level(self) -> bool:
        """Whether it maps everything to one value."""
        return bool(self.entries.min() == self.entries.max())

    def look_up(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map values; values before or after the table take its first or last entry."""
        indices = np.clip(np.rint(values - self.first), 0, self.entries.size - 1).astype(np.intp)
        return self.entries[indices]


def read_tables(dataset: Dataset, sequence: str, values: NDArray[np.float64]) -> list[Table]:
    """Return the tables of a sequence, in its order.

    Args:
        dataset: the header.
        sequence: `ModalityLUTSequence` or `VOILUTSequence`.
        values: the values to be mapped; they decide whether a first mapped value is below zero.

    Raises:
        Undecodable: a table has no readable descriptor or data.
    """
    return [_read(dataset, sequence, item, values) for item in dataset.get(sequence) or ()]


def _read(dataset: Dataset, sequence: str, item: Dataset, values: NDArray[np.float64]) -> Table:
    descriptor = numbers_of(item, "LUTDescriptor")
    if len(descriptor) != 3 or None in descriptor:
        raise Undecodable(f"has a {named(sequence)} without a {named('LUTDescriptor')}: export it again")
    count, first, bits = (int(number or 0) for number in descriptor)
    # Each is written as US or SS, and often read as the other: counts and bits are never below zero.
    entries = _entries(dataset, item, (count & 0xFFFF) or MOST_ENTRIES, bits & 0xFFFF)
    if entries.size == 0:
        raise Undecodable(f"has a {named(sequence)} without {named('LUTData')}: export it again")
    return Table(_first(dataset, first, values), entries)


def _first(dataset: Dataset, first: int, values: NDArray[np.float64]) -> float:
    """Return the first mapped value; 0xF800 read as unsigned where values are signed is −2048."""
    signed = number_of(dataset, "PixelRepresentation") == 1 or values.min() < 0
    if first > 0x7FFF and (signed or values.max() < first):
        first -= 0x10000
    return float(first)


def _entries(dataset: Dataset, item: Dataset, count: int, bits: int) -> NDArray[np.float64]:
    """Return the entries present, `count` at most: bytes, words, or two bytes packed in each word."""
    if "LUTData" not in item or item["LUTData"].value is None:
        return np.empty(0)
    data: Any = item["LUTData"].value
    if isinstance(data, bytes):
        little = dataset.original_encoding[1] is not False
        # Data of one byte an entry can only be bytes, whatever the descriptor says of bits.
        packed = len(data) in (count, count + count % 2) or (bits <= 8 and len(data) <= count + 1)
        if item["LUTData"].VR == "OB" and packed:
            return np.frombuffer(data, np.uint8)[:count].astype(np.float64)
        words = np.frombuffer(data[: len(data) // 2 * 2], "<u2" if little else ">u2")
    else:
        words = np.asarray(list(data) if isinstance(data, Sequence) else [data]).astype(np.int64) & 0xFFFF
        packed = 2 * words.size == count + count % 2 or (
            bits <= 8 and words.size < count and 2 * words.size <= count + 1
        )
    if packed:  # the low byte comes first (PS3.3 C.11.1.1.1)
        words = np.stack([words & 0xFF, words >> 8], axis=1).ravel()
    return words[:count].astype(np.float64)


Note = Callable[[str], None]
"""Receives a clause that follows the image's name: what of its header was not followed, and the
replacement.
"""

_OUTLYING = 0.005  # share of pixels ignored at either end where the header has no window
_DARKEST, _BRIGHTEST = 0.01, 0.99  # quantiles of the pixels between which contrast is required
_COUNTED_ROWS = 8  # one in so many
_MIN_CONTRAST = 32 / 256  # from black to white; a 16-bit window on 12-bit values leaves 16
_LEVELS = 256


class Counts:
    """The number of pixels of each value, counted when a step of the chain first needs it."""

    def __init__(self, count: Callable[[int], NDArray[Any]], pixels: int, padding: NDArray[np.bool_]) -> None:
        """Count nothing yet.

        Args:
            count: returns the number of pixels of each value in every n-th row.
            pixels: of the image.
            padding: which values are not counted, unless there are no others.
        """
        self._count, self.pixels, self._padding = count, pixels, padding
        self._every: NDArray[Any] | None = None

    def every(self) -> NDArray[Any]:
        """Return the number of pixels of each value."""
        if self._every is None:
            counted = self._count(1)
            seen = np.where(self._padding, 0, counted)
            self._every = seen if seen.any() else counted
        return self._every

    def some(self) -> NDArray[Any]:
        """Return the number of pixels of each value in some of the rows: never above that of `every`."""
        return np.where(self._padding, 0, self._count(_COUNTED_ROWS))


def to_plane(stored: NDArray[Any], dataset: Dataset, note: Note = lambda clause: None) -> Plane:
    """Convert stored values to grey in [0, 1] by the header's transforms.

    Args:
        stored: (height, width) numbers, or (height, width, 3) red, green, blue.
        dataset: the header.
        note: called where a window or table of the header is not followed.
    """
    if stored.ndim == 3:
        return Plane(_luminance(stored, dataset))
    if stored.dtype.kind == "f":
        return Plane(_render_floats(stored.astype(np.float64), dataset, note))
    low, high = int(stored.min()), int(stored.max())
    if high - low >= MOST_ENTRIES:
        return Plane(_render_floats(stored.astype(np.float64), dataset, note))
    offsets, first = _offsets(stored, low)
    # From the lowest value on: a window or table is not applied to values that do not occur.
    values = np.arange(low, high + 1, dtype=np.float64)

    def count(step: int) -> NDArray[Any]:
        counted = np.zeros(high - first + 1, np.intp)
        rows = offsets[::step]
        for start, stop in parts_of(*rows.shape):  # what is counted becomes 64-bit indices
            counted += np.bincount(rows[start:stop].ravel(), minlength=counted.size)
        return counted[low - first :]

    shades = np.zeros(high - first + 1, np.float32)
    shades[low - first :] = grey_of(values, dataset, count, stored.size, note)
    return Plane(offsets, shades=shades)


def _offsets(stored: NDArray[Any], low: int) -> tuple[NDArray[Any], int]:
    """Return values as uint8 or uint16 numbers, and the value of number 0; without a copy where possible."""
    bits = 8 * stored.dtype.itemsize
    if bits > 16:
        return (stored.astype(np.int64) - low).astype(np.uint16), low
    unsigned = stored.astype(stored.dtype.newbyteorder("="), copy=False).view(f"u{bits // 8}")
    if low >= 0:
        return unsigned, 0
    return unsigned - unsigned.dtype.type(low % (1 << bits)), low  # modulo 2 to the power of the bits


def _render_floats(stored: NDArray[np.float64], dataset: Dataset, note: Note) -> NDArray[np.float32]:
    known = np.isfinite(stored)
    if not known.any():
        return np.zeros(stored.shape, dtype=np.float32)
    values = np.where(known, stored, stored[known].min())
    grey = grey_of(values, dataset, lambda step: np.ones(values.shape), values.size, note)
    return np.where(known, grey, np.float32(0))


def grey_of(
    values: NDArray[np.float64],
    dataset: Dataset,
    count: Callable[[int], NDArray[Any]],
    pixels: int,
    note: Note = lambda clause: None,
) -> NDArray[np.float32]:
    """Apply the whole chain (PS3.4 N.2) to stored values of any shape.

    Args:
        values: stored values.
        dataset: the header.
        count: returns the number of pixels of each value in every n-th row of the image, in the shape of
            `values`.
        pixels: of the image.
        note: as for `to_plane`.

    Returns:
        Grey in [0, 1], in the shape of `values`.
    """
    padding = is_padding(values, dataset)
    counts = Counts(count, pixels, padding)
    grey = apply_voi(apply_modality(values, dataset, note), dataset, counts, note)
    if is_inverse(dataset):
        grey = 1.0 - grey
    return np.where(padding, 0.0, np.clip(grey, 0.0, 1.0)).astype(np.float32)


def apply_modality(
    values: NDArray[np.float64], dataset: Dataset, note: Note = lambda clause: None
) -> NDArray[np.float64]:
    """Apply the modality LUT, else rescale slope and intercept (PS3.3 C.11.1)."""
    tables = read_tables(dataset, "ModalityLUTSequence", values)
    if tables and not tables[0].level:
        return tables[0].look_up(values)
    if tables:
        note("is shown without its modality table, which maps every value to one")
    slope, intercept = number_of(dataset, "RescaleSlope"), number_of(dataset, "RescaleIntercept")
    return values * (1.0 if slope is None or slope == 0 else slope) + (intercept or 0.0)


def apply_voi(
    values: NDArray[np.float64], dataset: Dataset, counts: Counts, note: Note = lambda clause: None
) -> NDArray[np.float64]:
    """Apply the first VOI LUT or window that leaves contrast, else the range of the values (PS3.3 C.11.2).

    One that leaves almost no contrast (a window outside the values, one of 16 bits for values of 12, a table
    of one entry) is skipped with a note. An image without contrast of its own, one value for nearly all its
    pixels, is left to the first of them.

    Returns:
        Values that are 0 at the dark end and 1 at the bright end; beyond them where the range clips.
    """
    first: NDArray[np.float64] | None = None
    passed: list[str] = []
    for name, grey in _chosen_by_header(values, dataset):
        if grey is not None and _shows(grey, counts):
            if passed:
                note(f"is shown by {name}: {_useless(passed)}")
            return grey
        first = grey if first is None else first
        passed.append(name)
    if not passed:
        return _stretch(values, dataset, counts)
    ranged = _stretch(values, dataset, counts) if first is None else _by_range(values, counts.every())
    if first is not None and not _shows(ranged, counts) and not _is_level(first, counts.every()):
        return first
    note(f"is shown by the range of its values: {_useless(passed)}")
    return ranged


def _chosen_by_header(
    values: NDArray[np.float64], dataset: Dataset
) -> Iterator[tuple[str, NDArray[np.float64] | None]]:
    """Yield each VOI LUT, then each window: its name in messages, and its greys, None where it is invalid."""
    for table in read_tables(dataset, "VOILUTSequence", values):
        # Descriptors often promise 16 bits for tables of 12: white is taken from the entries.
        white = float((1 << max(8, int(table.entries.max()).bit_length())) - 1)
        yield "its VOI table", None if table.level else table.look_up(values) / white
    function = text_of(dataset, "VOILUTFunction").upper() or "LINEAR"
    least = 1.0 if function == "LINEAR" else 1e-9
    for centre, width in zip_longest(numbers_of(dataset, "WindowCenter"), numbers_of(dataset, "WindowWidth")):
        if centre is None or width is None or width < least:
            yield "its window without a width", None
        else:
            name = f"its window of centre {centre:g} and width {width:g}"
            yield name, apply_window(values, centre, width, function)


def _useless(passed: list[str]) -> str:
    return f"{' and '.join(dict.fromkeys(passed))} would show next to nothing"


def _shows(grey: NDArray[np.float64], counts: Counts) -> bool:
    """Return whether greys leave contrast between the darkest and the brightest hundredth of the pixels."""
    levels = (np.clip(grey, 0.0, 1.0) * (_LEVELS - 1)).astype(np.intp).ravel()
    # More than a hundredth of the image as dark in some rows alone, and as bright, prove it: to count every
    # pixel of a radiograph takes as long as to decode it.
    some = np.bincount(levels, weights=counts.some().ravel(), minlength=_LEVELS)
    enough = 1.1 * _DARKEST * counts.pixels
    dark = np.searchsorted(np.cumsum(some), enough)
    bright = _LEVELS - 1 - np.searchsorted(np.cumsum(some[::-1]), enough)
    if bright - dark >= _MIN_CONTRAST * _LEVELS:
        return True
    below = np.cumsum(np.bincount(levels, weights=counts.every().ravel(), minlength=_LEVELS))
    low, high = np.searchsorted(below, [_DARKEST * below[-1], _BRIGHTEST * below[-1]])
    return bool(high - low >= _MIN_CONTRAST * _LEVELS)


def _is_level(grey: NDArray[np.float64], counts: NDArray[Any]) -> bool:
    occurring = np.clip(grey[counts > 0], 0.0, 1.0)
    return bool(occurring.min() == occurring.max())


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
    """Return whether low values are bright (PS3.3 C.7.6.3.1.2 MONOCHROME1, C.8.11.3 PresentationLUTShape).

    The two elements are redundant: either inverts, both together invert once.
    """
    return (
        photometric_of(dataset) == "MONOCHROME1"
        or text_of(dataset, "PresentationLUTShape").upper() == "INVERSE"
    )


def is_padding(values: NDArray[np.float64], dataset: Dataset) -> NDArray[np.bool_]:
    """Return which stored values are padding without image (PS3.3 C.7.5.1.1.2, a value or a range)."""
    first = number_of(dataset, "PixelPaddingValue")
    if first is None:
        return np.zeros(values.shape, dtype=bool)
    last = number_of(dataset, "PixelPaddingRangeLimit")
    low, high = sorted((first, first if last is None else last))
    return (values >= low) & (values <= high)


def _stretch(values: NDArray[np.float64], dataset: Dataset, counts: Counts) -> NDArray[np.float64]:
    """Return 8-bit values as they are, others over the range of all but 1 % of the pixels."""
    transformed = "ModalityLUTSequence" in dataset or number_of(dataset, "RescaleSlope") not in (None, 1.0)
    if number_of(dataset, "BitsStored") == 8 and not transformed and not dataset.get("PixelRepresentation"):
        return values / 255.0
    return _by_range(values, counts.every())


def _by_range(values: NDArray[np.float64], counts: NDArray[Any]) -> NDArray[np.float64]:
    """Return values over the range of all but 1 % of the pixels, from 0 to 1."""
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


def _luminance(stored: NDArray[Any], dataset: Dataset) -> NDArray[np.float32]:
    """Luminance of red, green, blue (ITU-R BT.601), white at the top of the values' bits."""
    palette = photometric_of(dataset) == "PALETTE COLOR"
    bits = 8 * stored.dtype.itemsize if palette else int(dataset.get("BitsStored") or 8)
    weights = np.array([0.299, 0.587, 0.114], dtype=np.float32)
    grey: NDArray[np.float32] = stored[..., :3].astype(np.float32) @ weights / np.float32((1 << bits) - 1)
    return np.clip(grey, np.float32(0), np.float32(1))
