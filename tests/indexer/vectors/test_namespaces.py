"""Several indexes on one Qdrant server: each sees, writes and deletes its own collections only."""

from collections.abc import Iterator
from uuid import UUID, uuid4

import numpy as np
import pytest
from qdrant_client import QdrantClient, models

from corpus.errors import IndexingError, ReadOnlyIndex
from indexer.vectors.server import NAMESPACES, ServerStore
from indexer.vectors.store import Point, ReadOnlyStore, VectorStore
from tests.indexer.stores import served_index

pytestmark = [
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning"),
    pytest.mark.filterwarnings("ignore:Local mode performs exact:UserWarning"),
]

NAME = "images__1a2b3c4d"
VECTOR = np.eye(4, dtype=np.float32)[0]


@pytest.fixture
def indexes(client: QdrantClient) -> Iterator[tuple[ServerStore, ServerStore]]:
    """Two indexes on one server, each with a collection of the same name and one point."""
    with served_index(client) as first, served_index(client) as second:
        for number, store in enumerate((first, second), 1):
            store.create(NAME, 4, {})
            store.upsert(NAME, [Point(UUID(int=number), VECTOR, {"kind": "image"})])
        yield first, second


def test_indexes_on_one_server_share_no_point(indexes: tuple[ServerStore, ServerStore]) -> None:
    first, second = indexes
    for number, store in enumerate(indexes, 1):
        assert list(store.ids(NAME)) == [UUID(int=number)]
        assert [hit.id for hit in store.search(NAME, VECTOR, 5)] == [UUID(int=number)]
    first.delete(NAME, [UUID(int=1), UUID(int=2)])
    assert first.count(NAME) == 0
    assert [point.payload for point in second.fetch(NAME, [UUID(int=2)])] == [{"kind": "image"}]


def test_an_index_lists_and_drops_only_its_own_collections(
    indexes: tuple[ServerStore, ServerStore], client: QdrantClient
) -> None:
    first, second = indexes
    foreign = f"foreign_{uuid4().hex}"
    client.create_collection(foreign, vectors_config={})
    try:
        first.create("reports__1a2b3c4d", 4, {})
        assert first.collections() == [NAME, "reports__1a2b3c4d"]
        assert second.collections() == [NAME]
        for collection in first.collections():
            first.drop(collection)
        assert first.collections() == []
        assert second.count(NAME) == 1
        assert client.collection_exists(foreign)
    finally:
        client.delete_collection(foreign)


def test_an_index_without_a_namespace_sees_no_collection_of_one(
    indexes: tuple[ServerStore, ServerStore], client: QdrantClient
) -> None:
    before, name = ServerStore(client), f"images__{uuid4().hex[:8]}"
    before.create(name, 4, {})
    try:
        assert name in before.collections()
        assert not any(listed.startswith(NAMESPACES) for listed in before.collections())
        assert all(store.collections() == [NAME] for store in indexes)
    finally:
        before.drop(name)


def test_a_server_that_holds_nothing_of_an_index_is_named(indexes: tuple[ServerStore, ServerStore]) -> None:
    first, _ = indexes
    first._name = "Qdrant at http://q:6333"
    with pytest.raises(IndexingError, match="there is no collection reports__1a2b3c4d on Qdrant at http://q"):
        first.count("reports__1a2b3c4d")
    first.drop(NAME)
    with pytest.raises(
        IndexingError,
        match=r"^Qdrant at http://q:6333 holds no vectors of this index .*SIMILARITY_QDRANT_URL",
    ) as caught:
        first.count(NAME)
    assert "\n" not in str(caught.value)


def test_aliases_name_the_live_collections_and_change_at_once(
    indexes: tuple[ServerStore, ServerStore], client: QdrantClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = indexes
    first.create("images__5e6f7a8b", 4, {})
    first.create("reports__5e6f7a8b", 4, {})
    second.set_aliases({"images": NAME})
    requests: list[int] = []
    update = client.update_collection_aliases

    def counted(changes: list[models.AliasOperations]) -> bool:
        requests.append(len(changes))
        return bool(update(changes))

    monkeypatch.setattr(client, "update_collection_aliases", counted)
    first.set_aliases({"images": NAME})
    assert aliases(client, first) == {"images": NAME}
    first.set_aliases({"images": "images__5e6f7a8b", "reports": "reports__5e6f7a8b"})
    assert aliases(client, first) == {"images": "images__5e6f7a8b", "reports": "reports__5e6f7a8b"}
    first.set_aliases({"images": "images__5e6f7a8b", "reports": "reports__5e6f7a8b"})
    assert len(requests) == 2, "one request each, and none where nothing changes"
    with pytest.raises(IndexingError, match="no collection"):
        first.set_aliases({"images": "images__00000000"})
    first.drop("reports__5e6f7a8b")
    assert aliases(client, first) == {"images": "images__5e6f7a8b"}
    assert aliases(client, second) == {"images": NAME}


def aliases(client: QdrantClient, store: ServerStore) -> dict[str, str]:
    """The aliases of a store's namespace, by its own names."""
    start = store._namespace
    return {
        entry.alias_name.removeprefix(start): entry.collection_name.removeprefix(start)
        for entry in client.get_aliases().aliases
        if entry.alias_name.startswith(start)
    }


def test_every_store_takes_aliases_and_a_read_only_one_refuses_them(store: VectorStore) -> None:
    store.create(NAME, 4, {})
    store.set_aliases({"images": NAME})
    assert store.collections() == [NAME]
    with pytest.raises(ReadOnlyIndex):
        ReadOnlyStore(store).set_aliases({})
