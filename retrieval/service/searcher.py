"""One thread that answers every search, together with those that came while it was at the last ones.

The embedded engine keeps the interpreter to itself while it searches, and a network encodes sixteen phrases
in little more time than one: many threads would be slower than this one, and the event loop stays free.
"""

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from corpus.errors import SimilarityError
from retrieval.answer import Answer
from retrieval.query import Query

AT_ONCE = 16
Answering = Callable[[Sequence[Query]], Sequence[Answer | SimilarityError]]


@dataclass
class _Asked:
    query: Query
    future: "Future[Answer]" = field(default_factory=Future)


class Searcher:
    """Answers queries in the order they come, as many at once as wait."""

    def __init__(self, answering: Answering, on_batch: Callable[[int], object]) -> None:
        """Start the thread.

        Args:
            answering: answers several queries, an error in the place of what it cannot answer.
            on_batch: told how many are answered together.
        """
        self._answering, self._on_batch = answering, on_batch
        self._waiting: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="searcher", daemon=True)
        self._thread.start()

    def ask(self, query: Query) -> "Future[Answer]":
        """Have a query answered; the future raises what is wrong with it."""
        asked = _Asked(query)
        self._waiting.put(asked)
        return asked.future

    def close(self) -> None:
        """Answer what waits, and end the thread."""
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        ended = False
        while not ended:
            batch = [self._waiting.get()]
            while len(batch) < AT_ONCE and not self._waiting.empty():
                batch.append(self._waiting.get())
            ended = None in batch
            self._answer([asked for asked in batch if asked is not None])

    def _answer(self, batch: list[_Asked]) -> None:
        wanted = [asked for asked in batch if asked.future.set_running_or_notify_cancel()]
        if not wanted:
            return
        self._on_batch(len(wanted))
        try:
            answers = self._answering([asked.query for asked in wanted])
        except BaseException as error:  # handed on to whoever waits for it
            for asked in wanted:
                asked.future.set_exception(error)
            return
        for asked, answer in zip(wanted, answers, strict=True):
            if isinstance(answer, Answer):
                asked.future.set_result(answer)
            else:
                asked.future.set_exception(answer)
