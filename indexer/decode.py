"""Reading pictures in processes of their own: decoding would otherwise hold the encoder up, and a broken file
can take down the process that decodes it.

The workers import the corpus room alone, neither torch nor a database. A worker that dies or hangs costs the
one picture it was at: the picture is recorded as failed, a new worker takes over.
"""

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from corpus.errors import CorpusError, NotAdmitted, SimilarityError
from corpus.framing import Framing
from corpus.images import read_with_hash

log = logging.getLogger(__name__)

HANG_SECONDS = 120.0
"""How long one picture may take; a full-size film takes a twentieth of a second."""

_AHEAD = 2  # tasks handed to a worker at once, so that it never waits for the next
_NICE = 5


@dataclass(frozen=True, slots=True)
class Decoded:
    """A picture ready for the encoder.

    `content`: hash of its pixels (64 hex). `framed`: (size, size) float32 in [0, 1]. `shape`: (height, width)
    of the picture as read. `seconds`: time it took.
    """

    content: str
    framed: NDArray[np.float32]
    shape: tuple[int, int]
    seconds: float


@dataclass(frozen=True, slots=True)
class Undecoded:
    """A picture that could not be read, and why."""

    state: Literal["failed", "skipped"]
    reason: str


Outcome = Decoded | Undecoded


@dataclass
class _Task:
    location: str
    future: "Future[Outcome]" = field(default_factory=Future)


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    tasks: deque[_Task] = field(default_factory=deque)
    since: float = 0.0


class DecodePool:
    """A pool of decode processes, fed through `submit`; leave it as a context manager.

    `submit` never blocks; the caller bounds how many pictures are under way, and so how many decoded ones
    wait in memory.
    """

    def __init__(self, framing: Framing, workers: int, hang_seconds: float = HANG_SECONDS) -> None:
        """Start `workers` processes that read pictures and put them through `framing`."""
        self._framing = framing
        self._hang = hang_seconds
        self._size = max(1, workers)
        # Not plain fork: torch's threads and the database's connections must not be copied into a worker.
        # The server imports what a worker needs once; a worker is then there in milliseconds.
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["__main__", __name__])
        self._workers: list[_Worker] = []
        self._waiting: deque[_Task] = deque()
        self._mutex = threading.Lock()
        self._bell_in, self._bell = multiprocessing.Pipe(duplex=False)
        self._closing = False
        self._thread = threading.Thread(target=self._dispatch, name="decode", daemon=True)
        self._thread.start()

    def __enter__(self) -> "DecodePool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, location: str) -> "Future[Outcome]":
        """Have a picture read; the future's result is a `Decoded` or an `Undecoded`, never an exception."""
        task = _Task(location)
        with self._mutex:
            self._waiting.append(task)
        self._bell.send(None)
        return task.future

    def worker_ids(self) -> list[int]:
        """Process ids of the living workers."""
        return [worker.process.pid for worker in self._workers if worker.process.pid is not None]

    def close(self) -> None:
        """End the workers; what was not read yet is left unread."""
        self._closing = True
        with contextlib.suppress(OSError):
            self._bell.send(None)
        self._thread.join()

    def _dispatch(self) -> None:
        try:
            while not self._closing:
                self._hand_out()
                self._listen()
        except Exception as error:
            log.exception("the decode pool stopped")
            self._fail_all(f"the decode pool stopped: {error}")
        finally:
            for worker in self._workers:
                _end(worker)
            self._fail_all("the job ended before it was read")
            self._bell.close()
            self._bell_in.close()

    def _hand_out(self) -> None:
        with self._mutex:
            while self._waiting and len(self._workers) < self._size:
                if any(not worker.tasks for worker in self._workers):
                    break
                self._workers.append(self._start())
                self._give(self._workers[-1], self._waiting.popleft())
            for _ in range(_AHEAD):
                for worker in self._workers:
                    if self._waiting and len(worker.tasks) < _AHEAD:
                        self._give(worker, self._waiting.popleft())

    def _give(self, worker: _Worker, task: _Task) -> None:
        if not worker.tasks:
            worker.since = time.monotonic()
        worker.tasks.append(task)
        # A worker that died in the meantime is found by its sentinel, and its tasks handed out again.
        with contextlib.suppress(OSError):
            worker.connection.send(task.location)

    def _listen(self) -> None:
        sources: dict[object, _Worker] = {worker.connection: worker for worker in self._workers}
        ready = wait([self._bell_in, *(worker.connection for worker in self._workers)], timeout=1.0)
        for source in ready:
            if source is self._bell_in:
                self._bell_in.recv()
                continue
            worker = sources[source]
            try:
                outcome: Outcome = worker.connection.recv()
            except (EOFError, OSError):
                worker.process.join(timeout=5)
                self._replace(worker, _death(worker.process.exitcode))
                continue
            worker.since = time.monotonic()
            worker.tasks.popleft().future.set_result(outcome)
        now = time.monotonic()
        for worker in list(self._workers):
            if worker.tasks and now - worker.since > self._hang:
                self._replace(worker, f"reading it took more than {self._hang:g} s, and was given up")

    def _replace(self, worker: _Worker, reason: str) -> None:
        """Bury a worker: the picture it was at has failed, those behind it are read by another."""
        self._workers.remove(worker)
        _end(worker)
        if worker.tasks:
            worker.tasks.popleft().future.set_result(Undecoded("failed", reason))
        with self._mutex:
            self._waiting.extendleft(reversed(worker.tasks))

    def _start(self) -> _Worker:
        here, there = self._context.Pipe()
        process = self._context.Process(target=_work, args=(there, self._framing), daemon=True)
        process.start()
        there.close()
        return _Worker(process, here, since=time.monotonic())

    def _fail_all(self, reason: str) -> None:
        with self._mutex:
            left = [task for worker in self._workers for task in worker.tasks] + list(self._waiting)
            self._waiting.clear()
        for worker in self._workers:
            worker.tasks.clear()
        for task in left:
            task.future.set_result(Undecoded("failed", reason))


def decode(location: str, framing: Framing) -> Outcome:
    """Read one picture and put it into the encoder's square."""
    start = time.perf_counter()
    try:
        image, content = read_with_hash(location)
        framed = framing.apply(image)
    except NotAdmitted as error:
        return Undecoded("skipped", str(error))
    except (CorpusError, SimilarityError) as error:
        return Undecoded("failed", str(error))
    except Exception as error:  # whatever a decoder raises, it concerns this picture alone
        return Undecoded("failed", f"it cannot be read ({type(error).__name__})")
    height, width = image.shape
    return Decoded(content, framed, (height, width), time.perf_counter() - start)


def _work(connection: Connection, framing: Framing) -> None:
    """The life of a worker: locations in, outcomes out, until the other end closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process says when to end
    with contextlib.suppress(OSError):
        os.nice(_NICE)  # the encoder's thread goes first: a decoded picture can wait
    read: Callable[[str, Framing], Outcome] = decode
    with contextlib.suppress(EOFError, OSError):
        while True:
            connection.send(read(connection.recv(), framing))


def _death(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        name = signal.Signals(-exit_code).name
        cause = " (out of memory?)" if name == "SIGKILL" else ""
        return f"reading it ended the decode process by {name}{cause}"
    return f"reading it ended the decode process with exit code {exit_code}"


def _end(worker: _Worker) -> None:
    worker.connection.close()
    if worker.process.is_alive():
        worker.process.kill()
    worker.process.join()
