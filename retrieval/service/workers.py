"""A few processes that each do one thing at a time for whoever asks, and are replaced when they fail."""

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from corpus.worker import WorkerProcess

Make = Callable[[], WorkerProcess]
"""Starts a process."""


class Workers:
    """Lends processes, started when they are first needed. Threads may share it."""

    def __init__(self, count: int, make: Make, most_tasks: int | None = None) -> None:
        """Lend `count` processes at once, each `most_tasks` times before a fresh one takes its place."""
        self._make, self._most_tasks = make, most_tasks
        self._free: queue.SimpleQueue[WorkerProcess | None] = queue.SimpleQueue()
        self._lent: dict[WorkerProcess, int] = {}  # how often each of the living was
        self._mutex = threading.Lock()
        self._closing = False
        for _ in range(count):
            self._free.put(None)

    @contextmanager
    def lent(self, seconds: float | None = None) -> Iterator[WorkerProcess]:
        """A living process for one exchange; one that an exchange fails with is ended.

        Raises:
            queue.Empty: all are lent, and none came back within `seconds`.
            BrokenPipeError: no more are lent, see `stop`.
        """
        worker = self._free.get(timeout=seconds)
        try:
            if worker is not None and not worker.alive:
                self._bury(worker)
                worker = None
            worker = worker or self._start()
            self._lent[worker] += 1
            yield worker
            if self._lent.get(worker) == self._most_tasks:
                self._bury(worker)
                worker = self._start()  # now, so that the next to ask need not wait for what it imports
        except BaseException:
            self._bury(worker)
            worker = None
            raise
        finally:
            self._free.put(worker)

    @property
    def closing(self) -> bool:
        """Whether no more are lent."""
        return self._closing

    def process_ids(self) -> list[int]:
        """Of the living processes."""
        with self._mutex:
            return [worker.process_id for worker in self._lent]

    def stop(self) -> None:
        """Kill the processes and lend no more; who talks to one finds the line broken."""
        with self._mutex:
            self._closing = True
            for worker in self._lent:
                worker.kill()

    def close(self) -> None:
        """Stop, and hang up."""
        self.stop()
        with self._mutex:
            for worker in self._lent:
                worker.end()
            self._lent.clear()

    def _start(self) -> WorkerProcess:
        with self._mutex:
            if self._closing:
                raise BrokenPipeError("the processes were ended")
            worker = self._make()
            self._lent[worker] = 0
        return worker

    def _bury(self, worker: WorkerProcess | None) -> None:
        if worker is not None:
            with self._mutex:
                self._lent.pop(worker, None)
            with suppress(OSError):
                worker.end()
