"""The image reader: any file of a radiograph, to one plane of grey in [0, 1].

The format is determined by content, never by extension. A file is read once, checked by its header, and
decoded from memory. What cannot be a radiograph is refused with one sentence that names the file.
"""

import io
import logging
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from corpus.dicom import file as dicom
from corpus.dicom.file import Rendered
from corpus.dicom.spacing import Spacing
from corpus.errors import NotAdmitted, UnreadableImage
from corpus.files import UnreadableFile, quoted, read_bytes
from corpus.geometry import AS_STORED, Framing, Orientation
from corpus.images.plane import Plane
from corpus.settings import settings

log = logging.getLogger(__name__)

MIN_SIDE = 16
"""Images with a side below this many pixels are refused."""

_MAX_BYTES_PER_PIXEL = 8  # four channels of 16 bits; a larger file has more pixels than are allowed

_PHANTOM = re.compile(r"phantom://(-?\d+)/(\d+)")

_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF8", "a GIF image"),
    (b"BM", "a BMP image"),
    (b"II*\0", "a TIFF image"),
    (b"MM\0*", "a TIFF image"),
    (b"RIFF", "a WebP image"),
    (b"\0\0\0\x0cjP  ", "a bare JPEG 2000 image"),
    (b"\xff\x4f\xff\x51", "a bare JPEG 2000 image"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
)

# EXIF 2.3, tag 0x0112: where row 0 and column 0 of the stored image lie.
_ORIENTATIONS = {
    2: Orientation(left_right=True),
    3: Orientation(up_down=True, left_right=True),
    4: Orientation(up_down=True),
    5: Orientation(transposed=True),
    6: Orientation(transposed=True, left_right=True),
    7: Orientation(transposed=True, up_down=True, left_right=True),
    8: Orientation(transposed=True, up_down=True),
}
_ORIENTATION_TAG = 0x0112


@dataclass(frozen=True, slots=True, eq=False)
class ImageRead:
    """An image, with all that the corpus layer knows of its pixels.

    `pixels`: (height, width) float32 in [0, 1] as displayed, both sides at least `MIN_SIDE`, not all of one
    value.
    `content`: hash of the pixels (64 hex), equal for equal pixels in any file format.
    `spacing`: millimetres of a pixel; None where the file has none (as every PNG and JPEG).
    `notes`: parts of a DICOM header that were not followed, and the replacement; each a sentence that begins
    with the file's name.
    """

    pixels: NDArray[np.float32]
    content: str
    spacing: Spacing | None = None
    notes: tuple[str, ...] = ()


def read_image(location: str | Path, *, admit: frozenset[str] | None = None) -> NDArray[np.float32]:
    """Read one image as grey.

    Reads grey and colour PNG of 1 to 16 bits, JPEG, and single-frame DICOM. Colour becomes luminance (ITU-R
    BT.601); transparent parts become black; the EXIF orientation is applied. 8-bit values are divided by 255.
    16-bit values are divided by 65535, except where no value exceeds 4095 or 16383: such files have 12 or 14
    bits of a detector (what DICOM converters write) and are divided by that. DICOM passes its own look-up
    tables and is brought to the standard orientation, see `corpus.dicom.file.render`.

    Args:
        location: a file, or `phantom://SEED/NUMBER` for a phantom, which is drawn.
        admit: admitted DICOM modalities; None admits all. Sources check this when they list.

    Returns:
        (height, width) float32 in [0, 1], both sides at least `MIN_SIDE`, not all of one value.

    Raises:
        UnreadableImage: the file cannot be turned into such pixels; the message gives its name and why.
        NotAdmitted: a DICOM of a modality that is not in `admit`.
    """
    return _read(location, admit).plane.pixels()


def load_image(location: str | Path, *, admit: frozenset[str] | None = None) -> ImageRead:
    """Read one image with its hash, spacing and notes.

    Args:
        location, admit: as in `read_image`.

    Returns:
        The pixels that `read_image` returns, with what else is known of them.

    Raises:
        UnreadableImage, NotAdmitted: as in `read_image`.
    """
    return _loaded(_read(location, admit), quoted(location))


def load_content(content: bytes, name: str, *, most: int, admit: frozenset[str] | None = None) -> ImageRead:
    """Decode an image that is in memory; else as `load_image`.

    Args:
        content: the whole file.
        name: its name in messages.
        most: maximum number of pixels.
        admit: as in `read_image`.
    """
    return _loaded(_checked(content, name, most, admit), name)


@dataclass(frozen=True, slots=True, eq=False)
class FramedImage:
    """An image in an encoder's square.

    `framed`: (size, size) float32 in [0, 1], as `Framing.apply` frames `ImageRead.pixels`.
    `shape`: (height, width) of the image.
    `content`, `notes`: as of `ImageRead`.
    """

    framed: NDArray[np.float32]
    shape: tuple[int, int]
    content: str
    notes: tuple[str, ...] = ()


def frame_image(location: str | Path, framing: Framing) -> FramedImage:
    """Read one image into an encoder's square, without its full-size pixels in memory.

    Args:
        location: as in `read_image`.
        framing: letterbox of the encoder.

    Raises:
        UnreadableImage: as in `read_image`.
    """
    read = _read(location, None)
    framed, content = read.plane.framed(framing)
    return FramedImage(framed, read.plane.shape, content, _notes(read, quoted(location)))


def content_hash(location: str | Path) -> str:
    """Return the hash of an image's pixels (64 hex), equal for equal pixels in any file format."""
    return _read(location, None).plane.content()


