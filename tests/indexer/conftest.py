"""What the indexer's tests share: both vector stores, both catalogs."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from indexer.vectors.store import VectorStore
from tests.indexer.stores import open_store


@pytest.fixture(params=["edge", "server"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[VectorStore]:
    """An empty vector store: the embedded one, then the server's."""
    made = open_store(request.param, tmp_path, request.config)
    yield made
    made.close()
