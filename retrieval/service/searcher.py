"""Two threads that answer every search: one reads queries, all at once that wait, and one looks them up while
the first reads on.

A network encodes sixteen phrases in little more time than one, and lets the interpreter go as it does so; the
embedded engine keeps the interpreter to itself while it searches. More threads would be slower than these,
and the event loop stays free.
"""

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from corpus.redaction import redacted
from retrieval.answer import Answer
from retrieval.query.query import Query

AT_ONCE = 16
_AHEAD = 2  # queries that are read before their turn: those that wait longer are read together

Answering = Callable[[], Answer]
Preparing = Callable[[Sequence[Query]], Sequence[Answering]]


@redacted
@dataclass
class _Asked:
    query: Query
    future: "Future[Answer]" = field(default_factory=Future)


class Searcher:
    """Answers queries in the order they come, and reads as many at once as wait."""

    def __init__(self, preparing: Preparing, on_batch: Callable[[int], object]) -> None:
        """Start the threads.

        Args:
            preparing: reads several queries, and gives for each what answers it.
            on_batch: told how many are read together.
        """
        self._preparing, self._on_batch = preparing, on_batch
        self._waiting: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self._read: queue.Queue[tuple[_Asked, Answering] | None] = queue.Queue(_AHEAD)
        self._threads = [
            threading.Thread(target=self._run_reader, name="reader", daemon=True),
            threading.Thread(target=self._run_searcher, name="searcher", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def ask(self, query: Query) -> "Future[Answer]":
        """Have a query answered; the future raises what is wrong with it."""
        asked = _Asked(query)
        self._waiting.put(asked)
        return asked.future

    def close(self) -> None:
        """Answer what waits, and end the threads."""
        self._waiting.put(None)
        for thread in self._threads:
            thread.join()

    def _run_reader(self) -> None:
        ended = False
        while not ended:
            batch = [self._waiting.get()]
            while len(batch) < AT_ONCE and not self._waiting.empty():
                batch.append(self._waiting.get())
            ended = None in batch
            wanted = [a for a in batch if a is not None and a.future.set_running_or_notify_cancel()]
            if wanted:
                self._prepare(wanted)
        self._read.put(None)

    def _prepare(self, wanted: list[_Asked]) -> None:
        self._on_batch(len(wanted))
        try:
            prepared = self._preparing([asked.query for asked in wanted])
        except BaseException as error:  # handed on to whoever waits for it
            for asked in wanted:
                asked.future.set_exception(error)
            return
        for asked, answering in zip(wanted, prepared, strict=True):
            self._read.put((asked, answering))

    def _run_searcher(self) -> None:
        while (read := self._read.get()) is not None:
            asked, answering = read
            try:
                answer = answering()
            except BaseException as error:  # handed on to whoever waits for it
                asked.future.set_exception(error)
            else:
                asked.future.set_result(answer)
