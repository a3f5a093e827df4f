"""The searcher's two threads, one encoding and one searching: order, errors, closing."""

import threading
from collections.abc import Callable, Sequence

import pytest

from corpus.errors import UsageError
from retrieval.answer import Answer
from retrieval.query.query import Query
from retrieval.service.searcher import AT_ONCE, Searcher
from tests.waiting import DEADLINE_SECONDS


def answer(query: Query) -> Answer:
    return Answer(query=query.as_json(), encoder={}, hits=(), own_studies=())


def query_of(text: str) -> Query:
    return Query(text=text)


Searching = Callable[[], list[Answer | Exception]]


def prepared(queries: Sequence[Query]) -> Searching:
    return lambda: [answer(query) for query in queries]


def test_each_query_gets_its_own_answer_though_many_are_encoded_together() -> None:
    sizes: list[int] = []
    released = threading.Event()

    def prepare(queries: Sequence[Query]) -> Searching:
        released.wait(DEADLINE_SECONDS)
        return prepared(queries)

    searcher = Searcher(prepare, sizes.append)
    futures = [searcher.ask(query_of(str(number))) for number in range(40)]
    released.set()
    texts = [future.result(DEADLINE_SECONDS).query["text"] for future in futures]
    searcher.close()
    assert texts == [str(number) for number in range(40)]
    assert sum(sizes) == 40
    assert max(sizes) == AT_ONCE


def test_the_next_query_is_encoded_while_one_is_searched() -> None:
    read = threading.Event()
    searched = threading.Event()

    def prepare(queries: Sequence[Query]) -> Searching:
        if any(query.text == "second" for query in queries):
            read.set()
        return lambda: [search(query) for query in queries]

    def search(query: Query) -> Answer:
        if query.text == "first":
            searched.set()
            assert read.wait(DEADLINE_SECONDS)
        return answer(query)

    searcher = Searcher(prepare, lambda size: None)
    first = searcher.ask(query_of("first"))
    assert searched.wait(DEADLINE_SECONDS)
    second = searcher.ask(query_of("second"))
    assert [first.result(DEADLINE_SECONDS).query["text"], second.result(DEADLINE_SECONDS).query["text"]] == [
        "first",
        "second",
    ]
    searcher.close()


def test_an_error_fails_its_own_query_only() -> None:
    def prepare(queries: Sequence[Query]) -> Searching:
        if any(query.text == "unreadable" for query in queries):
            raise ValueError("unreadable")
        return lambda: [search(query) for query in queries]

    def search(query: Query) -> Answer | Exception:
        if query.text == "broken":
            raise LookupError("broken")
        return UsageError("unanswerable") if query.text == "unanswerable" else answer(query)

    searcher = Searcher(prepare, lambda size: None)
    with pytest.raises(ValueError, match="unreadable"):
        searcher.ask(query_of("unreadable")).result(DEADLINE_SECONDS)
    with pytest.raises(LookupError, match="broken"):
        searcher.ask(query_of("broken")).result(DEADLINE_SECONDS)
    futures = [searcher.ask(query_of(text)) for text in ("first", "unanswerable", "last")]
    with pytest.raises(UsageError, match="unanswerable"):
        futures[1].result(DEADLINE_SECONDS)
    assert [futures[n].result(DEADLINE_SECONDS).query["text"] for n in (0, 2)] == ["first", "last"]
    assert searcher.ask(query_of("good")).result(DEADLINE_SECONDS).query["text"] == "good"
    searcher.close()


def test_waiting_queries_are_answered_on_closing() -> None:
    searcher = Searcher(prepared, lambda size: None)
    futures = [searcher.ask(query_of(str(number))) for number in range(50)]
    searcher.close()
    assert all(future.done() for future in futures)
