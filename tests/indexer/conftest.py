"""What the indexer's tests share: both vector stores, both catalogs."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import QdrantClient

from corpus.settings import settings
from indexer.vectors.store import VectorStore
from tests.encoders import build_tiny_encoder
from tests.indexer.postgres import fresh_database, postgres_server
from tests.indexer.qdrant import has_real_qdrant, index_servers, real_qdrant
from tests.indexer.stores import KINDS, open_store
from trainer.runtime.encoder import Encoder


def _folder() -> Iterator[Path]:
    """A folder in memory where there is such a place: the stores wait for the disk at every step, and the
    disk under a test can be slow."""
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else None, prefix="similarity-") as folder:
        yield Path(folder)


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder of this test's own."""
    yield from _folder()


@pytest.fixture(scope="module")
def memory() -> Iterator[Path]:
    """A folder of this module's own."""
    yield from _folder()


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[VectorStore]:
    """An empty vector store: the embedded one, the same through its owner, then the server's."""
    with open_store(request.param, tmp_path, request.config) as made:
        yield made


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny untrained encoder, made once."""
    return build_tiny_encoder(tmp_path_factory.mktemp("encoder") / "tiny")


@pytest.fixture(scope="session")
def encoder(encoder_folder: Path) -> Encoder:
    """The tiny encoder, loaded once."""
    return Encoder.load(encoder_folder, "cpu")


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest) -> Iterator[str]:
    """A real Postgres server: that of `--postgres-url`, else one of this session's own; its URL."""
    if named := request.config.getoption("--postgres-url"):
        yield named
        return
    with postgres_server() as url:
        yield url


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what asks for a database on each kind; where a Qdrant server is named, on both servers, too."""
    if "database" in metafunc.fixturenames:
        kinds = ["sqlite", "postgres"]
        metafunc.parametrize(
            "database", kinds + ["servers"] * has_real_qdrant(metafunc.config), indirect=True
        )


@pytest.fixture
def database(request: pytest.FixtureRequest, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A home on each kind of database, one after the other; with `servers` its vectors are on Qdrant."""
    with ExitStack() as opened:
        environment = {}
        if request.param == "postgres":
            url = opened.enter_context(fresh_database(request.getfixturevalue("postgres")))
            environment = {"SIMILARITY_DATABASE_URL": url}
        elif request.param == "servers":
            qdrant = real_qdrant(request.config)
            assert qdrant is not None
            environment = opened.enter_context(index_servers(qdrant, request.getfixturevalue("postgres")))
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        settings.cache_clear()
        yield request.param


@pytest.fixture
def shared_qdrant(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, str]]:
    """The environment of a Qdrant server for several indexes: the one that an option names, else the engine
    of the client, in memory, which every client of this test reaches."""
    qdrant = real_qdrant(request.config)
    if qdrant is not None:
        yield qdrant.environment()
        return
    engine = QdrantClient(":memory:")
    monkeypatch.setattr("indexer.vectors.client.connect", lambda *_: SharedEngine(engine))
    yield {"SIMILARITY_QDRANT_URL": "http://memory"}
    engine.close()


class SharedEngine:
    """A client of an engine that others use, too: closing it leaves them theirs."""

    def __init__(self, engine: QdrantClient) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def close(self) -> None:
        """Leave the engine open."""
