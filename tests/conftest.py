"""What every test room shares: the real cases, and a home of its own for each test."""

from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from corpus.settings import settings

hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")

SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if (SHARED / "data").is_dir():
        return
    missing = pytest.mark.skip(reason=f"real_data: the folder {SHARED.name}/data is not beside the project")
    for item in items:
        if item.get_closest_marker("real_data"):
            item.add_marker(missing)


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real cases; only tests marked `real_data` may ask for it."""
    return SHARED / "data"


@pytest.fixture(scope="session")
def models() -> Path:
    """The folder of real weights; only tests marked `real_data` may ask for it."""
    return SHARED / "models"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty SIMILARITY_HOME of this test's own."""
    folder = tmp_path / "home"
    monkeypatch.setenv("SIMILARITY_HOME", str(folder))
    settings.cache_clear()
    yield folder
    settings.cache_clear()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--qdrant-url", help="run the vector suite against this Qdrant server, too")
