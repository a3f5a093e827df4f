"""A pool of index workers, and the calls that they answer."""

import logging
import pickle
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from corpus.worker import WorkerProcess
from retrieval.service.index_worker import load
from retrieval.service.problems import Refused
from retrieval.service.process_pool import ProcessPool

log = logging.getLogger(__name__)

_WORKER_DIED = Refused(
    503,
    "computing-ended",
    "The process that computed this came to an end: try again, and tell your administrator if it happens "
    "again.",
)


class IndexPool:
    """Processes that call functions with an index of their own. Threads may share it."""

    def __init__(self, home: Path, workers: int, entry: str, threads: int) -> None:
        """Prepare the pool; no process starts yet.

        Args:
            home: folder of the home that the workers open.
            workers: number of processes.
            entry: `package.module:function` that prepares a worker (`retrieval.service.index_worker`).
            threads: of the networks of each.
        """
        self._count = workers
        setup, environment = {"home": str(home)}, {"OMP_NUM_THREADS": str(threads)}
        self._workers = ProcessPool(workers, lambda: WorkerProcess(entry, setup, environment))

    def call(
        self, function: Callable[..., Any], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call a module-level function with the index and these arguments in a worker.

        Raises:
            Refused: 503, the worker died.
            Exception: what the function raises.
        """
        try:
            with self._workers.lend() as worker:
                _, answer = worker.exchange({}, pickle.dumps((function, args, kwargs or {})))
                succeeded, outcome = pickle.loads(answer)
        except (EOFError, OSError):
            if not self._workers.closing:
                log.warning("an index worker died")
            raise _WORKER_DIED from None
        if not succeeded:
            raise outcome
        return outcome

    def load(self) -> None:
        """Let every worker load its encoder; nothing waits for it, and a failure is the first call's."""
        for number in range(self._count):
            threading.Thread(target=self._load, name=f"index-pool-{number}", daemon=True).start()

    def _load(self) -> None:
        try:
            self.call(load)
        except Exception as error:
            log.warning("a worker has loaded no encoder yet: %s", type(error).__name__)

    def process_ids(self) -> list[int]:
        """Return the ids of the living processes."""
        return self._workers.process_ids()

    def stop(self) -> None:
        """Kill the processes: calls under way are given up."""
        self._workers.stop()

    def close(self) -> None:
        """Kill the processes and release what they used."""
        self._workers.close()
