"""The searcher: two threads that answer every search. One encodes all waiting queries at once, the other
searches with all of them while the first encodes the next.

A network encodes sixteen phrases in little more time than one and releases the interpreter meanwhile; the
embedded engine occupies the interpreter while it searches. More threads would be slower than these two, and
the event loop stays free.

With `SIMILARITY_SEARCH_WORKERS` index workers encode and search instead: the service's own process then only
passes queries on, and the embedded engine answers their batches of vectors.
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
"""Queries encoded together at most."""

Outcomes = Sequence[Answer | Exception]
Prepare = Callable[[Sequence[Query]], Callable[[], Outcomes]]
"""Encodes queries; returns their search, which returns the answer to each or the reason for none."""


@redacted
@dataclass
class _Request:
    query: Query
    future: "Future[Answer]" = field(default_factory=Future)


class Searcher:
    """Answers queries in the order they come and encodes as many together as wait."""

    def __init__(self, prepare: Prepare, on_batch: Callable[[int], object], searchers: int = 1) -> None:
        """Start the threads.

        Args:
            prepare: encodes queries.
            on_batch: called with the number of queries that are encoded together.
            searchers: threads that search: one for each process that does so.
        """
        self._prepare_queries, self._on_batch, self._searchers = prepare, on_batch, searchers
        self._waiting: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        # One batch waits at most: the queries behind it are taken together.
        self._encoded: queue.Queue[tuple[list[_Request], Callable[[], Outcomes]] | None] = queue.Queue(1)
        self._threads = [
            threading.Thread(target=self._run_encoder, name="encoder", daemon=True),
            *(
                threading.Thread(target=self._run_searcher, name=f"searcher-{number}", daemon=True)
                for number in range(searchers)
            ),
        ]
        for thread in self._threads:
            thread.start()

    def ask(self, query: Query) -> "Future[Answer]":
        """Queue a query; the future is its answer, or raises the error of its encoding or search."""
        request = _Request(query)
        self._waiting.put(request)
        return request.future

    def close(self) -> None:
        """Answer the waiting queries and end the threads."""
        self._waiting.put(None)
        for thread in self._threads:
            thread.join()

    def _run_encoder(self) -> None:
        ended = False
        while not ended:
            batch = [self._waiting.get()]
            # Those that wait are shared out among the searchers.
            most = min(AT_ONCE, -(-(self._waiting.qsize() + 1) // self._searchers))
            while len(batch) < most and not self._waiting.empty():
                batch.append(self._waiting.get())
            ended = None in batch
            requests = [r for r in batch if r is not None and r.future.set_running_or_notify_cancel()]
            if requests:
                self._encode(requests)
        for _ in range(self._searchers):
            self._encoded.put(None)

    def _encode(self, requests: list[_Request]) -> None:
        self._on_batch(len(requests))
        try:
            search = self._prepare_queries([request.query for request in requests])
        except BaseException as error:  # raised where the future is awaited
            _fail(requests, error)
        else:
            self._encoded.put((requests, search))

    def _run_searcher(self) -> None:
        while (encoded := self._encoded.get()) is not None:
            requests, search = encoded
            try:
                outcomes = search()
            except BaseException as error:  # raised where the futures are awaited
                _fail(requests, error)
                continue
            for request, outcome in zip(requests, outcomes, strict=True):
                if isinstance(outcome, Exception):
                    request.future.set_exception(outcome)
                else:
                    request.future.set_result(outcome)


def _fail(requests: Sequence[_Request], error: BaseException) -> None:
    for request in requests:
        request.future.set_exception(error)
