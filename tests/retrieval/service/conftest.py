"""A small indexed cohort, served in this process, and clients with and without a token."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from corpus.settings import settings
from corpus.sources import open_source
from indexer.index import Index
from indexer.ingest.pipeline import add_source
from retrieval.service.access import Role
from retrieval.service.app import create_app
from retrieval.service.middleware import RateLimit
from retrieval.service.state import State
from tests.encoders import build_tiny_encoder
from trainer.runtime.encoder import Encoder

COHORT = "phantom:24@5"


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_encoder(tmp_path_factory.mktemp("encoder") / "tiny")


@pytest.fixture(scope="session")
def indexed_home(tmp_path_factory: pytest.TempPathFactory, encoder_folder: Path) -> Path:
    """A home with the cohort in it; tests that change it copy it."""
    folder = tmp_path_factory.mktemp("served") / "home"
    encoder = Encoder.load(encoder_folder, "cpu")
    with Index.open(folder, read_only=False) as index:
        source = open_source(COHORT)
        folder_named = str(encoder_folder)
        add_source(index, source, encoder, origin=COHORT, folder=folder_named, workers=0, patches=True)
    return folder


@pytest.fixture(scope="module")
def state(indexed_home: Path) -> Iterator[State]:
    """The service's state over the cohort, shared by the tests of a module."""
    settings.cache_clear()
    opened = State.open(indexed_home)
    opened.index()
    opened.failures = RateLimit(10**9)  # every test comes from one address
    yield opened
    opened.close()


def signed_in(state: State, role: Role, name: str = "") -> dict[str, str]:
    """Return the header of a new token with that role."""
    _, text = state.tokens.create(role, name or f"a {role}")
    return {"Authorization": f"Bearer {text}"}


@pytest.fixture(scope="module")
def anonymous(state: State) -> Iterator[TestClient]:
    """A client without a token."""
    with TestClient(create_app(state), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="module")
def reader(state: State, anonymous: TestClient) -> TestClient:
    return TestClient(anonymous.app, raise_server_exceptions=False, headers=signed_in(state, Role.READER))


@pytest.fixture(scope="module")
def admin(state: State, anonymous: TestClient) -> TestClient:
    return TestClient(anonymous.app, raise_server_exceptions=False, headers=signed_in(state, Role.ADMIN))
