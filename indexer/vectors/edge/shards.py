"""The vector store inside the process: qdrant-edge, one shard directory for each collection.

The engine admits one process at a time (`indexer.owner` sees to that), keeps every acknowledged point across
a killed process, and reaches the disk only in `flush`.
"""

import json
import shutil
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import wraps
from itertools import islice
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar
from uuid import UUID

import numpy as np
import qdrant_edge as engine
from numpy.typing import NDArray

from corpus.errors import IndexingError, IndexInUse, MissingCollection
from indexer.vectors.edge.engine_classes import (
    config_of,
    fetched,
    filter_from,
    query_of,
    shape_of,
    uuid_of,
    written,
)
from indexer.vectors.edge.graph import finish_swap, optimized_copy, swap_in
from indexer.vectors.filters import (
    CASE_FIELDS,
    KEY_FIELDS,
    Condition,
    FieldType,
    PayloadValue,
    payload_key,
)
from indexer.vectors.qdrant_filters import filter_of
from indexer.vectors.store import (
    Form,
    Hit,
    Point,
    SearchRequest,
    Terms,
    check_points,
    check_query,
    found_or_none,
)
from indexer.vectors.ties import in_one_order

GRAPH_FROM = 100_000
"""Points from which a collection gets a search graph. Below, comparing with every vector takes about 10 ms
and misses nothing."""

_UPSERT_BATCH = 1_000
_PAGE = 10_000
_RESCORED = 3.0  # times the limit: how many of the int8 candidates are compared exactly
_SEARCH_EF = 256  # of the graph: with 128, filtered recall at ten falls under 0.98 on real vectors

_SCHEMAS = {
    FieldType.KEYWORD: engine.PayloadSchemaType.Keyword,
    FieldType.NUMBER: engine.PayloadSchemaType.Float,
    FieldType.BOOL: engine.PayloadSchemaType.Integer,
    FieldType.DATE: engine.PayloadSchemaType.Datetime,
}
_TYPES = {str(schema): kind for kind, schema in _SCHEMAS.items()}


Given = ParamSpec("Given")
Result = TypeVar("Result")


def _one_at_a_time(
    method: "Callable[Concatenate[EdgeStore, Given], Result]",
) -> "Callable[Concatenate[EdgeStore, Given], Result]":
    """Serialize the threads: two must not open or close a shard at once."""

    @wraps(method)
    def serialized(self: "EdgeStore", /, *args: Given.args, **kwargs: Given.kwargs) -> Result:
        with self._mutex:
            return method(self, *args, **kwargs)

    return serialized


