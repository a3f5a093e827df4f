"""An image to search with: its pixels, their hash, and the patient of its DICOM header."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from corpus.dicom.file import ADMITTED, Undecodable
from corpus.dicom.header import Header, parse_header, read_header
from corpus.dicom.spacing import Spacing
from corpus.errors import NotAdmitted, UnreadableImage, UsageError
from corpus.files import UnreadableFile, quoted
from corpus.images.reader import MIN_SIDE, ImageRead, hash_pixels, load_content, load_image
from corpus.redaction import redacted
from corpus.settings import settings
from corpus.sources.dicom import patient_of, refuse_header
from corpus.subjects import Patient


@redacted
@dataclass(frozen=True, slots=True, eq=False)
class QueryImage:
    """A decoded image to search with.

    Attributes:
        pixels: (height, width) float32 grey in [0, 1].
        content: hash of the pixels (64 hex digits, see `corpus.images.reader`).
        patient: of the DICOM header; None for any other image.
        dicom: whether it is DICOM.
        spacing: of its pixels, see `corpus.images.reader.ImageRead`.
        notes: on its header, see `corpus.images.reader.ImageRead`.
    """

    pixels: NDArray[np.float32]
    content: str
    patient: Patient | None
    dicom: bool = False
    spacing: Spacing | None = None
    notes: tuple[str, ...] = ()


def read_query_image(location: str | Path) -> QueryImage:
    """Read an image to search with.

    Args:
        location: a file, or `phantom://SEED/NUMBER`.

    Raises:
        UnreadableImage: it cannot be turned into pixels.
        NotAdmitted: its header says that it is no chest radiograph.
    """
    image = load_image(location)
    try:
        patient = _patient(read_header(location), quoted(location))
    except (UnreadableFile, Undecodable):
        return _query_image(image)
    return _query_image(image, patient)


def decode_query_image(content: bytes, name: str, most: int) -> QueryImage:
    """Decode the content of a file to search with; else as `read_query_image`.

    Args:
        content: the whole file.
        name: what messages call it.
        most: pixels that it may have.
    """
    image = load_content(content, name, most=most)
    try:
        patient = _patient(parse_header(content), name)
    except Undecodable:
        return _query_image(image)
    return _query_image(image, patient)


def _query_image(image: ImageRead, patient: Patient | None = None) -> QueryImage:
    """`patient`: None where the file is no DICOM."""
    return QueryImage(image.pixels, image.content, patient, patient is not None, image.spacing, image.notes)


IN_MEMORY = "the image in memory"
"""What messages and answers call an image that has no file."""

_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as colour files become grey


def make_query_image(image: "Image.Image | NDArray[Any]") -> QueryImage:
    """Return an image in memory as one to search with; equal pixels have the hash of their file.

    Args:
        image: of Pillow, in any mode; or (height, width) grey or (height, width, 3) colour: uint8 in
            [0, 255], uint16 (12, 14 or 16 bits, by the brightest, as in a PNG), or float in [0, 1].

    Raises:
        UsageError: it is of another shape or type, or holds values that are not finite or out of range.
        UnreadableImage: it is blank, tiny or too large.
    """
    if isinstance(image, Image.Image):
        return _from_pillow(image)
    if image.ndim != 2 and image.shape[2:] != (3,):
        raise UsageError(
            f"an image in memory is (height, width) or (height, width, 3), not {image.shape}: take one image"
        )
    image = image.astype(image.dtype.newbyteorder("="), copy=False)  # as big-endian files are read
    if not image.size:
        raise UsageError(f"the image in memory of {image.shape} has no pixels")
    if image.dtype == np.uint8 or (image.dtype == np.uint16 and image.ndim == 2):
        return _from_pillow(Image.fromarray(np.ascontiguousarray(image)))
    if image.dtype == np.uint16:
        return _from_floats(image / np.float32(65535))
    if not np.issubdtype(image.dtype, np.floating):
        raise UsageError(f"an image in memory is uint8, uint16 or float, not {image.dtype}: convert it")
    if not np.isfinite(image).all():
        raise UsageError("the image in memory holds values that are not finite: replace NaN and infinity")
    if image.min() < 0 or image.max() > 1:
        raise UsageError(
            f"a float image in memory is in [0, 1], not [{image.min():g}, {image.max():g}]: scale it"
        )
    return _from_floats(image)


def _from_pillow(image: Image.Image) -> QueryImage:
    """Read the image from a PNG of it, so that it is read as a file is."""
    if image.mode == "F":
        return make_query_image(np.asarray(image))
    try:
        upright = ImageOps.exif_transpose(image)
        if upright.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16"):
            upright = upright.convert("RGB")
        written = io.BytesIO()
        upright.save(written, "PNG", compress_level=0)
    except (OSError, ValueError) as error:
        raise UnreadableImage(f"{IN_MEMORY} cannot be read ({type(error).__name__})") from None
    return _query_image(load_content(written.getvalue(), IN_MEMORY, most=settings().max_image_pixels))


def _from_floats(image: NDArray[Any]) -> QueryImage:
    pixels = np.ascontiguousarray(image if image.ndim == 2 else image @ _LUMINANCE, np.float32)
    if min(pixels.shape) < MIN_SIDE:
        raise UnreadableImage(f"{IN_MEMORY} has {pixels.shape[0]} x {pixels.shape[1]} pixels: too small")
    if pixels.size > settings().max_image_pixels:
        raise UnreadableImage(f"{IN_MEMORY} has {pixels.size:,} pixels: too large")
    if pixels.min() == pixels.max():
        raise UnreadableImage(f"{IN_MEMORY} is blank: all its pixels have one value")
    pixels = np.clip(pixels, 0.0, 1.0)
    return QueryImage(pixels, hash_pixels(pixels), None)


def _patient(header: Header, name: str) -> Patient:
    refused = refuse_header(header, ADMITTED)
    if refused is not None:
        reason = refused.partition(": --admit")[0]
        raise NotAdmitted(f"{name}: {reason}; this index is of the chest")
    return patient_of(header)