def hash_pixels(image: NDArray[np.float32]) -> str:
    """Return the hash of an image's pixels (64 hex), equal to the `content_hash` of a file of them.

    Args:
        image: (height, width) float32 in [0, 1].
    """
    return Plane(image).content()


def _loaded(read: Rendered, name: str) -> ImageRead:
    return ImageRead(*read.plane.hashed_pixels(), read.spacing, _notes(read, name))


def _notes(read: Rendered, name: str) -> tuple[str, ...]:
    return tuple(f"{name} {note}" for note in read.notes)


def _read(location: str | Path, admit: frozenset[str] | None) -> Rendered:
    phantom = _PHANTOM.fullmatch(str(location))
    if phantom:
        return Rendered(Plane(_draw(int(phantom[1]), int(phantom[2]))))
    most = settings().max_image_pixels
    try:
        content = read_bytes(location, limit=most * _MAX_BYTES_PER_PIXEL)
    except UnreadableFile as reason:
        raise UnreadableImage(f"{quoted(location)} {reason}") from reason
    except MemoryError as error:
        raise UnreadableImage(f"{quoted(location)} needs more memory than there is") from error
    return _checked(content, quoted(location), most, admit)


def _checked(content: bytes, name: str, most: int, admit: frozenset[str] | None) -> Rendered:
    """Decode a whole file; errors begin with its name as it is given."""
    try:
        read = _decode(content, most, admit)
        _require_contrast(read.plane)
    except (_Refused, dicom.Undecodable) as reason:
        raise UnreadableImage(f"{name} {reason}") from reason
    except dicom.OtherModality as reason:
        raise NotAdmitted(f"{name} {reason}") from reason
    except MemoryError as error:
        raise UnreadableImage(f"{name} needs more memory than there is") from error
    return read


class _Refused(Exception):
    """Why an image is refused, as a clause that follows its name."""


def _decode(content: bytes, most: int, admit: frozenset[str] | None) -> Rendered:
    if dicom.is_dicom(content):
        return dicom.render(content, max_pixels=most, admit=admit)
    found = next((name for magic, name in _SIGNATURES if content.startswith(magic)), None)
    if found not in ("PNG", "JPEG"):
        raise _Refused(
            f"is {found or _guess(content)}, neither PNG, JPEG nor DICOM: convert it to one of them"
        )
    try:
        # Warnings of bombs and of odd EXIF are not for the user: our own limit is checked below.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=(found,)) as image:
                return Rendered(_decode_pillow(image, found, most))
    except Image.DecompressionBombError as error:
        most = min(most, 2 * (Image.MAX_IMAGE_PIXELS or most))  # Pillow has its own limit
        raise _Refused(f"has more pixels than the {most:,} that are read") from error
    except (_Refused, MemoryError):
        raise
    except Exception as error:  # decoders raise whatever they like on broken files
        log.debug("a %s decoder gave up: %s", found, error)
        raise _Refused(f"is a broken or truncated {found} file: copy it again from where it came") from error


def _guess(content: bytes) -> str:
    start = content[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<svg")):
        return "a web page or XML"
    if b"\0" not in content[:512] and all(byte >= 32 or byte in b"\t\r\n\f" for byte in content[:512]):
        return "text"
    return "of no known kind"


def _decode_pillow(image: Image.Image, kind: str, most: int) -> Plane:
    width, height = image.size
    if width * height > most:
        raise _Refused(f"has {height} x {width} pixels, more than the {most:,} that are read")
    if min(width, height) < MIN_SIDE:
        raise _Refused(f"has {height} x {width} pixels: too small to show anything")
    # Phones append a second image to a JPEG (MPO): the first is the image. An animated PNG has none.
    frames = getattr(image, "n_frames", 1)
    if kind == "PNG" and frames > 1:
        raise _Refused(f"holds {frames} frames, not one image")
    orientation = _orientation(image)
    if kind == "JPEG" and image.mode == "RGB":
        image.draft("L", image.size)  # the luminance plane alone: half the time, and no rounding through RGB
    return _to_grey(image).oriented(_ORIENTATIONS.get(orientation, AS_STORED))


def _to_grey(image: Image.Image) -> Plane:
    if image.mode.startswith("I"):  # 16 bits of grey, "I" in older Pillow
        return _scale_16_bit(np.clip(np.asarray(image), 0, 65535).astype(np.uint16))
    if image.has_transparency_data:
        coloured = image.convert("RGBA")
        black = Image.new("RGBA", coloured.size, (0, 0, 0, 255))
        return Plane(np.asarray(Image.alpha_composite(black, coloured).convert("L")), 255)
    if image.mode == "P":
        image = image.convert("RGB")
    return Plane(np.asarray(image if image.mode == "L" else image.convert("L")), 255)


def _scale_16_bit(values: NDArray[np.uint16]) -> Plane:
    """Return the values with the white of the bits in use: 12, 14 or all 16."""
    brightest = int(values.max())
    return Plane(values, next(white for white in (4095, 16383, 65535) if brightest <= white))


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception as error:  # broken EXIF says nothing about the pixels
        log.debug("EXIF data cannot be read and are ignored: %s", error)
        return 1


def _require_contrast(plane: Plane) -> None:
    height, width = plane.shape
    if min(height, width) < MIN_SIDE:
        raise _Refused(f"has {height} x {width} pixels: too small to show anything")
    if plane.is_blank:
        raise _Refused("is blank: all its pixels have one value")


def _draw(seed: int, number: int) -> NDArray[np.float32]:
    from corpus.phantom import render, scene  # late: a reader of files has no use for the phantom

    return render(scene(seed, number))
