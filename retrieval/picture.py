"""A query picture: its pixels, what tells equal ones apart, and whose it is by its own header."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from corpus.dicom import ADMITTED, Undecodable
from corpus.dicom_header import Header, parse_header, read_header
from corpus.errors import NotAdmitted
from corpus.files import UnreadableFile, quoted
from corpus.images import decode_with_hash, read_with_hash
from corpus.sources.dicom import patient_of, refuse_header
from corpus.subjects import Patient


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A picture that was read.

    `pixels`: (height, width) float32 grey in [0, 1]. `content`: their hash (64 hex, `corpus.images`).
    `patient`: whom a DICOM header names; None for any other picture. `dicom`: whether it is DICOM.
    """

    pixels: NDArray[np.float32]
    content: str
    patient: Patient | None
    dicom: bool = False


def read_picture(location: str | Path) -> Picture:
    """Read a picture to search with.

    Args:
        location: a file, or `phantom://SEED/NUMBER`.

    Raises:
        UnreadableImage: it cannot be turned into pixels.
        NotAdmitted: its header says that it is no chest radiograph.
    """
    pixels, content = read_with_hash(location)
    try:
        patient = _patient(read_header(location), quoted(location))
    except (UnreadableFile, Undecodable):
        return Picture(pixels, content, None)
    return Picture(pixels, content, patient, dicom=True)


def decode_picture(content: bytes, name: str, most: int) -> Picture:
    """Decode a picture that is in memory to search with; else as `read_picture`.

    Args:
        content: the whole file.
        name: what messages call it.
        most: pixels it may have.
    """
    pixels, digest = decode_with_hash(content, name, most=most)
    try:
        patient = _patient(parse_header(content), name)
    except Undecodable:
        return Picture(pixels, digest, None)
    return Picture(pixels, digest, patient, dicom=True)


def _patient(header: Header, name: str) -> Patient:
    refused = refuse_header(header, ADMITTED)
    if refused is not None:
        told = refused.partition(": --admit")[0]
        raise NotAdmitted(f"{name}: {told}; this index is of the chest")
    return patient_of(header)
