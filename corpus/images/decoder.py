"""Image decoding for an encoder, in this process or in a pool of decode processes.

Decoding in the encoder's process would delay the encoder, and a broken file can end the process that decodes
it. A worker that dies or hangs costs one image, which is recorded as failed; a new worker takes over. A
worker imports the corpus layer alone, neither torch nor a database.
"""

import signal
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from corpus.errors import CorpusError, NotAdmitted, SimilarityError
from corpus.geometry import Framing
from corpus.images.reader import frame_image
from corpus.worker import Answer, WorkerProcess, WorkerTimeout, lower_priority


@dataclass(frozen=True, slots=True)
class Decoded:
    """An image ready for the encoder.

    `content`: hash of its pixels (64 hex).
    `framed`: (size, size) float32 in [0, 1].
    `shape`: (height, width) of the image as read.
    `seconds`: decoding time.
    `notes`: as of `corpus.images.reader.ImageRead`.
    """

    content: str
    framed: NDArray[np.float32]
    shape: tuple[int, int]
    seconds: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Undecoded:
    """An image that could not be read, and why."""

    state: Literal["failed", "skipped"]
    reason: str


Outcome = Decoded | Undecoded


def decode(location: str, framing: Framing) -> Outcome:
    """Read one image and letterbox it into the encoder's square; never raises for a bad image.

    Args:
        location: as `corpus.images.reader.read_image` takes it.
        framing: letterbox of the encoder.

    Returns:
        The image; or an `Undecoded` with the reason, `skipped` for a modality that is not admitted, else
        `failed`.
    """
    start = time.perf_counter()
    try:
        image = frame_image(location, framing)
    except NotAdmitted as error:
        return Undecoded("skipped", str(error))
    except (CorpusError, SimilarityError) as error:
        return Undecoded("failed", str(error))
    except Exception as error:  # whatever a decoder raises, it concerns this image alone
        return Undecoded("failed", f"it cannot be read ({type(error).__name__})")
    seconds = time.perf_counter() - start
    return Decoded(image.content, image.framed, image.shape, seconds, image.notes)


def work(setup: Mapping[str, Any]) -> Answer:
    """Prepare a worker process for `corpus.worker`.

    Args:
        setup: `size`, the side of the square in pixels.

    Returns:
        The answer to a message with a `location`: a header, and the framed pixels as float32 bytes; for
        `outcome_of`.
    """
    framing = Framing(int(setup["size"]))
    lower_priority()  # the encoder's thread goes first: a decoded image can wait
    return lambda task, _: _message(decode(task["location"], framing))


def _message(outcome: Outcome) -> tuple[Mapping[str, Any], bytes | memoryview]:
    if isinstance(outcome, Undecoded):
        return {"state": outcome.state, "reason": outcome.reason}, b""
    header = {
        "content": outcome.content,
        "shape": outcome.shape,
        "seconds": outcome.seconds,
        "notes": outcome.notes,
    }
    return header, np.ascontiguousarray(outcome.framed, np.float32).tobytes()


def outcome_of(header: Mapping[str, Any], framed: bytearray, framing: Framing) -> Outcome:
    """Return the outcome that a worker's answer encodes.

    Args:
        header: `state` and `reason` of an image that could not be read; else `content`, `shape`, `seconds`
            and `notes`, as of `Decoded`.
        framed: size · size float32 values, row by row; empty where there are none.
        framing: as the worker has it.
    """
    if "state" in header:
        return Undecoded(header["state"], header["reason"])
    height, width = header["shape"]
    pixels = np.frombuffer(framed, np.float32).reshape(framing.size, framing.size)
    return Decoded(header["content"], pixels, (height, width), header["seconds"], tuple(header["notes"]))


ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(128 << 20),
}
"""Variables of a decode process. It has one core, so OpenBLAS gets one thread. The C library (glibc) uses the
memory of one image again for the next, up to 128 MiB: to get 20 MiB from the system for each image, page by
page, would take a quarter of the time of an uncompressed radiograph."""

HANG_SECONDS = 120.0
"""Time limit of one image; a full-size radiograph takes a twentieth of a second."""


class DecodePool:
    """A pool of decode processes, fed through `submit`; a context manager.

    `submit` never blocks; the caller bounds the number of pending images, and with it the memory of decoded
    ones. With `workers=0` there is no process: `submit` decodes before it returns, and a broken file can end
    this process.
    """

    def __init__(self, framing: Framing, workers: int, hang_seconds: float = HANG_SECONDS) -> None:
        """Prepare the pool; each process is started when it is first needed.

        Args:
            framing: letterbox of the encoder.
            workers: maximum number of processes; 0 decodes in this one.
            hang_seconds: time limit of one image.
        """
        self._framing = framing
        self._hang = hang_seconds
        # Each thread has a process of its own and waits for its answers.
        self._threads = ThreadPoolExecutor(workers, "decode") if workers else None
        self._own = threading.local()
        self._workers: list[WorkerProcess] = []
        self._mutex = threading.Lock()
        self._closing = False

    def __enter__(self) -> "DecodePool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, location: str) -> "Future[Outcome]":
        """Queue an image.

        Args:
            location: as `decode` takes it.

        Returns:
            A future of a `Decoded` or an `Undecoded`, whatever the file is. Its `result` raises
            `WorkerNotStarted` where no process can be started, which no image causes.
        """
        if self._threads is not None:
            return self._threads.submit(self._read, location)
        done: Future[Outcome] = Future()
        done.set_result(decode(location, self._framing))
        return done

    def worker_ids(self) -> list[int]:
        """Process ids of the living workers, oldest first."""
        with self._mutex:
            return [worker.process_id for worker in self._workers]

    def close(self) -> None:
        """End the workers; pending images are not read."""
        with self._mutex:
            self._closing = True
            for worker in self._workers:
                worker.kill()
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)
        for worker in self._workers:
            worker.end()
        self._workers.clear()

    def _read(self, location: str) -> Outcome:
        worker = self._worker()
        if worker is None:
            return Undecoded("failed", "the job ended before it was read")
        try:
            header, framed = worker.exchange({"location": location}, seconds=self._hang)
        except WorkerTimeout:
            self._discard(worker)
            return Undecoded("failed", f"reading it took more than {self._hang:g} s, and was given up")
        except (EOFError, OSError):
            return Undecoded("failed", _death(self._discard(worker)))
        except BaseException:
            self._discard(worker)
            raise
        return outcome_of(header, framed, self._framing)

    def _worker(self) -> WorkerProcess | None:
        """Return this thread's process; None where the pool is being closed."""
        worker: WorkerProcess | None = getattr(self._own, "worker", None)
        if worker is not None and not worker.alive:  # it died while idle: no image caused that
            self._discard(worker)
            worker = None
        with self._mutex:
            if self._closing:
                return None
            if worker is None:
                setup = {"size": self._framing.size}
                worker = WorkerProcess("corpus.images.decoder:work", setup, ENVIRONMENT)
                self._workers.append(worker)
        self._own.worker = worker
        return worker

    def _discard(self, worker: WorkerProcess) -> int:
        """End a process and return its exit code."""
        self._own.worker = None
        with self._mutex, suppress(ValueError):
            self._workers.remove(worker)
        return worker.end()


def _death(exit_code: int) -> str:
    if exit_code < 0:
        name = signal.Signals(-exit_code).name
        cause = " (out of memory?)" if name == "SIGKILL" else ""
        return f"reading it ended the decode process by {name}{cause}"
    return f"reading it ended the decode process with exit code {exit_code}"
