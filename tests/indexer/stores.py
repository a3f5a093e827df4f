"""Opens the vector store that a test runs on."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from qdrant_client import QdrantClient

from indexer.home import Home
from indexer.owner import embedded_store, owned_store
from indexer.vectors.edge.owned import OwnedStore
from indexer.vectors.edge.shards import EdgeStore
from indexer.vectors.server import ServerStore
from indexer.vectors.store import VectorStore

KINDS = ("edge", "owned", "server")


@contextmanager
def open_store(kind: str, folder: Path, config: pytest.Config) -> Iterator[VectorStore]:
    """An empty store: `edge` in the folder; `owned`, the same through its owner; `server` in memory, or on
    the server of `--qdrant-url`."""
    if kind == "owned":
        home = Home.open(folder / "home")
        with owned_store(home), embedded_store(home) as reached:
            assert isinstance(reached, OwnedStore)
            yield reached
        return
    store = EdgeStore(folder / "vectors") if kind == "edge" else _server(config)
    yield store
    store.close()


def _server(config: pytest.Config) -> VectorStore:
    url = config.getoption("--qdrant-url")
    store = ServerStore(QdrantClient(url=url) if url else QdrantClient(":memory:"))
    for collection in store.collections():
        if collection.startswith("test__"):
            store.drop(collection)
    return store
