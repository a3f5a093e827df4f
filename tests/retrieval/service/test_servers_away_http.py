"""The service while Qdrant or Postgres is down: problem documents, no failure, no restart afterwards."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from corpus.settings import Settings, settings
from corpus.sources import open_source
from indexer.index import Index
from indexer.ingest.pipeline import add_source
from retrieval.service.access import Role
from retrieval.service.app import create_app
from retrieval.service.state import Readiness, State
from tests.indexer.lonely import closed_port, silent_port
from tests.indexer.postgres import fresh_database, stoppable_server
from tests.retrieval.service.conftest import signed_in
from tests.waiting import DEADLINE_SECONDS
from trainer.runtime.encoder import Encoder

SECRET = "hunter2"


@contextmanager
def serving(home: Path) -> Iterator[tuple[State, TestClient]]:
    """Serve a home with the settings of the environment; yields its state and a reader's client."""
    settings.cache_clear()
    state = State.open(home)
    try:
        with TestClient(create_app(state), raise_server_exceptions=False) as client:
            client.headers.update(signed_in(state, Role.READER))
            yield state, client
    finally:
        state.close()
        settings.cache_clear()


def test_without_qdrant_a_search_is_a_problem_and_the_service_is_not_ready(
    indexed_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closed_port() as port:
        monkeypatch.setenv("SIMILARITY_QDRANT_URL", f"http://user:{SECRET}@127.0.0.1:{port}")
        with serving(indexed_home) as (_, client):
            answer = client.post("/v1/search", json={"text": "effusion"})
            assert answer.status_code == 503
            assert answer.json()["type"] == "urn:similarity:vectors-down"
            assert "Retry-After" in answer.headers
            assert str(port) not in answer.text
            ready = client.get("/readyz")
            assert ready.status_code == 503
            assert ready.json()["checks"]["vectors"] == "do not answer"
            assert ready.json()["checks"]["database"] == "ok"
            assert client.get("/healthz").status_code == 200


def test_a_qdrant_that_hangs_is_a_problem_within_the_time_limit(
    indexed_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIMILARITY_SERVER_TIMEOUT_SECONDS", "0.5")
    with silent_port() as port:
        monkeypatch.setenv("SIMILARITY_QDRANT_URL", f"http://user:{SECRET}@127.0.0.1:{port}")
        with serving(indexed_home) as (_, client):
            for _ in range(2):
                answer = client.post("/v1/search", json={"text": "effusion"})
                assert answer.status_code == 503
                assert answer.json()["type"] == "urn:similarity:vectors-down"
                assert "Retry-After" in answer.headers
            assert client.get("/readyz").json()["checks"]["vectors"] == "do not answer"
            assert client.get("/healthz").status_code == 200


def test_a_service_answers_again_when_postgres_comes_back(
    tmp_path: Path, encoder_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with stoppable_server() as (url, stop, start), fresh_database(url) as own:
        monkeypatch.setenv("SIMILARITY_DATABASE_URL", own)
        settings.cache_clear()
        with Index.open(tmp_path / "home", read_only=False) as index:
            encoder = Encoder.load(encoder_folder, "cpu")
            source = open_source("phantom:4@5")
            add_source(index, source, encoder, origin="x", folder=str(encoder_folder), workers=0)
        with serving(tmp_path / "home") as (_, client):
            query = {"text": "effusion", "k": 1}
            assert client.post("/v1/search", json=query).status_code == 200
            stop()
            for path in ("/v1/index", "/v1/session", "/v1/fields"):
                answer = client.get(path)
                assert answer.status_code == 503
                assert answer.json()["type"] == "urn:similarity:database-down"
            assert client.post("/v1/search", json=query).status_code == 503
            checks = client.get("/readyz").json()["checks"]
            assert checks == {"database": "does not answer", "vectors": "ok", "encoder": "unknown"}
            start()
            assert client.post("/v1/search", json=query).status_code == 200
            assert client.get("/v1/session").status_code == 200
            assert client.get("/readyz").json()["checks"]["database"] == "ok"


def test_readiness_is_bounded_in_time_and_uses_one_thread_for_a_check_that_hangs() -> None:
    answering, calls = threading.Event(), list[int]()

    def hanging() -> str:
        calls.append(1)
        answering.wait()
        return "ok"

    checks = {"database": ("does not answer", hanging), "encoder": ("unknown", lambda: "ok")}
    readiness = Readiness(seconds=0.05)
    for _ in range(3):
        assert readiness.look(checks) == {"database": "does not answer", "encoder": "ok"}
    readiness._seconds = (
        DEADLINE_SECONDS  # of checks that begin from now on: this one is not waited for again
    )
    assert readiness.look(checks)["database"] == "does not answer"
    assert len(calls) == 1
    answering.set()
    slow = Readiness(seconds=60)
    assert slow.look(checks) == {"database": "ok", "encoder": "ok"}


def test_settings_show_no_secret_of_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMILARITY_QDRANT_URL", f"http://user:{SECRET}@host")
    monkeypatch.setenv("SIMILARITY_QDRANT_API_KEY", SECRET)
    monkeypatch.setenv("SIMILARITY_DATABASE_URL", f"postgresql://user:{SECRET}@host/d")
    assert SECRET not in repr(Settings())
    assert SECRET not in Settings().model_dump_json()
