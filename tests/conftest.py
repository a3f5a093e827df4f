"""What the tests of all layers share: marks, the real cases, and a home of its own for each test."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import hypothesis
import pytest

from corpus.settings import settings
from tests.encoders import SHARED_FOLDER

hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")

# Hundreds of processes are started: each would compile all that it imports where bytecode is not written.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# SAM embeds each image in a second; where a test says nothing else, the random walker refines the masks.
os.environ.setdefault("SIMILARITY_REFINE", "random-walker")
# An export of graphs takes ten seconds; the tests of graphs ask for them.
os.environ.setdefault("SIMILARITY_EXPORT_GRAPHS", "0")

TESTS = Path(__file__).resolve().parent
SHARED = TESTS.parents[1] / "shared"

SLOW_MODULES = (
    "docs/test_commands.py",
    "docs/test_site.py",
    "end_to_end/*",
    "examples/*",
    "indexer/*.py",
    "indexer/vectors/*.py",
    "retrieval/localize/test_specificity.py",
    "retrieval/localize/test_lite_medsam.py",
    "retrieval/localize/test_sam.py",
    "retrieval/localize/test_segment_phrases.py",
    "retrieval/service/*",
    "retrieval/draft/*.py",
    "retrieval/test_conformal.py",
    "retrieval/test_filter_search.py",
    "retrieval/test_queries.py",
    "retrieval/test_region.py",
    "retrieval/test_same_answers.py",
    "retrieval/test_search.py",
    "retrieval/test_localization_*.py",
    "similarity/cli/*.py",
    "similarity/test_library.py",
    "similarity/test_without_torch.py",
    "test_systems.py",
    "trainer/test_comparison.py",
    "trainer/test_items.py",
    "trainer/test_device.py",
    "trainer/test_evaluate*.py",
    "trainer/test_folds.py",
    "trainer/test_graphs.py",
    "trainer/test_import_*.py",
    "trainer/test_loop.py",
    "trainer/test_moved_folder.py",
    "trainer/test_segmenter.py",
    "trainer/test_step.py",
)
"""Modules, as patterns below `tests/`, that train, start services, servers or processes, or take over ten
seconds together (measured with `--durations`)."""
SLOW_FIXTURES = frozenset({"postgres"})
BROWSER_FIXTURES = frozenset({"browser", "signed_in"})


def pytest_configure(config: pytest.Config) -> None:
    """Make the folder that the processes of this run share; they inherit its name."""
    if SHARED_FOLDER not in os.environ:
        os.environ[SHARED_FOLDER] = folder = tempfile.mkdtemp(prefix="similarity-tests-")
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark `slow` and `browser` tests in one place, and skip `real_data` where there is none."""
    no_data = not (SHARED / "data").is_dir()
    missing = pytest.mark.skip(reason=f"real_data: the folder {SHARED.name}/data is not beside the project")
    for item in items:
        module = item.path.relative_to(TESTS).as_posix() if item.path.is_relative_to(TESTS) else ""
        fixtures = frozenset(getattr(item, "fixturenames", ()))
        if fixtures & BROWSER_FIXTURES:
            item.add_marker(pytest.mark.browser)
        if fixtures & SLOW_FIXTURES or any(fnmatch(module, pattern) for pattern in SLOW_MODULES):
            item.add_marker(pytest.mark.slow)
        if no_data and item.get_closest_marker("real_data"):
            item.add_marker(missing)
    # Slow modules come first, so that no process is left with one of them at the end.
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


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
    servers = parser.getgroup("servers", "servers that the suite runs on, beside those that it starts itself")
    servers.addoption("--qdrant-url", help="also run what concerns the index on this Qdrant server")
    servers.addoption(
        "--qdrant-api-key", help="its key; better in the variable SIMILARITY_TEST_QDRANT_API_KEY"
    )
    servers.addoption(
        "--qdrant-binary", help="the same on a server that each process of the suite starts from this file"
    )
    servers.addoption("--postgres-url", help="use this Postgres server, not one that the suite starts")
    chaos = parser.getgroup("chaos", "the rounds of the chaos test")
    chaos.addoption("--chaos-seed", type=int, default=0, help="of all that is drawn (default %(default)s)")
    chaos.addoption("--chaos-rounds", type=int, default=40, help="how many (default %(default)s)")
