"""Look-up tables of a DICOM header (PS3.3 C.11.1.1.1, C.11.2.1.1): descriptor and data to entries."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from corpus.dicom.elements import Undecodable, named, number_of, numbers_of

MOST_ENTRIES = 1 << 16


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A look-up table: `first` is the value that the first of the `entries` (float64, one axis) is for."""

    first: float
    entries: NDArray[np.float64]

    @property
    def level(self) -> bool:
        """Whether it maps everything to one value, and so shows nothing."""
        return bool(self.entries.min() == self.entries.max())

    def look_up(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map values; what lies before or after the table takes its first or last entry."""
        places = np.clip(np.rint(values - self.first), 0, self.entries.size - 1).astype(np.intp)
        return self.entries[places]


def read_tables(dataset: Dataset, sequence: str, values: NDArray[np.float64]) -> list[Table]:
    """Return the tables of a sequence, in its order.

    Args:
        dataset: the header.
        sequence: `ModalityLUTSequence` or `VOILUTSequence`.
        values: what is to be mapped; they decide whether a first mapped value is below zero.

    Raises:
        Undecodable: a table has no descriptor or no data that can be read.
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
    """The first mapped value; one that was read as unsigned where values are signed is 0xF800 for −2048."""
    signed = number_of(dataset, "PixelRepresentation") == 1 or values.min() < 0
    if first > 0x7FFF and (signed or values.max() < first):
        first -= 0x10000
    return float(first)


def _entries(dataset: Dataset, item: Dataset, count: int, bits: int) -> NDArray[np.float64]:
    """The entries that there are, `count` at most: bytes, words, or two bytes packed in each word."""
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
