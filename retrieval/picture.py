"""A query picture: its pixels, what tells equal ones apart, and whose it is by its own header."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from corpus.dicom import ADMITTED, Undecodable
from corpus.dicom_header import Header, read_header
from corpus.errors import NotAdmitted
from corpus.files import UnreadableFile, quoted
from corpus.images import read_with_hash
from corpus.sources.dicom import refuse_header


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A picture that was read.

    `pixels`: (height, width) float32 grey in [0, 1]. `content`: their hash (64 hex, `corpus.images`).
    `patient`: the PatientID of a DICOM header; empty for any other picture.
    """

    pixels: NDArray[np.float32]
    content: str
    patient: str


def read_picture(location: str | Path) -> Picture:
    """Read a picture to search with.

    Args:
        location: a file, or `phantom://SEED/NUMBER`.

    Raises:
        UnreadableImage: it cannot be turned into pixels.
        NotAdmitted: its header says that it is no chest radiograph.
    """
    pixels, content = read_with_hash(location)
    return Picture(pixels, content, _patient(location))


def _patient(location: str | Path) -> str:
    try:
        header: Header = read_header(location)
    except (UnreadableFile, Undecodable):
        return ""
    refused = refuse_header(header, ADMITTED)
    if refused is not None:
        told = refused.partition(": --admit")[0]
        raise NotAdmitted(f"{quoted(location)}: {told}; this index is of the chest")
    return header.patient_id
