"""DICOM files: parsing, header checks, decoding of the stored values, and rendering.

The display transforms are in `corpus.dicom.display`, orientation and pixel size in `corpus.dicom.spacing`.
"""

import io
import logging
import struct
import warnings
import zlib
from dataclasses import dataclass
from typing import Any

import pydicom
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, JPEGExtended12Bit, RLELossless

from corpus.dicom.display import Note, to_plane
from corpus.dicom.elements import Undecodable as Undecodable  # re-exported: this module raises it
from corpus.dicom.elements import named, number_of, require_elements
from corpus.dicom.spacing import Spacing, orientation_of, spacing_of
from corpus.images.plane import Plane

log = logging.getLogger(__name__)

# pydicom logs each failed plugin with a traceback, and odd header values, which must not go to logs.
logging.getLogger("pydicom").setLevel(logging.CRITICAL)

ADMITTED = frozenset({"CR", "DX"})
"""Modalities (0008,0060) that are radiographs: computed radiography and digital radiography."""

DISPLAY_VERSION = "2"
"""Changes with the pixels of any file; an index then reads its DICOM files again."""

_CHUNK = 1 << 20
_DEFLATED = b"\x02\0\x10\0UI\x16\0" + DeflatedExplicitVRLittleEndian.encode()  # (0002,0010), 22 bytes

# The value representations of the elements that a file without preamble starts with.
_FIRST_TYPES = (b"UL", b"OB", b"UI", b"CS", b"SH")


@dataclass(frozen=True, slots=True, eq=False)
class Rendered:
    """A DICOM image as it is displayed.

    `plane`: in the standard orientation, white is dense tissue.
    `spacing`: of its pixels, None where it is unknown.
    `notes`: parts of the header that were not followed, and the replacement; each a clause that follows the
    file's name.
    """

    plane: Plane
    spacing: Spacing | None = None
    notes: tuple[str, ...] = ()


class OtherModality(Exception):
    """The file is of a modality that is not admitted, as a clause that follows its name."""


def is_dicom(head: bytes) -> bool:
    """Return whether a file's first bytes are DICOM's (PS3.10 7.1), also without preamble.

    Args:
        head: at least the first 132 bytes, or the whole of a shorter file.
    """
    if head[128:132] == b"DICM":
        return True
    # Old files start with their first element, of group 0002 or 0008 in either byte order: its type spelt
    # out, or else (implicit) its length, which is short for all that can come first.
    if head[:2] not in (b"\x08\0", b"\x02\0", b"\0\x08", b"\0\x02"):
        return False
    return head[4:6] in _FIRST_TYPES or 0 < int.from_bytes(head[4:8], "little") <= 64


def render(content: bytes, *, max_pixels: int = 120_000_000, admit: frozenset[str] | None = None) -> Rendered:
    """Render a single-frame DICOM file as grey in the standard orientation.

    Args:
        content: the whole file.
        max_pixels: maximum number of pixels; checked before anything is decoded.
        admit: admitted modalities; None admits all. A file without a modality passes.

    Returns:
        Its pixels, colour as luminance, with their spacing and notes.

    Raises:
        Undecodable: no pixels, several frames, too many pixels, an unsupported or broken encoding, or an
            element missing without which pixels mean nothing.
        OtherModality: the modality is not in `admit`.
    """
    # pydicom warns of every oddity of a header; those that matter are refused below.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            dataset = parse(content, max_bytes=8 * max_pixels)
            require_modality(dataset, admit)
            require_single_image(dataset, max_pixels)
            notes: list[str] = []
            orientation, unfollowed = orientation_of(dataset)
            if unfollowed is not None:
                notes.append(unfollowed)
            plane = to_plane(decode(dataset, notes.append), dataset, notes.append)
            spacing = spacing_of(dataset)
            return Rendered(
                plane.oriented(orientation),
                None if spacing is None else spacing.oriented(orientation),
                tuple(notes),
            )
        except (Undecodable, OtherModality, MemoryError):
            raise
        except Exception as error:  # a header can be wrong in more ways than can be listed
            log.debug("a DICOM header cannot be applied: %s", type(error).__name__)
            raise Undecodable("has a DICOM header that contradicts itself or its pixels") from error


def require_modality(dataset: Dataset, admit: frozenset[str] | None) -> None:
    """Check the modality (0008,0060); a file without one passes.

    Raises:
        OtherModality: it is not in `admit`.
    """
    modality = str(dataset.get("Modality") or "").strip().upper()
    if admit is not None and modality and modality not in admit:
        raise OtherModality(f"is of modality {modality}, not a radiograph: --admit {modality} lets it in")


def parse(content: bytes, *, max_bytes: int, stop_before_pixels: bool = False) -> Dataset:
    """Read a file's elements (PS3.10); a deflated one is inflated to at most `max_bytes`.

    Raises:
        Undecodable: it is broken, truncated or inflates to more than that.
    """
    try:
        _require_bounded(content, max_bytes)
        return pydicom.dcmread(io.BytesIO(content), force=True, stop_before_pixels=stop_before_pixels)
    except (Undecodable, MemoryError):
        raise
    except Exception as error:  # pydicom raises many kinds on broken files
        log.debug("pydicom gave up: %s", error)
        raise Undecodable("is a broken or truncated DICOM file: copy it again from where it came") from error


