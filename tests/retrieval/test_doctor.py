"""The doctor looks at each server, its version, and at this index's vectors only."""

import json
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

from corpus.settings import settings
from indexer.catalog.catalog import Catalog
from indexer.catalog.ledger_records import collection_of
from indexer.home import Home
from indexer.index import Index
from indexer.vectors.client import CLIENT_VERSION, supported
from indexer.vectors.store import Point
from retrieval import doctor
from retrieval.doctor import Check, examine
from tests.indexer.lonely import answering_port, closed_port
from tests.indexer.postgres import fresh_database, postgres_server

SECRET = "hunter2"


@pytest.fixture
def filled(home: Path) -> None:
    """A home with tables."""
    Catalog.open(Home.open()).close()


def checks_with(monkeypatch: pytest.MonkeyPatch, **servers: str) -> list[Check]:
    """The doctor's checks, with these servers in the environment."""
    for name, value in servers.items():
        monkeypatch.setenv(f"SIMILARITY_{name.upper()}", value)
    settings.cache_clear()
    return list(examine())


def version_info(version: str) -> bytes:
    return json.dumps({"title": "qdrant - vector search engine", "version": version}).encode()


def test_each_node_of_a_cluster_is_checked_and_an_incompatible_version_is_a_fault_with_advice(
    filled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, own = version_info("1.16.0"), version_info(CLIENT_VERSION)
    kind = "application/json"
    with (
        answering_port(200, old, kind) as first,
        answering_port(200, own, kind) as second,
        closed_port() as third,
    ):
        names = [f"http://127.0.0.1:{port}" for port in (first, second, third)]
        urls = ",".join([f"http://user:{SECRET}@127.0.0.1:{first}", *names[1:]])
        checks = checks_with(monkeypatch, qdrant_url=urls, qdrant_api_key=SECRET)
    incompatible, well, away = (check for check in checks if check.name == "Qdrant")
    assert (incompatible.state, well.state, away.state) == ("fault", "ok", "fault")
    assert "1.16.0" in incompatible.result
    assert CLIENT_VERSION in incompatible.result
    assert incompatible.advice is not None
    assert "does not answer" in away.result
    assert all(name in check.result for name, check in zip(names, (incompatible, well, away), strict=True))
    assert [check.state for check in checks if check.name == "key of Qdrant"] == ["note"]
    assert not any(SECRET in f"{check.result}{check.advice}" for check in checks)
    assert not any("\n" in check.result for check in checks)


def test_the_versions_that_fit_are_the_clients_own_and_its_neighbours() -> None:
    major, minor, *_ = map(int, CLIENT_VERSION.split("."))
    fits = {step: supported(f"{major}.{minor + step}.3") for step in (-2, -1, 0, 1, 2)}
    assert fits == {-2: False, -1: True, 0: True, 1: True, 2: False}
    assert not supported(f"{major + 1}.{minor}.0")
    assert not supported("")


def test_a_postgres_that_is_too_old_is_a_fault_with_advice() -> None:
    old = doctor._postgres((13, 22), "0008")
    assert old.state == "fault"
    assert "13.22" in old.result
    assert old.advice is not None
    assert doctor._postgres((14, 1), "0008").state == "ok"


def test_the_version_of_postgres_is_reported(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with postgres_server() as url, fresh_database(url) as own:
        monkeypatch.setenv("SIMILARITY_DATABASE_URL", own)
        settings.cache_clear()
        Catalog.open(Home.open()).close()
        (database,) = (check for check in checks_with(monkeypatch) if check.name == "database")
    assert database.state == "ok"
    assert database.result.startswith("Postgres 18")


@pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning")
def test_vectors_of_others_on_the_server_are_not_counted(index: Index) -> None:
    recorded = sum(index.catalog.counts()["vectors"].values())
    other = collection_of("image", "0" * 64)
    index.store.create(other, 4, {})
    try:
        index.store.upsert(other, [Point(uuid4(), np.eye(4, dtype=np.float32)[0], {"kind": "image"})])
        (check,) = doctor._ledger(index.store, index.catalog)
    finally:
        index.store.drop(other)
    assert (check.state, check.result) == ("ok", f"{recorded:,} vectors")
