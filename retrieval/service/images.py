"""Reading pictures for requests, in processes of their own that are killed when they take too long."""

import logging
import queue
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from corpus.dicom.spacing import Spacing
from corpus.errors import ExportError, NotAdmitted, SimilarityError, UnreadableImage
from corpus.settings import settings
from corpus.subjects import Patient
from corpus.worker import TookTooLong, WorkerProcess
from retrieval.export.source import Source
from retrieval.query.image import Picture
from retrieval.service.problems import Refused
from retrieval.service.workers import Workers

log = logging.getLogger(__name__)

WORKERS = 2
_TASKS_EACH = 500
"""Pictures that one process reads before a fresh one takes its place: what a decoder leaks ends with it."""


@dataclass(frozen=True, slots=True)
class Window:
    """How a picture is shown: grey values that become black and white, longest side in pixels, bits."""

    low: float = 0.0
    high: float = 1.0
    longest: int | None = None
    depth: int = 8


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture as a PNG, and the size of the picture that it was made of."""

    png: bytes
    height: int
    width: int


class PicturePool:
    """A few processes that read pictures. Threads may share it; a call waits for a process that is free."""

    def __init__(self, workers: int = WORKERS, seconds: float | None = None) -> None:
        """Make a pool of `workers` processes, each of which may take `seconds` for one picture."""
        self._seconds = seconds if seconds is not None else settings().parse_seconds
        setup = {"pixels": settings().upload_pixels}
        self._workers = Workers(
            workers, lambda: WorkerProcess("retrieval.service.image_worker:work", setup), _TASKS_EACH
        )

    def decode(self, content: bytes, name: str) -> Picture:
        """Decode a picture that was sent.

        Raises:
            UnreadableImage, NotAdmitted: it is no radiograph that can be read.
            Refused: every process is busy.
        """
        return _picture(*self._ask({"op": "decode", "name": name}, content))

    def read(self, location: str) -> Picture:
        """Read a picture of the catalog; else as `decode`."""
        return _picture(*self._ask({"op": "read", "location": location}, b""))

    def show(self, location: str, window: Window) -> Shown:
        """A picture of the catalog as a PNG; else as `decode`."""
        return self._shown({"location": location}, b"", window)

    def show_sent(self, content: bytes, name: str, window: Window) -> Shown:
        """A picture that was sent as a PNG; else as `decode`."""
        return self._shown({"name": name}, content, window)

    def source(self, location: str, name: str) -> Source:
        """What a DICOM made from a picture of the catalog repeats of it; `name`: what messages call it.

        Raises:
            ExportError: it is no DICOM, or lacks what such a file needs.
        """
        return Source.from_json(self._ask({"op": "source", "location": location, "name": name}, b"")[0])

    def source_of_sent(self, content: bytes, name: str) -> Source:
        """The same of a picture that was sent."""
        return Source.from_json(self._ask({"op": "source", "name": name}, content)[0])

    def close(self) -> None:
        """End the processes."""
        self._workers.close()

    def process_ids(self) -> list[int]:
        """Of the living processes."""
        return self._workers.process_ids()

    def _shown(self, what: dict[str, Any], body: bytes, window: Window) -> Shown:
        task = {"op": "show", **what, "low": window.low, "high": window.high}
        told, png = self._ask({**task, "longest": window.longest, "depth": window.depth}, body)
        return Shown(bytes(png), int(told["height"]), int(told["width"]))

    def _ask(self, task: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytearray]:
        try:
            with self._workers.lent(self._seconds) as worker:
                told, answer = worker.exchange(task, body, self._seconds)
        except queue.Empty:
            raise Refused(
                503, "busy", "Too many pictures are being read: try again in a moment.", {"Retry-After": "5"}
            ) from None
        except (EOFError, OSError):
            log.warning("a picture ended the process that read it")
            raise UnreadableImage("the picture cannot be read: it is damaged, or too large") from None
        except TookTooLong:
            log.warning("a picture took too long and its process was ended")
            raise UnreadableImage(
                f"reading the picture took more than {self._seconds:g} s, and was given up"
            ) from None
        if "error" in told:
            raise _ERRORS.get(str(told.get("state")), UnreadableImage)(str(told["error"]))
        return told, answer


_ERRORS: Mapping[str, type[SimilarityError]] = {"not-admitted": NotAdmitted, "no-source": ExportError}


def _picture(told: dict[str, Any], pixels: bytearray) -> Picture:
    shape = int(told["height"]), int(told["width"])
    grey = np.frombuffer(pixels, np.float32)
    if grey.size != shape[0] * shape[1]:
        raise UnreadableImage("the picture cannot be read: it is damaged")
    named = told["patient"]
    return Picture(
        grey.reshape(shape),
        str(told["content"]),
        None if named is None else Patient(**{part.name: named[part.name] for part in fields(Patient)}),
        bool(told["dicom"]),
        None if told["spacing"] is None else Spacing(**told["spacing"]),
        tuple(map(str, told["notes"])),
    )
