"""A lane for what takes seconds: processes of their own that give way to searches, so that neither the
interpreter's lock nor a core is held up by a map or a draft."""

import logging
import os
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from corpus.worker import WorkerProcess
from indexer.index import Index
from retrieval.service.problems import Refused
from retrieval.service.workers import Workers

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


class SlowLane:
    """Makes a few long calls beside the searches, and refuses more than can wait. Threads may share it."""

    def __init__(self, home: Path, workers: int | None = None) -> None:
        """Make a lane of `workers` processes that work on the index of a home.

        By default one for every two cores, two at most: each holds an encoder, and one core is for searches.
        """
        workers = workers or min(_MOST_WORKERS, half_the_cores())
        setup = {"home": str(home)}
        threads = {"OMP_NUM_THREADS": str(max(1, half_the_cores() // workers))}
        self._workers = Workers(
            workers, lambda: WorkerProcess("retrieval.service.slow_worker:work", setup, threads)
        )
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
        return self._workers.process_ids()

    def close(self) -> None:
        """End the processes; what is being computed is given up, what waits is not begun."""
        self._workers.stop()
        self._pool.shutdown(cancel_futures=True)
        self._workers.close()

    def _call(
        self, call: Callable[..., Result], args: tuple[object, ...], kwargs: dict[str, object]
    ) -> Result:
        try:
            with self._workers.lent() as worker:
                _, answer = worker.exchange({}, pickle.dumps((call, args, kwargs)))
                done, told = pickle.loads(answer)
        except (EOFError, OSError):
            if not self._workers.closing:
                log.warning("a process that computed for a request came to an end")
            raise _ENDED from None
        if not done:
            raise told
        result: Result = told
        return result