class EdgeStore:
    """A `VectorStore` on a folder, in this process. Threads may share it."""

    def __init__(self, folder: Path, graph_from: int = GRAPH_FROM) -> None:
        """Open the store in `folder`, which is created where it is missing (mode 0700)."""
        self._folder = folder
        self._graph_from = graph_from
        self._shards: dict[str, engine.EdgeShard] = {}
        self._types: dict[str, dict[str, FieldType]] = {}
        self._shapes: dict[str, tuple[int, Form]] = {}
        self._mutex = threading.RLock()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        finish_swap(folder)

    @_one_at_a_time
    def create(
        self, collection: str, dim: int, fields: Mapping[str, FieldType], form: Form = "dense"
    ) -> None:
        """See `VectorStore.create`."""
        path = self._path(collection)
        if not (path / "edge_config.json").exists():
            # A creation that was interrupted left no point behind.
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir(mode=0o700)
            self._shards[collection] = engine.EdgeShard.create(str(path), config_of(dim, form))
        shard = self._shard(collection)
        existing_dim, existing_form = self._shapes[collection]
        if (existing_dim, existing_form) != (dim, form):
            raise IndexingError(
                f"collection {collection} holds {existing_dim} numbers ({existing_form}), not {dim} ({form})"
            )
        known = self._types[collection]
        indexed = shard.info().payload_schema.keys()
        for name, kind in {**KEY_FIELDS, **CASE_FIELDS, **fields}.items():
            key = payload_key(name)
            if known.setdefault(key, kind) is not kind:
                raise IndexingError(f"field {name!r} is a {known[key]} in {collection}, not a {kind}")
            if key not in indexed:
                shard.update(engine.UpdateOperation.create_field_index(key, _SCHEMAS[kind]))

    def collections(self) -> list[str]:
        """See `VectorStore.collections`."""
        folders = (
            path for path in self._folder.iterdir() if "." not in path.name
        )  # not the copies of `graph`
        return sorted(path.name for path in folders if (path / "edge_config.json").exists())

    def set_aliases(self, live: Mapping[str, str]) -> None:
        """See `VectorStore.set_aliases`."""

    @_one_at_a_time
    def upsert(self, collection: str, points: Sequence[Point]) -> None:
        """See `VectorStore.upsert`."""
        shard = self._shard(collection)
        for start in range(0, len(points), _UPSERT_BATCH):
            batch = points[start : start + _UPSERT_BATCH]
            check_points(batch, *self._shapes[collection])
            shard.update(engine.UpdateOperation.upsert_points([written(point) for point in batch]))

    @_one_at_a_time
    def set_payload(self, collection: str, payloads: Mapping[UUID, Mapping[str, PayloadValue]]) -> None:
        """See `VectorStore.set_payload`."""
        shard = self._shard(collection)
        for point, payload in payloads.items():
            shard.update(engine.UpdateOperation.overwrite_payload([point], dict(payload)))

    @_one_at_a_time
    def delete(self, collection: str, ids: Iterable[UUID]) -> None:
        """See `VectorStore.delete`."""
        shard = self._shard(collection)
        remaining = iter(ids)
        while batch := list(islice(remaining, _PAGE)):
            shard.update(engine.UpdateOperation.delete_points([*batch]))

    @_one_at_a_time
    def flush(self, collection: str) -> None:
        """See `VectorStore.flush`."""
        self._shard(collection).flush()

    @_one_at_a_time
    def search(
        self,
        collection: str,
        vector: NDArray[np.float32] | Terms,
        limit: int,
        where: Condition | None = None,
        exclude_study_keys: Collection[str] = (),
        exact: bool = False,
        payload: Collection[str] | None = None,
    ) -> list[Hit]:
        """See `VectorStore.search`."""
        shard = self._shard(collection)
        check_query(vector, *self._shapes[collection])
        if isinstance(vector, Terms) and not vector.ids:
            return []
        chosen = filter_of(where, exclude_study_keys, self._types[collection])
        query, filtered = query_of(vector), None if chosen is None else filter_from(chosen)
        # An empty list of keys would be read as none chosen, and bring all.
        keys = True if payload is None else list(payload) or False
        parts = 1 if isinstance(vector, Terms) else np.atleast_2d(vector).shape[0]

        def best(count: int, with_payload: bool) -> list[Hit]:
            found = shard.search(
                engine.SearchRequest(
                    query=query,
                    limit=count,
                    filter=filtered,
                    params=engine.SearchParams(
                        hnsw_ef=max(_SEARCH_EF, 2 * count),
                        exact=exact,
                        quantization=engine.QuantizationSearchParams(rescore=True, oversampling=_RESCORED),
                    ),
                    with_payload=keys if with_payload else False,
                )
            )
            return [Hit(uuid_of(hit.id), hit.score / parts, hit.payload or {}) for hit in found]

        def payloads(ids: Collection[UUID]) -> dict[UUID, Mapping[str, PayloadValue]]:
            found = shard.retrieve(list(ids), with_payload=keys, with_vector=False)
            return {uuid_of(record.id): record.payload or {} for record in found}

        return in_one_order(limit, best, payloads)

    @_one_at_a_time
    def search_batch(self, requests: Sequence[SearchRequest]) -> list[list[Hit]]:
        """See `VectorStore.search_batch`."""
        return [found_or_none(self.search, request) for request in requests]

    @_one_at_a_time
    def fetch(self, collection: str, ids: Iterable[UUID]) -> list[Point]:
        """See `VectorStore.fetch`."""
        found = self._shard(collection).retrieve(list(ids), with_payload=True, with_vector=True)
        return [fetched(record) for record in found]

    def ids(self, collection: str) -> Iterator[UUID]:
        """See `VectorStore.ids`."""
        offset: engine.PointId | None = None
        while True:
            request = engine.ScrollRequest(offset=offset, limit=_PAGE, with_payload=False, with_vector=False)
            with self._mutex:
                page, offset = self._shard(collection).scroll(request)
            yield from (uuid_of(record.id) for record in page)
            if offset is None:
                return

    @_one_at_a_time
    def count(self, collection: str) -> int:
        """See `VectorStore.count`."""
        return int(self._shard(collection).count(engine.CountRequest(exact=True)))

    def optimize(self, collection: str) -> bool:
        """See `VectorStore.optimize`. The work is done on a copy, by a child process: the engine's own call
        would block this one, and a crash leaves the collection as it was. Others search meanwhile; the
        caller prevents writes.
        """
        with self._mutex:
            shard = self._shard(collection)
            info = shard.info()
            if info.points_count - info.indexed_vectors_count < self._graph_from:
                return False
            shard.flush()
        path = self._path(collection)
        done = optimized_copy(path)
        with self._mutex:
            self._close(collection)
            swap_in(done, path)
            self._shard(collection)
        return True

    @_one_at_a_time
    def drop(self, collection: str) -> None:
        """See `VectorStore.drop`."""
        if self._path(collection).exists():
            self._close(collection)
            shutil.rmtree(self._path(collection))

    @_one_at_a_time
    def close(self) -> None:
        """See `VectorStore.close`."""
        for collection in list(self._shards):
            self._shards[collection].flush()
            self._close(collection)

    def _path(self, collection: str) -> Path:
        return self._folder / collection

    def _close(self, collection: str) -> None:
        shard = self._shards.pop(collection, None)
        self._types.pop(collection, None)
        self._shapes.pop(collection, None)
        if shard is not None:
            shard.close()

    def _shard(self, collection: str) -> "engine.EdgeShard":
        """Return the open shard of a collection; read its shape and field types once."""
        if collection not in self._shards:
            if not (self._path(collection) / "edge_config.json").exists():
                raise MissingCollection(f"there is no collection {collection}")
            self._shards[collection] = _load(self._path(collection))
        if collection not in self._types:
            shard = self._shards[collection]
            config = json.loads((self._path(collection) / "edge_config.json").read_text())
            self._shapes[collection] = shape_of(config)
            self._types[collection] = {
                key: _TYPES[str(entry.data_type)] for key, entry in shard.info().payload_schema.items()
            }
        return self._shards[collection]


def _load(path: Path) -> "engine.EdgeShard":
    try:
        return engine.EdgeShard.load(str(path))
    except Exception as error:  # the engine raises nothing narrower
        if "WouldBlock" in str(error):
            raise IndexInUse(
                f"another process holds the vectors of {path.name}; wait for it to end"
            ) from error
        raise IndexingError(
            f"the vectors of {path.name} cannot be opened ({error}); restore a backup, or delete that folder "
            "and run `similarity index add` again"
        ) from error