def _require_bounded(content: bytes, max_bytes: int) -> None:
    """Inflate a deflated data set (PS3.5 A.5) piece by piece to learn its size, keeping nothing."""
    # The group's length (0002,0000) counts from after its own twelve bytes (PS3.10 7.1).
    end = 144 + int.from_bytes(content[140:144], "little")
    if content[128:132] != b"DICM" or _DEFLATED not in content[144:end]:
        return
    rest = content[end:]
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = 0
    while rest and not inflater.eof:
        inflated += len(inflater.decompress(rest, _CHUNK))
        rest = inflater.unconsumed_tail
        if inflated > max_bytes:
            raise Undecodable(f"inflates to more than the {max_bytes:,} bytes that are read")


def require_single_image(dataset: Dataset, max_pixels: int) -> None:
    """Check from the header that there is one frame of admissible size in a known encoding.

    Raises:
        Undecodable: with the element that violates this.
    """
    if not any(name in dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise Undecodable("is a DICOM file without pixels")
    require_elements(dataset)
    frames = int(number_of(dataset, "NumberOfFrames") or 1)
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    if frames > 1:
        raise Undecodable(f"holds {frames} frames, not one image: export the intended frame")
    if rows * columns > max_pixels:
        raise Undecodable(f"has {rows} x {columns} pixels, more than the {max_pixels:,} that are read")
    if rows * columns == 0:
        raise Undecodable(f"has {rows} x {columns} pixels")
    syntax = transfer_syntax(dataset)
    if syntax is None:
        if "PixelData" in dataset and dataset["PixelData"].is_undefined_length:
            raise Undecodable(
                f"has no {named('TransferSyntaxUID')}, without which its compressed pixels cannot be read: "
                "export it again with that element"
            )
        _require_whole(dataset, rows * columns)
        return
    try:
        known = get_decoder(syntax).is_available
    except NotImplementedError:
        known = False
    if not known:
        name = syntax.name if syntax.name.isprintable() else "what is no transfer syntax"
        raise Undecodable(f"is stored as {name}, which is not read: convert it to another syntax")
    if syntax.is_encapsulated:
        _require_honest_codestream(dataset, syntax, rows * columns)
    else:
        _require_whole(dataset, rows * columns)


def _require_whole(dataset: Dataset, pixels: int) -> None:
    """Refuse uncompressed pixels that are fewer than the header states."""
    if "PixelData" not in dataset:
        return
    samples = 2 if dataset.PhotometricInterpretation == "YBR_FULL_422" else int(dataset.SamplesPerPixel)
    needed = -(-pixels * samples * int(dataset.BitsAllocated) // 8)
    present = len(dataset.PixelData or b"")
    if present < needed:
        raise Undecodable(
            f"is truncated: {named('PixelData')} holds {present:,} bytes of the {needed:,} that its "
            f"{named('Rows')} and {named('Columns')} promise: copy it again from where it came"
        )


def _require_honest_codestream(dataset: Dataset, syntax: UID, pixels: int) -> None:
    """Refuse a compressed frame that is larger than the header states, or of 12-bit JPEG (process 4).

    A header can promise a small image around a frame of a gigapixel: decoders believe the frame.
    """
    try:
        shape = frame_shape(get_frame(dataset.PixelData, 0, number_of_frames=1))
    except Exception as error:  # a broken encapsulation (PS3.5 A.4)
        raise Undecodable("is a broken or truncated DICOM file: copy it again from where it came") from error
    if shape is None:
        return
    if shape.rows * shape.columns > pixels:
        raise Undecodable(f"says {pixels:,} pixels but holds {shape.rows} x {shape.columns}")
    if syntax == JPEGExtended12Bit and shape.bits > 8:
        raise Undecodable(
            f"is stored as {shape.bits}-bit JPEG Extended, which is not read: convert it to another syntax"
        )


def transfer_syntax(dataset: Dataset) -> UID | None:
    """Return the transfer syntax (0002,0010), or None in a file without meta information."""
    meta = getattr(dataset, "file_meta", None)
    syntax = None if meta is None else meta.get("TransferSyntaxUID")
    return None if syntax is None else UID(syntax)


def decode(dataset: Dataset, note: Note = lambda clause: None) -> NDArray[Any]:
    """Return stored values, (height, width), or (height, width, 3) where the one frame is in colour.

    Args:
        dataset: a whole header with its pixels, as `require_single_image` leaves it.
        note: called where the bits are not taken from their position in the header.

    Raises:
        Undecodable: the pixels are truncated, broken, or in an unknown encoding.
    """
    if transfer_syntax(dataset) is None:
        _assume_syntax(dataset)
    try:
        stored = _stored_values(dataset, note)
        if dataset.get("PhotometricInterpretation") == "PALETTE COLOR":
            stored = apply_color_lut(stored, dataset)
    except MemoryError:
        raise
    except Exception as error:  # each plugin raises its own
        log.debug("no decoder could read the pixels: %s", error)
        syntax = transfer_syntax(dataset)
        raise Undecodable(
            "is broken or truncated: its pixels cannot be decoded"
            + (f" ({syntax.name})" if syntax is not None else "")
        ) from error
    return stored


def _stored_values(dataset: Dataset, note: Note) -> NDArray[Any]:
    """Return the pixel values, shifted where their bits do not begin at bit 0 by `HighBit` (PS3.5 8.1.1).

    Codestreams hold values, not bits, except run lengths: for them `HighBit` means nothing.
    """
    syntax = transfer_syntax(dataset)
    high, bits = number_of(dataset, "HighBit"), number_of(dataset, "BitsStored")
    codestream = syntax is not None and syntax.is_encapsulated and syntax != RLELossless
    if "PixelData" not in dataset or codestream or high is None or bits is None or high == bits - 1:
        return _values_as_stored(dataset)
    lowest = f"is read from its {bits:g} lowest bits: its {named('HighBit')} is {high:g}"
    if not bits <= high + 1 <= int(dataset.BitsAllocated):
        note(f"{lowest}, where they do not fit")
        return pixel_array(dataset)
    raw, below = pixel_array(dataset, correct_unused_bits=False), int(high + 1 - bits)
    raw = raw.astype(raw.dtype.newbyteorder("="), copy=False)
    unsigned = raw.view(f"u{raw.dtype.itemsize}")
    if unsigned.max() < 1 << int(bits) and (unsigned & ((1 << below) - 1)).any():
        note(f"{lowest}, but no value has a bit above them")
        return pixel_array(dataset)
    # What lies above (overlays) and below is dropped; the sign of signed values is their own highest bit.
    above = 8 * raw.dtype.itemsize - 1 - int(high)
    return (raw << above) >> (above + below)


def _values_as_stored(dataset: Dataset) -> NDArray[Any]:
    """Return the pixel values where their bits begin at bit 0.

    pydicom shifts every value up and down to clear unused bits, in new memory twice; uncompressed values that
    fit their bits are a view of the file's bytes.
    """
    syntax = transfer_syntax(dataset)
    bits = int(dataset.get("BitsStored") or 0)
    if syntax is None or syntax.is_encapsulated or int(dataset.SamplesPerPixel) != 1 or bits < 1:
        return pixel_array(dataset)
    raw = pixel_array(dataset, view_only=True, correct_unused_bits=False)
    lowest, above = (0, 1 << bits) if raw.dtype.kind == "u" else (-1 << bits - 1, 1 << bits - 1)
    if raw.dtype.kind in "ui" and lowest <= raw.min() and raw.max() < above:
        return raw
    return pixel_array(dataset)


def _assume_syntax(dataset: Dataset) -> None:
    """Set the transfer syntax of a file without meta information to that of its elements (PS3.5 10.1)."""
    implicit, little = dataset.original_encoding
    dataset.ensure_file_meta()
    dataset.file_meta.TransferSyntaxUID = (
        pydicom.uid.ImplicitVRLittleEndian
        if implicit
        else pydicom.uid.ExplicitVRLittleEndian
        if little
        else pydicom.uid.ExplicitVRBigEndian
    )


@dataclass(frozen=True, slots=True)
class FrameShape:
    """A compressed frame's own size: rows and columns in pixels, and bits of one sample."""

    rows: int
    columns: int
    bits: int


# Start-of-frame markers: ITU-T T.81 table B.1 (C4, C8 and CC are not frames) and T.87 (F7, JPEG-LS).
_FRAME_MARKERS = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC} | {0xF7})


