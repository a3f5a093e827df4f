"""Reading images for requests in decode workers, which are killed when an image takes too long."""

import logging
import queue
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from corpus.dicom.spacing import Spacing
from corpus.errors import ExportError, NotAdmitted, SimilarityError, UnreadableImage
from corpus.settings import settings
from corpus.subjects import Patient
from corpus.worker import WorkerProcess, WorkerTimeout
from indexer.ingest.embedding import stamp_of
from retrieval.export.source import SourceImage
from retrieval.query.image import QueryImage
from retrieval.service.problems import Refused
from retrieval.service.process_pool import ProcessPool

log = logging.getLogger(__name__)

WORKERS = 2
_TASKS_EACH = 500
"""Images that one process reads before a fresh one replaces it: what a decoder leaks ends with it."""

_CACHE_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Window:
    """How an image is rendered.

    low: grey value in [0, 1] that becomes black.
    high: grey value in [0, 1] that becomes white.
    longest: pixels of the longer side; None for full size.
    depth: bits of grey, 8 or 16.
    """

    low: float = 0.0
    high: float = 1.0
    longest: int | None = None
    depth: int = 8


@dataclass(frozen=True, slots=True)
class RenderedImage:
    """An image as a PNG; `height` and `width` are those of the image as read, in pixels."""

    png: bytes
    height: int
    width: int


class ImagePool:
    """The decode workers. Threads may share it; a call waits for a free process."""

    def __init__(self, workers: int = WORKERS, seconds: float | None = None) -> None:
        """Prepare the pool.

        Args:
            workers: number of processes.
            seconds: longest time for one image; default is `settings().parse_seconds`.
        """
        self._seconds = seconds if seconds is not None else settings().parse_seconds
        setup = {"pixels": settings().upload_pixels}
        self._workers = ProcessPool(
            workers, lambda: WorkerProcess("retrieval.service.decode_worker:work", setup), _TASKS_EACH
        )

    def decode(self, content: bytes, name: str) -> QueryImage:
        """Decode an uploaded image; messages call it `name`.

        Raises:
            UnreadableImage, NotAdmitted: it is not a readable radiograph.
            Refused: 503, every process is busy.
        """
        return _image_of(*self._run({"op": "decode", "name": name}, content))

    def read(self, location: str) -> QueryImage:
        """Read an image of the catalog; else as `decode`."""
        return _image_of(*self._run({"op": "read", "location": location}, b""))

    def render(self, location: str, window: Window) -> RenderedImage:
        """Render an image of the catalog as a PNG; else as `decode`."""
        return self._render({"location": location}, b"", window)

    def render_upload(self, content: bytes, name: str, window: Window) -> RenderedImage:
        """Render an uploaded image as a PNG; else as `decode`."""
        return self._render({"name": name}, content, window)

    def source(self, location: str, name: str) -> SourceImage:
        """Return the DICOM attributes that an export of a catalog image repeats; messages call it `name`.

        Raises:
            ExportError: the image is not DICOM, or lacks an attribute that an export needs.
        """
        return SourceImage.from_json(self._run({"op": "source", "location": location, "name": name}, b"")[0])

    def source_of_upload(self, content: bytes, name: str) -> SourceImage:
        """Return the same of an uploaded image."""
        return SourceImage.from_json(self._run({"op": "source", "name": name}, content)[0])

    def close(self) -> None:
        """End the processes."""
        self._workers.close()

    def process_ids(self) -> list[int]:
        """Return the ids of the living processes."""
        return self._workers.process_ids()

    def _render(self, which: dict[str, Any], body: bytes, window: Window) -> RenderedImage:
        task = {"op": "render", **which, "low": window.low, "high": window.high}
        header, png = self._run({**task, "longest": window.longest, "depth": window.depth}, body)
        return RenderedImage(bytes(png), int(header["height"]), int(header["width"]))

    def _run(self, task: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytearray]:
        try:
            with self._workers.lend(self._seconds) as worker:
                header, answer = worker.exchange(task, body, self._seconds)
        except queue.Empty:
            raise Refused(
                503, "busy", "Too many images are being read: try again in a moment.", {"Retry-After": "5"}
            ) from None
        except (EOFError, OSError):
            log.warning("a decode worker died over an image")
            raise UnreadableImage("the image cannot be read: it is damaged, or too large") from None
        except WorkerTimeout:
            log.warning("a decode worker was ended: an image took too long")
            raise UnreadableImage(
                f"reading the image took more than {self._seconds:g} s, and was given up"
            ) from None
        if "error" in header:
            raise _ERRORS.get(str(header.get("state")), UnreadableImage)(str(header["error"]))
        return header, answer


_ERRORS: Mapping[str, type[SimilarityError]] = {"not-admitted": NotAdmitted, "no-source": ExportError}


def _image_of(header: dict[str, Any], pixels: bytearray) -> QueryImage:
    shape = int(header["height"]), int(header["width"])
    grey = np.frombuffer(pixels, np.float32)
    if grey.size != shape[0] * shape[1]:
        raise UnreadableImage("the image cannot be read: it is damaged")
    patient = header["patient"]
    return QueryImage(
        grey.reshape(shape),
        str(header["content"]),
        None if patient is None else Patient(**{part.name: patient[part.name] for part in fields(Patient)}),
        bool(header["dicom"]),
        None if header["spacing"] is None else Spacing(**header["spacing"]),
        tuple(map(str, header["notes"])),
    )


class ThumbnailCache:
    """The thumbnails used last, in memory only: a grid is drawn again and again. Threads may share it.

    The key is the file and its stamp (`stamp_of`: size, times, rules of rendering), so that a changed file is
    rendered anew.
    """

    def __init__(self, most_bytes: int = _CACHE_BYTES) -> None:
        self._cached: OrderedDict[tuple[str, str], RenderedImage] = OrderedDict()
        self._bytes, self._most_bytes = 0, most_bytes
        self._mutex = threading.Lock()

    def get(self, location: str, render: Callable[[], RenderedImage]) -> RenderedImage:
        """Return the thumbnail of an image; `render` makes it where the cache lacks it."""
        stamp = stamp_of(location)
        if stamp is None:
            return render()
        key = (location, stamp)
        with self._mutex:
            if key in self._cached:
                self._cached.move_to_end(key)
                return self._cached[key]
        rendered = render()
        with self._mutex:
            if key not in self._cached:
                self._cached[key] = rendered
                self._bytes += len(rendered.png)
            while self._bytes > self._most_bytes:
                _, oldest = self._cached.popitem(last=False)
                self._bytes -= len(oldest.png)
        return rendered
