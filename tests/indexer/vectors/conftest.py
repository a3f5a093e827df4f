"""What the tests of the vector stores share."""

from collections.abc import Iterator

import pytest
from qdrant_client import QdrantClient

from tests.indexer.stores import server_client


@pytest.fixture
def client(request: pytest.FixtureRequest) -> Iterator[QdrantClient]:
    """A client of the server that an option names, else of the engine in memory."""
    made = server_client(request.config)
    yield made
    made.close()
