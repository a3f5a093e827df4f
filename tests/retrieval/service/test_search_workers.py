"""Searches in processes of their own: the same answers, and a process that dies is replaced."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from corpus.settings import settings
from retrieval.service.access import Role
from retrieval.service.app import create_app
from retrieval.service.state import State
from tests.retrieval.service.conftest import signed_in
from tests.waiting import eventually

QUERIES = [
    {"text": "There is a large right pleural effusion.", "k": 5},
    {"text": "no nodule", "k": 5, "for": "reports", "where": "sex=F"},
    {"finding": "pleural_effusion or nodule", "k": 3},
]


@pytest.fixture(scope="module")
def client(indexed_home: Path) -> Iterator[TestClient]:
    """A client of a service with two processes that search."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("SIMILARITY_SEARCH_WORKERS", "2")
        settings.cache_clear()
        state = State.open(indexed_home)
        headers = signed_in(state, Role.READER)
        with TestClient(create_app(state), raise_server_exceptions=False, headers=headers) as opened:
            yield opened
        state.close()
    settings.cache_clear()


def hits(client: TestClient, query: dict[str, object]) -> list[tuple[str, float]]:
    answer = client.post("/v1/search", json=query)
    assert answer.status_code == 200, answer.text
    return [(hit["study_id"], round(hit["score"], 4)) for hit in answer.json()["hits"]]


@pytest.fixture(scope="module")
def expected(client: TestClient) -> list[list[tuple[str, float]]]:
    """The answers of the service's own threads, over the same vectors."""
    from retrieval.service.searcher import Searcher

    state: State = client.app.state.service  # type: ignore[attr-defined]
    pooled = state.searcher
    state.searcher = Searcher(state._prepare, lambda _: None)
    found = [hits(client, query) for query in QUERIES]
    state.searcher.close()
    state.searcher = pooled
    return found


def test_answers_are_those_of_the_services_own_threads(
    client: TestClient, expected: list[list[tuple[str, float]]]
) -> None:
    assert [hits(client, query) for query in QUERIES] == expected
    assert all(expected)


def test_a_query_that_cannot_be_answered_is_refused_as_before(client: TestClient) -> None:
    refused = client.post("/v1/search", json={"text": "effusion", "where": "shoe=3"})
    assert refused.status_code == 422
    assert "shoe" in refused.json()["detail"]


def test_a_process_that_dies_is_replaced(client: TestClient, expected: list[list[tuple[str, float]]]) -> None:
    state: State = client.app.state.service  # type: ignore[attr-defined]
    pool = state._search_pool
    assert pool is not None
    before = eventually(lambda: len(pool.process_ids()) == 2 and pool.process_ids())
    for process in before:
        os.kill(process, signal.SIGKILL)
    eventually(lambda: client.post("/v1/search", json=QUERIES[0]).status_code == 200)
    assert [hits(client, query) for query in QUERIES] == expected
    assert not set(pool.process_ids()) & set(before)
