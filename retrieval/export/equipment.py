"""Who made a DICOM file of ours, in the words of its equipment module (PS3.3 C.7.5.2)."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from retrieval.export.source import program_version

# highdicom tells odd names of patients to the log; what a header holds is not for logs.
logging.getLogger("highdicom").setLevel(logging.CRITICAL)


def equipment() -> dict[str, Any]:
    """Manufacturer, model and version, as highdicom's classes take them."""
    return {
        "manufacturer": "Similarity",
        "manufacturer_model_name": "Similarity, research software, not for diagnosis",
        "software_versions": program_version(),
        "device_serial_number": "none",
    }


@contextmanager
def discreet() -> Iterator[None]:
    """Keep quiet what highdicom and pydicom warn of: their warnings quote the patient's name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def printable(phrase: str, most: int = 64) -> str:
    """A phrase as DICOM's long string takes it (VR LO, PS3.5 6.2): a line, no backslash, cut with a sign."""
    line = " ".join("".join(c if c.isprintable() and c != "\\" else " " for c in phrase).split())
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"
