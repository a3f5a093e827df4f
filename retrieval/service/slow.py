"""A lane for what takes seconds: processes of their own that give way to searches, so that neither the
interpreter's lock nor a core is held up by a map or a draft."""

import logging
import multiprocessing
import os
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from indexer.index import Index
from retrieval.service.problems import Refused
from retrieval.service.slow_worker import serve

log = logging.getLogger(__name__)

MOST_WAITING = 8
_MOST_WORKERS = 2

Given = ParamSpec("Given")
Result = TypeVar("Result")

_ENDED = Refused(
    503,
    "computing-ended",
    "The process that computed this came to an end: try again, and tell who runs the service if it does so "
    "again.",
)


def half_the_cores() -> int:
    """How many cores searches may use at once, and how many the slow lane: the other half, at least one.

    Where networks of both use every core, each waits for threads of its own that the other has displaced.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // 2)


class _Worker:
    """One process and the line to it."""

    def __init__(self, process: BaseProcess, connection: Connection) -> None:
        self.process, self.connection = process, connection

    def end(self) -> None:
        self.connection.close()
        self.process.kill()
        self.process.join()


class SlowLane:
    """Makes a few long calls beside the searches, and refuses more than can wait. Threads may share it."""

    def __init__(self, home: Path, workers: int | None = None) -> None:
        """Make a lane of `workers` processes that work on the index of a home.

        By default one for every two cores, two at most: each holds an encoder, and one core is for searches.
        """
        workers = workers or min(_MOST_WORKERS, half_the_cores())
        self._home, self._threads = home, max(1, half_the_cores() // workers)
        # Not fork: torch's threads and the database's connections must not be copied into a worker.
        self._context = multiprocessing.get_context("spawn")
        self._free: queue.SimpleQueue[_Worker | None] = queue.SimpleQueue()
        self._open: set[_Worker] = set()
        self._mutex = threading.Lock()
        self._closing = False
        for _ in range(workers):
            self._free.put(None)
        self._pool = ThreadPoolExecutor(workers, "slow")
        self._room = threading.BoundedSemaphore(workers + MOST_WAITING)

    def run(
        self, call: Callable[Concatenate[Index, Given], Result], *args: Given.args, **kwargs: Given.kwargs
    ) -> "Future[Result]":
        """Have a function of a module called with the index and these arguments, in a worker.

        The future raises what the call raises, and `Refused` where its process dies.

        Raises:
            Refused: too many wait already.
        """
        if not self._room.acquire(blocking=False):
            raise Refused(
                503, "busy", "Too much is being computed: try again in a moment.", {"Retry-After": "10"}
            )
        future = self._pool.submit(self._call, call, args, kwargs)
        future.add_done_callback(lambda _: self._room.release())
        return future

    def process_ids(self) -> list[int]:
        """Of the living processes."""
        with self._mutex:
            return [worker.process.pid for worker in self._open if worker.process.pid is not None]

    def close(self) -> None:
        """End the processes; what is being computed is given up, what waits is not begun."""
        with self._mutex:
            self._closing = True
            for worker in self._open:
                worker.process.kill()
        self._pool.shutdown(cancel_futures=True)
        with self._mutex:
            for worker in self._open:
                worker.end()
            self._open.clear()

    def _call(
        self, call: Callable[..., Result], args: tuple[object, ...], kwargs: dict[str, object]
    ) -> Result:
        worker = self._free.get()
        try:
            if worker is None or not worker.process.is_alive():
                self._bury(worker)
                worker = None
                worker = self._start()
            worker.connection.send((call, args, kwargs))
            done, told = worker.connection.recv()
        except (EOFError, OSError):
            self._bury(worker)
            worker = None
            if not self._closing:
                log.warning("a process that computed for a request came to an end")
            raise _ENDED from None
        finally:
            self._free.put(worker)
        if not done:
            raise told
        result: Result = told
        return result

    def _start(self) -> _Worker:
        here, there = self._context.Pipe()
        process = self._context.Process(
            target=serve, args=(there, self._home, self._threads), name="slow", daemon=True
        )
        process.start()
        there.close()
        worker = _Worker(process, here)
        with self._mutex:
            if self._closing:
                worker.end()
                raise _ENDED
            self._open.add(worker)
        return worker

    def _bury(self, worker: _Worker | None) -> None:
        if worker is not None:
            with self._mutex:
                self._open.discard(worker)
            with suppress(OSError):
                worker.end()
