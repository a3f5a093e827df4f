"""A few processes that each do one thing at a time for whoever asks, and are replaced when they fail."""

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

Make = Callable[[Connection], BaseProcess]
"""Makes a process, not yet started, that answers on its end of a line until the other end closes."""


class Worker:
    """One process and the line to it. `tasks`: how often it was lent."""

    def __init__(self, process: BaseProcess, connection: Connection) -> None:
        self.process, self.connection = process, connection
        self.tasks = 0

    def end(self) -> None:
        """Kill it and hang up."""
        self.connection.close()
        self.process.kill()
        self.process.join()


class Workers:
    """Lends processes, started when they are first needed. Threads may share it."""

    def __init__(self, count: int, make: Make, most_tasks: int | None = None) -> None:
        """Lend `count` processes at once, each `most_tasks` times before a fresh one takes its place."""
        self._make, self._most_tasks = make, most_tasks
        self._free: queue.SimpleQueue[Worker | None] = queue.SimpleQueue()
        self._open: set[Worker] = set()
        self._mutex = threading.Lock()
        self._closing = False
        for _ in range(count):
            self._free.put(None)

    @contextmanager
    def lent(self, seconds: float | None = None) -> Iterator[Worker]:
        """A living process for one exchange; one that an exchange fails with is ended.

        Raises:
            queue.Empty: all are lent, and none came back within `seconds`.
            BrokenPipeError: no more are lent, see `stop`.
        """
        worker = self._free.get(timeout=seconds)
        try:
            if worker is not None and (not worker.process.is_alive() or worker.tasks == self._most_tasks):
                self._bury(worker)
                worker = None
            worker = worker or self._start()
            worker.tasks += 1
            yield worker
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
            return [worker.process.pid for worker in self._open if worker.process.pid is not None]

    def stop(self) -> None:
        """Kill the processes and lend no more; who talks to one finds the line broken."""
        with self._mutex:
            self._closing = True
            for worker in self._open:
                worker.process.kill()

    def close(self) -> None:
        """Stop, and hang up."""
        self.stop()
        with self._mutex:
            for worker in self._open:
                worker.end()
            self._open.clear()

    def _start(self) -> Worker:
        here, there = Pipe()
        with self._mutex:
            if self._closing:
                raise BrokenPipeError("the processes were ended")
            process = self._make(there)
            process.start()
            there.close()
            worker = Worker(process, here)
            self._open.add(worker)
        return worker

    def _bury(self, worker: Worker | None) -> None:
        if worker is not None:
            with self._mutex:
                self._open.discard(worker)
            with suppress(OSError):
                worker.end()
