"""What a compressed frame says of its own size: JPEG, JPEG-LS and JPEG 2000, from their first markers.

A DICOM header can promise a small picture around a frame of a gigapixel: decoders believe the frame.
"""

import struct
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FrameShape:
    """Rows and columns in pixels, and bits of one sample."""

    rows: int
    columns: int
    bits: int


# Start-of-frame markers: ITU-T T.81 table B.1 (C4, C8 and CC are not frames) and T.87 (F7, JPEG-LS).
_FRAME_MARKERS = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC} | {0xF7})


def frame_shape(frame: bytes) -> FrameShape | None:
    """Return a compressed frame's own shape, or None where it is of another kind or too short to tell."""
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
    place = 2
    while place + 9 <= len(frame):
        if frame[place] != 0xFF:
            return None
        marker = frame[place + 1]
        if marker == 0xFF:  # fill byte (B.1.1.2)
            place += 1
            continue
        if marker in _FRAME_MARKERS:
            bits, rows, columns = struct.unpack_from(">BHH", frame, place + 4)
            return FrameShape(rows, columns, bits)
        if marker == 0xDA:  # scan data: the frame header must have come before
            return None
        (length,) = struct.unpack_from(">H", frame, place + 2)
        place += 2 + length
    return None
