"""The vector store on a Qdrant server or cluster, through qdrant-client."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from qdrant_client import QdrantClient, models

from corpus.errors import IndexingError
from indexer.vectors.conditions import (
    CASE_FIELDS,
    KEY_FIELDS,
    Condition,
    FieldType,
    PayloadValue,
    payload_key,
)
from indexer.vectors.engine import Bool, Clause, DateRange, Empty, NumberRange, filter_of
from indexer.vectors.store import Hit, Point, check_vectors

_BATCH = 256  # with 512 dimensions about 1 MB of JSON, far under the 5 MB where servers grow slow
_PAGE = 1_000
_SEARCH_EF = 256

_SCHEMAS = {
    FieldType.KEYWORD: models.PayloadSchemaType.KEYWORD,
    FieldType.NUMBER: models.PayloadSchemaType.FLOAT,
    FieldType.BOOL: models.PayloadSchemaType.INTEGER,
    FieldType.DATE: models.PayloadSchemaType.DATETIME,
}
_CARD = "collection"
"""Key in a collection's own metadata under which the filter fields are kept: the client's local mode has no
payload indexes to read them back from."""


class ServerStore:
    """A `VectorStore` on a server. Every write waits until the server has applied it."""

    def __init__(self, client: QdrantClient) -> None:
        """Use this client; `close` closes it."""
        self._client = client
        self._types: dict[str, dict[str, FieldType]] = {}
        self._dims: dict[str, int] = {}

    def create(self, collection: str, dim: int, fields: Mapping[str, FieldType]) -> None:
        """See `VectorStore.create`. Payload indexes are made before anything is written, so that the server
        builds its graph with the filters in mind."""
        if not self._client.collection_exists(collection):
            self._client.create_collection(
                collection, vectors_config=models.VectorParams(size=dim, distance=models.Distance.DOT)
            )
        self._know(collection)
        if self._dims[collection] != dim:
            raise IndexingError(f"collection {collection} holds {self._dims[collection]} numbers, not {dim}")
        known = self._types[collection]
        wanted = {payload_key(n): kind for n, kind in {**KEY_FIELDS, **CASE_FIELDS, **fields}.items()}
        for key, kind in wanted.items():
            if known.get(key, kind) is not kind:
                raise IndexingError(f"field {key!r} is a {known[key]} in {collection}, not a {kind}")
        missing = {key: kind for key, kind in wanted.items() if key not in known}
        for key, kind in missing.items():
            self._index(collection, key, kind)
        if missing:
            known.update(missing)
            self._client.update_collection(
                collection, metadata={_CARD: {k: str(t) for k, t in known.items()}}
            )

    def collections(self) -> list[str]:
        """See `VectorStore.collections`."""
        return sorted(entry.name for entry in self._client.get_collections().collections)

    def upsert(self, collection: str, points: Sequence[Point]) -> None:
        """See `VectorStore.upsert`."""
        self._know(collection)
        if not points:
            return
        vectors = np.stack([point.vector for point in points]).astype(np.float32, copy=False)
        check_vectors(vectors, self._dims[collection], [point.id for point in points])
        for start in range(0, len(points), _BATCH):
            self._client.upsert(
                collection,
                [
                    models.PointStruct(id=str(point.id), vector=vector, payload=dict(point.payload))
                    for point, vector in zip(
                        points[start : start + _BATCH], vectors[start : start + _BATCH].tolist(), strict=True
                    )
                ],
                wait=True,
            )

    def set_payload(self, collection: str, payloads: Mapping[UUID, Mapping[str, PayloadValue]]) -> None:
        """See `VectorStore.set_payload`."""
        self._know(collection)
        remaining = iter(payloads.items())
        while batch := list(islice(remaining, _BATCH)):
            self._client.batch_update_points(
                collection,
                [
                    models.OverwritePayloadOperation(
                        overwrite_payload=models.SetPayload(payload=dict(payload), points=[str(point)])
                    )
                    for point, payload in batch
                ],
                wait=True,
            )

    def delete(self, collection: str, ids: Iterable[UUID]) -> None:
        """See `VectorStore.delete`."""
        self._know(collection)
        remaining = iter(ids)
        while batch := list(islice(remaining, _PAGE)):
            self._client.delete(
                collection, models.PointIdsList(points=[str(point) for point in batch]), wait=True
            )

    def flush(self, collection: str) -> None:
        """See `VectorStore.flush`. Every write has waited for the server, whose log is on its disk."""
        self._know(collection)

    def search(
        self,
        collection: str,
        vector: NDArray[np.float32],
        limit: int,
        where: Condition | None = None,
        exclude_study_keys: Collection[str] = (),
        exact: bool = False,
    ) -> list[Hit]:
        """See `VectorStore.search`."""
        self._know(collection)
        check_vectors(np.asarray(vector)[None], self._dims[collection])
        chosen = filter_of(where, exclude_study_keys, self._types[collection])
        found = self._client.query_points(
            collection,
            query=vector.tolist(),
            limit=limit,
            query_filter=None if chosen is None else _filter(chosen),
            search_params=models.SearchParams(hnsw_ef=max(_SEARCH_EF, 2 * limit), exact=exact),
            with_payload=True,
        )
        return [Hit(UUID(str(hit.id)), hit.score, hit.payload or {}) for hit in found.points]

    def fetch(self, collection: str, ids: Iterable[UUID]) -> list[Point]:
        """See `VectorStore.fetch`."""
        self._know(collection)
        points: list[Point] = []
        remaining = iter(ids)
        while batch := list(islice(remaining, _PAGE)):
            found = self._client.retrieve(
                collection, [str(point) for point in batch], with_payload=True, with_vectors=True
            )
            points += [
                Point(UUID(str(r.id)), np.asarray(r.vector, dtype=np.float32), r.payload or {}) for r in found
            ]
        return points

    def ids(self, collection: str) -> Iterator[UUID]:
        """See `VectorStore.ids`."""
        self._know(collection)
        offset: models.ExtendedPointId | None = None
        while True:
            page, offset = self._client.scroll(
                collection, offset=offset, limit=_PAGE, with_payload=False, with_vectors=False
            )
            yield from (UUID(str(record.id)) for record in page)
            if offset is None:
                return

    def count(self, collection: str) -> int:
        """See `VectorStore.count`."""
        self._know(collection)
        return self._client.count(collection, exact=True).count

    def optimize(self, collection: str) -> bool:
        """See `VectorStore.optimize`. A server does this on its own."""
        self._know(collection)
        return False

    def drop(self, collection: str) -> None:
        """See `VectorStore.drop`."""
        if self._client.collection_exists(collection):
            self._client.delete_collection(collection)
        self._types.pop(collection, None)
        self._dims.pop(collection, None)

    def close(self) -> None:
        """See `VectorStore.close`."""
        self._client.close()

    def _index(self, collection: str, key: str, kind: FieldType) -> None:
        self._client.create_payload_index(collection, key, _SCHEMAS[kind], wait=True)

    def _know(self, collection: str) -> None:
        """Read the dimension and the filter fields of a collection, once."""
        if collection in self._dims:
            return
        if not self._client.collection_exists(collection):
            raise IndexingError(f"there is no collection {collection}")
        config = self._client.get_collection(collection).config
        vectors = config.params.vectors
        if not isinstance(vectors, models.VectorParams):
            raise IndexingError(f"collection {collection} was not made by Similarity")
        self._dims[collection] = vectors.size
        card = (config.metadata or {}).get(_CARD, {})
        self._types[collection] = {key: FieldType(kind) for key, kind in card.items()}


def _filter(clause: Bool) -> models.Filter:
    return models.Filter(
        must=[_condition(part) for part in clause.must] or None,
        should=[_condition(part) for part in clause.should] or None,
        must_not=[_condition(part) for part in clause.must_not] or None,
    )


def _condition(clause: Clause) -> models.Condition:
    if isinstance(clause, Bool):
        return _filter(clause)
    if isinstance(clause, Empty):
        return models.IsEmptyCondition(is_empty=models.PayloadField(key=clause.key))
    if isinstance(clause, DateRange):
        span = models.DatetimeRange.model_validate({"gte": clause.gte, "lt": clause.lt})
        return models.FieldCondition(key=clause.key, range=span)
    if isinstance(clause, NumberRange):
        numbers = models.Range(gt=clause.gt, gte=clause.gte, lt=clause.lt, lte=clause.lte)
        return models.FieldCondition(key=clause.key, range=numbers)
    if len(clause.values) == 1:
        return models.FieldCondition(key=clause.key, match=models.MatchValue(value=clause.values[0]))
    values = [value for value in clause.values if isinstance(value, str)]
    return models.FieldCondition(key=clause.key, match=models.MatchAny(any=values))
