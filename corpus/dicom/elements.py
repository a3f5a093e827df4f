"""Single elements of a DICOM header: their text and numbers, their names in messages, and required ones."""

import re

import numpy as np
from pydicom import Dataset
from pydicom.datadict import tag_for_keyword
from pydicom.multival import MultiValue

_MONOCHROME = re.compile(r"MONOCHROME ([12])")
_SAMPLES = {
    "MONOCHROME1": 1, "MONOCHROME2": 1, "PALETTE COLOR": 1, "RGB": 3, "YBR_FULL": 3, "YBR_FULL_422": 3,
    "YBR_PARTIAL_422": 3, "YBR_PARTIAL_420": 3, "YBR_ICT": 3, "YBR_RCT": 3, "HSV": 3,
}  # fmt: skip
"""Terms of PhotometricInterpretation (PS3.3 C.7.6.3.1.2), retired ones included → samples of a pixel."""


class Undecodable(Exception):
    """Why a DICOM file has no usable image, as a clause that follows its name."""


def named(keyword: str) -> str:
    """Return an element in the form of messages: "Rows (0028,0010)"."""
    tag = tag_for_keyword(keyword) or 0
    return f"{keyword} ({tag >> 16:04X},{tag & 0xFFFF:04X})"


def text_of(dataset: Dataset, keyword: str) -> str:
    """Return an element's text without padding, its values joined by backslashes.

    Empty where the element is absent or cannot be read.
    """
    try:
        value = dataset.get(keyword)
    except Exception:  # an element of a wrong type is as good as none
        return ""
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    values = value if isinstance(value, MultiValue | list | tuple) else [value]
    return "\\".join("" if one is None else str(one).strip(" \0") for one in values)


def number_of(dataset: Dataset, keyword: str) -> float | None:
    """Return an element's first value, or None where it is absent or no finite number."""
    values = numbers_of(dataset, keyword)
    return values[0] if values else None


def numbers_of(dataset: Dataset, keyword: str) -> tuple[float | None, ...]:
    """Return an element's values, None for each that is no finite number; empty where it is absent."""
    texts = text_of(dataset, keyword)
    return tuple(_number(text) for text in texts.split("\\")) if texts else ()


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if np.isfinite(number) else None


def photometric_of(dataset: Dataset) -> str:
    """Return the PhotometricInterpretation in the standard's spelling; empty where it is absent."""
    text = " ".join(text_of(dataset, "PhotometricInterpretation").upper().split())
    return _MONOCHROME.sub(r"MONOCHROME\1", text)


def require_elements(dataset: Dataset) -> None:
    """Check that the header determines how to read its pixels (PS3.3 C.7.6.3), and normalise its spelling.

    `SamplesPerPixel` is filled in where the `PhotometricInterpretation` determines it. Neither the polarity
    of grey values nor their sign or their bits can be known from anything else.

    Raises:
        Undecodable: with each element that is missing or has an impossible value.
    """
    photometric = photometric_of(dataset)
    needed = ["Rows", "Columns", "BitsAllocated"]
    if "PixelData" in dataset:
        needed += ["BitsStored", "PixelRepresentation"]
    missing = [keyword for keyword in needed if number_of(dataset, keyword) is None]
    if not photometric:
        missing.append("PhotometricInterpretation")
    samples = number_of(dataset, "SamplesPerPixel") or _SAMPLES.get(photometric)
    if samples is None:
        missing.append("SamplesPerPixel")
    elif samples > 1 and number_of(dataset, "PlanarConfiguration") is None:
        missing.append("PlanarConfiguration")
    if missing:
        raise Undecodable(
            f"has no {' and no '.join(map(named, missing))}, without which its pixels cannot be read: "
            "export it again with that element"
        )
    if photometric not in _SAMPLES:
        shown = f" {photometric[:16]}" if photometric[:16].isprintable() and photometric.isascii() else ""
        raise Undecodable(
            f"has a {named('PhotometricInterpretation')}{shown} that is not known: export it as MONOCHROME2"
        )
    dataset.PhotometricInterpretation = photometric
    dataset.SamplesPerPixel = int(samples or 1)
    _require_bits(dataset)


def _require_bits(dataset: Dataset) -> None:
    allocated = number_of(dataset, "BitsAllocated") or 0
    if allocated != 1 and (allocated % 8 or not 8 <= allocated <= 64):
        raise Undecodable(
            f"says {allocated:g} in {named('BitsAllocated')}, which is neither 1 nor a multiple of 8: "
            "export it again"
        )
    stored = number_of(dataset, "BitsStored")
    if "PixelData" in dataset and stored is not None and not 1 <= stored <= allocated:
        raise Undecodable(
            f"says {stored:g} in {named('BitsStored')}, more or fewer than fit the {allocated:g} of "
            f"{named('BitsAllocated')}: export it again"
        )
