"""Opens the vector store that a test runs on."""

from pathlib import Path

import pytest
from qdrant_client import QdrantClient

from indexer.vectors.edge import EdgeStore
from indexer.vectors.server import ServerStore
from indexer.vectors.store import VectorStore


def open_store(kind: str, folder: Path, config: pytest.Config) -> VectorStore:
    """An empty store: `edge` in the folder; `server` in memory, or on the server of `--qdrant-url`."""
    if kind == "edge":
        return EdgeStore(folder / "vectors")
    url = config.getoption("--qdrant-url")
    store = ServerStore(QdrantClient(url=url) if url else QdrantClient(":memory:"))
    for collection in store.collections():
        if collection.startswith("test__"):
            store.drop(collection)
    return store
