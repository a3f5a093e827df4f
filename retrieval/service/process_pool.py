"""A pool of worker processes: each serves one task at a time and is replaced when it fails."""

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from corpus.worker import WorkerProcess

StartWorker = Callable[[], WorkerProcess]
"""Starts a process."""


class ProcessPool:
    """Lends worker processes and starts each when it is first needed. Threads may share it."""

    def __init__(self, count: int, start: StartWorker, most_tasks: int | None = None) -> None:
        """Prepare a pool; no process starts yet.

        Args:
            count: processes that work at once.
            start: starts one.
            most_tasks: tasks that a process serves before a fresh one replaces it; None for no limit.
        """
        self._start_worker, self._most_tasks = start, most_tasks
        self._free: queue.SimpleQueue[WorkerProcess | None] = queue.SimpleQueue()
        self._tasks: dict[WorkerProcess, int] = {}  # living process → tasks it was lent for
        self._mutex = threading.Lock()
        self._closing = False
        for _ in range(count):
            self._free.put(None)

    @contextmanager
    def lend(self, seconds: float | None = None) -> Iterator[WorkerProcess]:
        """Lend a living process for one task; if the task raises, the process is ended.

        Args:
            seconds: how long to wait for a free process; None for as long as it takes.

        Raises:
            queue.Empty: no process became free in time.
            BrokenPipeError: the pool is closing, see `stop`.
        """
        worker = self._free.get(timeout=seconds)
        try:
            if worker is not None and not worker.alive:
                self._discard(worker)
                worker = None
            worker = worker or self._start()
            self._tasks[worker] += 1
            yield worker
            if self._tasks.get(worker) == self._most_tasks:
                self._discard(worker)
                worker = self._start()  # now, so that the next task need not wait for its imports
        except BaseException:
            self._discard(worker)
            worker = None
            raise
        finally:
            self._free.put(worker)

    @property
    def closing(self) -> bool:
        """Whether the pool lends no more processes."""
        return self._closing

    def process_ids(self) -> list[int]:
        """Return the ids of the living processes."""
        with self._mutex:
            return [worker.process_id for worker in self._tasks]

    def stop(self) -> None:
        """Kill the processes and lend no more; a task under way finds its connection broken."""
        with self._mutex:
            self._closing = True
            for worker in self._tasks:
                worker.kill()

    def close(self) -> None:
        """Kill the processes, lend no more, and release what they used."""
        self.stop()
        with self._mutex:
            for worker in self._tasks:
                worker.end()
            self._tasks.clear()

    def _start(self) -> WorkerProcess:
        with self._mutex:
            if self._closing:
                raise BrokenPipeError("the processes were ended")
            worker = self._start_worker()
            self._tasks[worker] = 0
        return worker

    def _discard(self, worker: WorkerProcess | None) -> None:
        if worker is not None:
            with self._mutex:
                self._tasks.pop(worker, None)
            with suppress(OSError):
                worker.end()
