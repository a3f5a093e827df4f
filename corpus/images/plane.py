"""One plane of grey as its file stores it: whole numbers, and the grey of each.

Neither the hash of an image nor its letterboxed square needs the float32 image in memory: both are made in
one pass over parts of it (`corpus.resize`).
"""

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from corpus.geometry import Framing, Orientation
from corpus.resize import Rows, parts_of

_LARGEST, _LARGEST_BYTE = np.float32(65535), np.float32(255)


@dataclass(frozen=True, slots=True, eq=False)
class Plane:
    """An image of grey values.

    `values`: (height, width) uint8 or uint16; or float32, then they are the grey, in [0, 1].
    `white`: the number that stands for white where there are no `shades`: grey is values / white.
    `shades`: (n,) float32 in [0, 1], the grey of each number from 0; n is above every value.
    """

    values: NDArray[Any]
    white: int = 1
    shades: NDArray[np.float32] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.values.shape
        return height, width

    @property
    def is_blank(self) -> bool:
        """Whether all pixels have one grey."""
        low, high = self.values.min(), self.values.max()
        if self.shades is None or low == high:
            return bool(low == high)
        level = self.shades[low]
        if self.shades[high] != level:
            return False
        rows = self.rows()
        return all((rows(*part) == level).all() for part in parts_of(*self.shape))

    def oriented(self, orientation: Orientation) -> "Plane":
        """Return the plane as displayed."""
        return replace(self, values=orientation.apply(self.values))

    def pixels(self) -> NDArray[np.float32]:
        """Return the image: (height, width) float32 in [0, 1], in memory of its own."""
        return self._filled(self.rows())

    def hashed_pixels(self) -> tuple[NDArray[np.float32], str]:
        """Return `pixels` and `content`, made in one pass."""
        digest, read = self._digest()
        return self._filled(read), digest.hexdigest()

    def _filled(self, rows: Rows) -> NDArray[np.float32]:
        pixels = np.empty(self.shape, np.float32)
        for start, stop in parts_of(*self.shape):
            pixels[start:stop] = rows(start, stop)
        return pixels

    def rows(self) -> Rows:
        """Return a reader of the rows, for parts no larger than those of `parts_of`."""
        values, white, shades = self.values, np.float32(self.white), self.shades
        if values.dtype == np.float32:
            return lambda start, stop: values[start:stop]
        buffer = _part_buffer(self.shape, np.float32)
        if shades is not None:
            indices = _part_buffer(self.shape, np.intp)

            def look_up(start: int, stop: int) -> NDArray[np.float32]:
                # Unchecked, since every value has a shade: checked it takes twice the time.
                index, grey = indices[: stop - start], buffer[: stop - start]
                np.copyto(index, values[start:stop])
                np.take(shades, index, out=grey, mode="clip")
                return grey

            return look_up

        def divide(start: int, stop: int) -> NDArray[np.float32]:
            grey = buffer[: stop - start]
            np.copyto(grey, values[start:stop])
            grey /= white
            return grey

        return divide

    def content(self) -> str:
        """Return the SHA-256 (64 hex) of height, width and pixels, equal for equal pixels in any format.

        Pixels count in steps of 1/65535, or of 1/255 where all of them are such steps; so an 8-bit image has
        one hash as PNG, as 16-bit PNG and as DICOM.
        """
        digest, read = self._digest()
        for start, stop in parts_of(*self.shape):
            read(start, stop)
        return digest.hexdigest()

    def framed(self, framing: Framing) -> tuple[NDArray[np.float32], str]:
        """Return the image in an encoder's square, as `Framing.apply` frames `pixels`, and its `content`.

        Both are made in one pass; the pixels of the whole image are never in memory.
        """
        digest, read = self._digest()
        return framing.apply_rows(read, self.shape), digest.hexdigest()

    def _digest(self) -> tuple["hashlib._Hash", Rows]:
        """Return a hash, and a reader of the rows that adds each part to it."""
        rows, in_bytes = self.rows(), self._is_of_bytes()
        height, width = self.shape
        digest = hashlib.sha256(f"grey{8 if in_bytes else 16} {height}x{width}\n".encode())
        largest = _LARGEST_BYTE if in_bytes else _LARGEST
        if in_bytes and self._stores_bytes:

            def read(start: int, stop: int) -> NDArray[np.float32]:
                digest.update(np.ascontiguousarray(self.values[start:stop]).data)
                return rows(start, stop)

            return digest, read
        scaled = _part_buffer(self.shape, np.float32)
        steps = _part_buffer(self.shape, np.dtype(np.uint8 if in_bytes else "<u2"))

        def read_steps(start: int, stop: int) -> NDArray[np.float32]:
            grey, exact, whole = rows(start, stop), scaled[: stop - start], steps[: stop - start]
            np.rint(np.multiply(grey, largest, out=exact), out=exact)
            np.copyto(whole, exact, casting="unsafe")
            digest.update(whole.data)
            return grey

        return digest, read_steps

    @property
    def _stores_bytes(self) -> bool:
        return self.shades is None and self.white == 255 and self.values.dtype == np.uint8

    def _is_of_bytes(self) -> bool:
        """Return whether every pixel is a step of 1/255."""
        if self._stores_bytes:
            return True
        rows, height = self.rows(), self.shape[0]
        middle = height // 2  # one row nearly always decides; the first is often collimated, and black
        return all(
            bool((np.rint(grey * _LARGEST_BYTE) * 257 == np.rint(grey * _LARGEST)).all())
            for part in [(middle, middle + 1), *parts_of(*self.shape)]
            for grey in [rows(*part)]
        )


def _part_buffer(shape: tuple[int, int], dtype: DTypeLike) -> NDArray[Any]:
    """Return memory for any part of an image; to get some anew for each costs more than the arithmetic."""
    most = next(stop - start for start, stop in parts_of(*shape))
    return np.empty((most, shape[1]), dtype)
