"""A batch: JSON lines of queries in, JSON lines of answers out, in order, encoded together as they arrive."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from queue import Empty, Queue
from threading import Thread
from typing import Any, BinaryIO

from corpus.errors import ServerUnavailable, SimilarityError, UsageError
from corpus.redaction import redacted
from retrieval.answer import Answer
from retrieval.query.query import Query, query_from_json

AT_ONCE = 32
"""Queries that are decoded and encoded together."""

Identifier = str | int
Answering = Callable[[Sequence[Query]], Sequence[Answer | SimilarityError]]


@redacted
@dataclass(frozen=True, slots=True)
class Line:
    """One line of a batch.

    Attributes:
        id: the line's own; without one its number, from 1.
        query: the query, or what is wrong with the line.
    """

    id: Identifier
    query: Query | SimilarityError


def read_line(number: int, line: bytes) -> Line:
    """Parse one line of a batch; an error takes the place of its query."""
    try:
        parsed = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return Line(number, UsageError(f"line {number} is not JSON"))
    if not isinstance(parsed, dict):
        return Line(number, UsageError(f"line {number} is not a JSON object"))
    name = parsed.get("id", number)
    if isinstance(name, bool) or not isinstance(name, str | int):
        return Line(number, UsageError("id is text or a whole number"))
    try:
        return Line(name, query_from_json(parsed))
    except SimilarityError as error:
        return Line(name, error)


def answer_lines(stream: BinaryIO, answering: Answering) -> Iterator[dict[str, Any]]:
    """Answer every line of a stream, in order.

    Lines are taken together as far as they have arrived, up to `AT_ONCE`: a file is answered in full
    batches, and a program that writes one line and waits for its answer gets it.

    Args:
        stream: JSON lines, one query each; blank lines are passed over.
        answering: answers several queries, with an error in the place of one that it cannot answer.

    Raises:
        ServerUnavailable: a server of the index went away; every line before was answered.
    """
    for lines in _arrived(stream):
        queries = [line.query for line in lines if isinstance(line.query, Query)]
        answers = iter(answering(queries) if queries else ())
        for line in lines:
            answer = next(answers) if isinstance(line.query, Query) else line.query
            if isinstance(answer, ServerUnavailable):
                raise answer  # nothing is wrong with the line, and those behind it fare no better
            if isinstance(answer, Answer):
                yield {"id": line.id, **answer.as_json()}
            else:
                yield {"id": line.id, "error": " ".join(str(answer).split())}


def _arrived(stream: BinaryIO) -> Iterator[list[Line]]:
    """Yield what has arrived since the last time, at least one line and at most `AT_ONCE`."""
    waiting: Queue[Line | OSError | None] = Queue(maxsize=4 * AT_ONCE)

    def read() -> None:
        try:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    waiting.put(read_line(number, line))
        except OSError as error:
            waiting.put(error)
        waiting.put(None)

    Thread(target=read, daemon=True, name="batch-reader").start()
    ended = False
    while not ended:
        lines: list[Line] = []
        item = waiting.get()
        while True:
            if isinstance(item, OSError):
                raise UsageError(f"the batch cannot be read: {item.strerror}")
            if item is None:
                ended = True
                break
            lines.append(item)
            if len(lines) == AT_ONCE:
                break
            try:
                item = waiting.get_nowait()
            except Empty:
                break
        if lines:
            yield lines
