"""What the indexer's tests share: both vector stores, both catalogs."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from corpus.settings import settings
from indexer.vectors.store import VectorStore
from tests.encoders import build_tiny_encoder
from tests.indexer.postgres import fresh_database, postgres_server
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
def postgres() -> Iterator[str]:
    """A real Postgres server of this session's own; its URL."""
    with postgres_server() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A home on each kind of database, one after the other."""
    if request.param == "postgres":
        url = request.getfixturevalue("postgres")
        with fresh_database(url) as own:
            monkeypatch.setenv("SIMILARITY_DATABASE_URL", own)
            settings.cache_clear()
            yield "postgres"
        return
    yield "sqlite"
