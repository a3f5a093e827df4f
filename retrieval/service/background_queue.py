"""The background queue: long computations (maps, drafts) run in background workers beside the searches.

The workers have a lower priority than the service, and neither the interpreter's lock nor a core of the
searches waits for them.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from indexer.index import Index
from retrieval.service.background_worker import pinned
from retrieval.service.index_pool import IndexPool
from retrieval.service.problems import Refused

MOST_WAITING = 8
_MOST_WORKERS = 2

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


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
        threads = max(1, half_the_cores() // workers)
        self._pool = IndexPool(home, workers, "retrieval.service.background_worker:work", threads)
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
        future: Future[Result] = self._threads.submit(self._pool.call, pinned, (call, *args), kwargs)
        future.add_done_callback(lambda _: self._room.release())
        return future

    def process_ids(self) -> list[int]:
        """Return the ids of the living processes."""
        return self._pool.process_ids()

    def close(self) -> None:
        """End the processes: calls under way are given up, waiting ones never start."""
        self._pool.stop()
        self._threads.shutdown(cancel_futures=True)
        self._pool.close()
