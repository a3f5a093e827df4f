"""Opens the vector store that a test runs on."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from pydantic import SecretStr
from qdrant_client import QdrantClient

from indexer.home import Home
from indexer.owner import embedded_store, owned_store
from indexer.servers import qdrant_address
from indexer.vectors.client import connect
from indexer.vectors.edge.owned import OwnedStore
from indexer.vectors.edge.shards import EdgeStore
from indexer.vectors.server import NAMESPACES, ServerStore
from indexer.vectors.store import VectorStore
from tests.indexer.qdrant import real_qdrant

KINDS = ("edge", "owned", "server")


@contextmanager
def open_store(kind: str, folder: Path, config: pytest.Config) -> Iterator[VectorStore]:
    """An empty store: `edge` in the folder; `owned`, the same through its owner; `server` in memory, or on
    the server that an option names, in a namespace of its own."""
    if kind == "owned":
        home = Home.open(folder / "home")
        with owned_store(home), embedded_store(home) as reached:
            assert isinstance(reached, OwnedStore)
            yield reached
        return
    if kind == "edge":
        store = EdgeStore(folder / "vectors")
        yield store
        store.close()
        return
    client = server_client(config)
    with served_index(client) as served:
        yield served
    client.close()


def server_client(config: pytest.Config) -> QdrantClient:
    """A client of the server that an option names; without one, of the client's own engine, in memory."""
    qdrant = real_qdrant(config)
    if qdrant is None:
        return QdrantClient(":memory:")
    key = None if qdrant.api_key is None else SecretStr(qdrant.api_key)
    return connect(qdrant_address(qdrant.url), key)


@contextmanager
def served_index(client: QdrantClient) -> Iterator[ServerStore]:
    """The empty store of an index of its own on a shared server; its collections are dropped at the end."""
    store = ServerStore(client, namespace=f"{NAMESPACES}{uuid4().hex}_")
    try:
        yield store
    finally:
        for collection in store.collections():
            store.drop(collection)
