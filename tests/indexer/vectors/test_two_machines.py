"""Two machines, each with a store of its own, work on one index on a Qdrant server."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from qdrant_client import QdrantClient

from corpus.errors import IndexingError, UsageError
from indexer.vectors.filters import CASE_FIELDS, KEY_FIELDS, Comparison, FieldType, payload_key
from indexer.vectors.server import ServerStore
from indexer.vectors.store import Point
from tests.indexer.stores import served_index

pytestmark = [
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning"),
    pytest.mark.filterwarnings("ignore:Local mode performs exact:UserWarning"),
]

NAME = "images__1a2b3c4d"
VECTOR = np.eye(4, dtype=np.float32)[0]


@pytest.fixture
def machines(client: QdrantClient) -> Iterator[tuple[ServerStore, ServerStore]]:
    """The stores of two machines on one index."""
    with served_index(client) as first:
        yield first, ServerStore(client, namespace=first._namespace)


def fill(store: ServerStore, **payload: str) -> None:
    store.upsert(NAME, [Point(UUID(int=1), VECTOR, {"kind": "image", **payload})])


def test_both_succeed_when_both_create_a_collection(
    machines: tuple[ServerStore, ServerStore], client: QdrantClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = client.create_collection

    def beaten(name: str, **kwargs: Any) -> bool:
        create(name, **kwargs)  # by the other machine, after this one saw that there is none
        return bool(create(name, **kwargs))

    monkeypatch.setattr(client, "create_collection", beaten)
    first, second = machines
    first.create(NAME, 4, {"ward": FieldType.KEYWORD})
    second.create(NAME, 4, {"ward": FieldType.KEYWORD})
    fill(second, attr_ward="3")
    assert len(first.search(NAME, VECTOR, 5, Comparison("ward", "=", "3"))) == 1


def test_a_collection_of_another_dimension_is_refused_also_when_another_machine_was_faster(
    machines: tuple[ServerStore, ServerStore], client: QdrantClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = machines
    create = client.create_collection
    monkeypatch.setattr(
        client, "create_collection", lambda name, **kwargs: (second_creates(), create(name, **kwargs))
    )

    def second_creates() -> None:
        monkeypatch.setattr(client, "create_collection", create)
        second.create(NAME, 5, {})

    with pytest.raises(IndexingError, match="holds 5 numbers"):
        first.create(NAME, 4, {})


def test_filter_fields_that_two_machines_add_at_once_are_all_known(
    machines: tuple[ServerStore, ServerStore], client: QdrantClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = machines
    first.create(NAME, 4, {})
    update = client.update_collection

    def beside(name: str, **kwargs: Any) -> bool:
        monkeypatch.setattr(client, "update_collection", update)
        second.create(NAME, 4, {"scanner": FieldType.KEYWORD})
        return bool(update(name, **kwargs))

    monkeypatch.setattr(client, "update_collection", beside)
    first.create(NAME, 4, {"ward": FieldType.KEYWORD})
    fill(first, attr_ward="3", attr_scanner="A")
    for field, value in (("ward", "3"), ("scanner", "A")):
        for store in (first, second, ServerStore(client, namespace=first._namespace)):
            assert len(store.search(NAME, VECTOR, 5, Comparison(field, "=", value))) == 1


def test_a_reader_learns_a_filter_field_that_was_added_after_it_opened(
    machines: tuple[ServerStore, ServerStore],
) -> None:
    writer, reader = machines
    writer.create(NAME, 4, {})
    assert reader.count(NAME) == 0
    writer.create(NAME, 4, {"ward": FieldType.KEYWORD})
    fill(writer, attr_ward="3")
    assert len(reader.search(NAME, VECTOR, 5, Comparison("ward", "=", "3"))) == 1
    with pytest.raises(UsageError, match="unknown field 'wart'"):
        reader.search(NAME, VECTOR, 5, Comparison("wart", "=", "3"))


def test_a_field_is_not_given_another_type_than_another_machine_gave_it(
    machines: tuple[ServerStore, ServerStore],
) -> None:
    first, second = machines
    first.create(NAME, 4, {})
    second.create(NAME, 4, {})
    first.create(NAME, 4, {"ward": FieldType.KEYWORD})
    with pytest.raises(IndexingError, match="'attr_ward' is a keyword"):
        second.create(NAME, 4, {"ward": FieldType.NUMBER})


def test_a_collection_that_another_machine_dropped_is_missing_and_can_be_made_anew(
    machines: tuple[ServerStore, ServerStore],
) -> None:
    first, second = machines
    second.create(NAME, 4, {"ward": FieldType.KEYWORD})
    fill(second, attr_ward="3")
    first.drop(NAME)
    with pytest.raises(IndexingError, match=f"there is no collection {NAME}"):
        second.search(NAME, VECTOR, 5)
    second.create(NAME, 4, {"ward": FieldType.KEYWORD})
    first.drop(NAME)
    second.create(NAME, 4, {"ward": FieldType.KEYWORD})
    fill(second, attr_ward="3")
    assert len(first.search(NAME, VECTOR, 5, Comparison("ward", "=", "3"))) == 1


def test_filter_fields_of_collections_of_the_version_before_are_read(client: QdrantClient) -> None:
    with served_index(client) as store:
        store.create(NAME, 4, {})
        name = store._namespace + NAME
        card = {payload_key(n): str(k) for n, k in {**KEY_FIELDS, **CASE_FIELDS}.items()}
        nothing = dict.fromkeys(client.get_collection(name).config.metadata or {})
        client.update_collection(name, metadata={**nothing, "collection": {**card, "attr_ward": "keyword"}})
        later = ServerStore(client, namespace=store._namespace)
        fill(later, attr_ward="3")
        assert len(later.search(NAME, VECTOR, 5, Comparison("ward", "=", "3"))) == 1
        later.create(NAME, 4, {"scanner": FieldType.KEYWORD})
        assert later.search(NAME, VECTOR, 5, Comparison("scanner", "=", "A")) == []
        assert len(later.search(NAME, VECTOR, 5, Comparison("ward", "=", "3"))) == 1