def frame_shape(frame: bytes) -> FrameShape | None:
    """Return a compressed frame's own shape, by its first markers (JPEG, JPEG-LS, JPEG 2000).

    None for another kind, or a frame that is too short.
    """
    try:
        if frame[:4] == b"\xff\x4f\xff\x51":
            return _jpeg_2000(frame)
        if frame[:2] == b"\xff\xd8":
            return _jpeg(frame)
    except (struct.error, IndexError):
        return None
    return None


def _jpeg_2000(frame: bytes) -> FrameShape:
    """Read the SIZ marker segment (ITU-T T.800 A.5.1)."""
    right, bottom, left, top = struct.unpack_from(">4I", frame, 8)
    return FrameShape(bottom - top, right - left, (frame[42] & 0x7F) + 1)


def _jpeg(frame: bytes) -> FrameShape | None:
    """Walk the marker segments to the frame header (ITU-T T.81 B.2.2)."""
    position = 2
    while position + 9 <= len(frame):
        if frame[position] != 0xFF:
            return None
        marker = frame[position + 1]
        if marker == 0xFF:  # fill byte (B.1.1.2)
            position += 1
            continue
        if marker in _FRAME_MARKERS:
            bits, rows, columns = struct.unpack_from(">BHH", frame, position + 4)
            return FrameShape(rows, columns, bits)
        if marker == 0xDA:  # scan data: the frame header must have come before
            return None
        (length,) = struct.unpack_from(">H", frame, position + 2)
        position += 2 + length
    return None
