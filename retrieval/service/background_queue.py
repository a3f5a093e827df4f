"""The background queue: long computations (maps, drafts) run in background workers beside the searches.

The workers have a lower priority than the service, and neither the interpreter's lock nor a core of the
searches waits for them.
"""

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
from retrieval.service.process_pool import ProcessPool

log = logging.getLogger(__name__)

MOST_WAITING = 8
_MOST_WORKERS = 2

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

_WORKER_DIED = Refused(
    503,
    "computing-ended",
    "The process that computed this came to an end: try again, and tell your administrator if it happens "
    "again.",
)


def half_the_cores() -> int:
    """Return how many cores the searches may use, and how many the background queue: half of all, at least 1.

    Where networks of both use every core, each waits for threads of its own that the other has displaced.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // 2)


class BackgroundQueue:
    """Runs a few long calls beside the searches and refuses more than can wait. Threads may share it."""

    def __init__(self, home: Path, workers: int | None = None) -> None:
        """Prepare the queue.

        Args:
            home: folder of the home that the workers open.
            workers: number of processes; default is one for every two cores, two at most: each holds an
                encoder, and one core is for searches.
        """
        workers = workers or min(_MOST_WORKERS, half_the_cores())
        setup = {"home": str(home)}
        threads = {"OMP_NUM_THREADS": str(max(1, half_the_cores() // workers))}
        self._workers = ProcessPool(
            workers, lambda: WorkerProcess("retrieval.service.background_worker:work", setup, threads)
        )
        self._threads = ThreadPoolExecutor(workers, "background")
        self._room = threading.BoundedSemaphore(workers + MOST_WAITING)

    def run(
        self,
        call: Callable[Concatenate[Index, Arguments], Result],
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> "Future[Result]":
        """Call a module-level function with the index and these arguments in a worker.

        The future raises what the call raises, and `Refused` (503) where the worker dies.

        Raises:
            Refused: 503, too many calls wait already.
        """
        if not self._room.acquire(blocking=False):
            raise Refused(
                503, "busy", "Too much is being computed: try again in a moment.", {"Retry-After": "10"}
            )
        future = self._threads.submit(self._call, call, args, kwargs)
        future.add_done_callback(lambda _: self._room.release())
        return future

    def process_ids(self) -> list[int]:
        """Return the ids of the living processes."""
        return self._workers.process_ids()

    def close(self) -> None:
        """End the processes: calls under way are given up, waiting ones never start."""
        self._workers.stop()
        self._threads.shutdown(cancel_futures=True)
        self._workers.close()

    def _call(
        self, call: Callable[..., Result], args: tuple[object, ...], kwargs: dict[str, object]
    ) -> Result:
        try:
            with self._workers.lend() as worker:
                _, answer = worker.exchange({}, pickle.dumps((call, args, kwargs)))
                succeeded, outcome = pickle.loads(answer)
        except (EOFError, OSError):
            if not self._workers.closing:
                log.warning("a background worker died")
            raise _WORKER_DIED from None
        if not succeeded:
            raise outcome
        result: Result = outcome
        return result
