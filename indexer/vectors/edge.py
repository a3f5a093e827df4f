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

from corpus.errors import IndexingError, IndexInUse
from indexer.vectors.conditions import (
    CASE_FIELDS,
    KEY_FIELDS,
    Condition,
    FieldType,
    PayloadValue,
    payload_key,
)
from indexer.vectors.engine import Bool, Clause, DateRange, Empty, NumberRange, filter_of
from indexer.vectors.graph import finish_swap, optimized_copy, put_in_place
from indexer.vectors.store import Hit, Point, check_vectors

GRAPH_FROM = 100_000
"""Points from which a collection gets a search graph. Below, comparing with every vector takes about 10 ms
and misses nothing."""

_UPSERT_BATCH = 1_000
_PAGE = 10_000
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
    """Let threads take turns: opening and closing a shard is nothing that two may do at once."""

    @wraps(method)
    def taking_turns(self: "EdgeStore", /, *args: Given.args, **kwargs: Given.kwargs) -> Result:
        with self._mutex:
            return method(self, *args, **kwargs)

    return taking_turns


class EdgeStore:
    """A `VectorStore` on a folder, in this process. Threads may share it."""

    def __init__(self, folder: Path, graph_from: int = GRAPH_FROM) -> None:
        """Open the store in `folder`, which is made if it is not there (mode 0700)."""
        self._folder = folder
        self._graph_from = graph_from
        self._shards: dict[str, engine.EdgeShard] = {}
        self._types: dict[str, dict[str, FieldType]] = {}
        self._dims: dict[str, int] = {}
        self._mutex = threading.RLock()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        finish_swap(folder)

    @_one_at_a_time
    def create(self, collection: str, dim: int, fields: Mapping[str, FieldType]) -> None:
        """See `VectorStore.create`."""
        path = self._path(collection)
        if not (path / "edge_config.json").exists():
            # A creation that was interrupted left no point behind.
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir(mode=0o700)
            vectors = engine.EdgeVectorParams(size=dim, distance=engine.Distance.Dot)
            # Nothing is optimised until `optimize`; then every segment worth a graph gets one.
            optimizers = engine.EdgeOptimizersConfig(indexing_threshold=1_000)
            config = engine.EdgeConfig(vectors=vectors, optimizers=optimizers)
            self._shards[collection] = engine.EdgeShard.create(str(path), config)
        shard = self._shard(collection)
        if self._dims[collection] != dim:
            raise IndexingError(f"collection {collection} holds {self._dims[collection]} numbers, not {dim}")
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
        folders = (path.parent.name for path in self._folder.glob("*/edge_config.json"))
        return sorted(name for name in folders if "." not in name)  # not the copies of `graph`

    @_one_at_a_time
    def upsert(self, collection: str, points: Sequence[Point]) -> None:
        """See `VectorStore.upsert`."""
        shard = self._shard(collection)
        for start in range(0, len(points), _UPSERT_BATCH):
            batch = points[start : start + _UPSERT_BATCH]
            vectors = np.stack([point.vector for point in batch]).astype(np.float32, copy=False)
            check_vectors(vectors, self._dims[collection], [point.id for point in batch])
            shard.update(
                engine.UpdateOperation.upsert_points(
                    [
                        # A buffer is taken over three times as fast as a list or an array.
                        engine.Point(point.id, memoryview(vector), dict(point.payload))  # type: ignore[arg-type]
                        for point, vector in zip(batch, vectors, strict=True)
                    ]
                )
            )

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
        vector: NDArray[np.float32],
        limit: int,
        where: Condition | None = None,
        exclude_study_keys: Collection[str] = (),
        exact: bool = False,
    ) -> list[Hit]:
        """See `VectorStore.search`."""
        shard = self._shard(collection)
        check_vectors(np.asarray(vector)[None], self._dims[collection])
        chosen = filter_of(where, exclude_study_keys, self._types[collection])
        found = shard.search(
            engine.SearchRequest(
                query=engine.Query.Nearest(vector.tolist()),
                limit=limit,
                filter=None if chosen is None else _filter(chosen),
                params=engine.SearchParams(hnsw_ef=max(_SEARCH_EF, 2 * limit), exact=exact),
                with_payload=True,
            )
        )
        return [Hit(_uuid(hit.id), hit.score, hit.payload or {}) for hit in found]

    @_one_at_a_time
    def fetch(self, collection: str, ids: Iterable[UUID]) -> list[Point]:
        """See `VectorStore.fetch`."""
        found = self._shard(collection).retrieve(list(ids), with_payload=True, with_vector=True)
        return [Point(_uuid(r.id), np.asarray(r.vector, dtype=np.float32), r.payload or {}) for r in found]

    def ids(self, collection: str) -> Iterator[UUID]:
        """See `VectorStore.ids`."""
        offset: engine.PointId | None = None
        while True:
            request = engine.ScrollRequest(offset=offset, limit=_PAGE, with_payload=False, with_vector=False)
            with self._mutex:
                page, offset = self._shard(collection).scroll(request)
            yield from (_uuid(record.id) for record in page)
            if offset is None:
                return

    @_one_at_a_time
    def count(self, collection: str) -> int:
        """See `VectorStore.count`."""
        return int(self._shard(collection).count(engine.CountRequest(exact=True)))

    def optimize(self, collection: str) -> bool:
        """See `VectorStore.optimize`. The work is done on a copy, by a child process: the engine's own call
        would freeze this one, and a crash leaves the collection as it was. Others search meanwhile; the
        caller sees to it that nobody writes.
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
            put_in_place(done, path)
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
        self._dims.pop(collection, None)
        if shard is not None:
            shard.close()

    def _shard(self, collection: str) -> "engine.EdgeShard":
        """The open shard of a collection, with what is known of it."""
        if collection not in self._shards:
            if not (self._path(collection) / "edge_config.json").exists():
                raise IndexingError(f"there is no collection {collection}")
            self._shards[collection] = _load(self._path(collection))
        if collection not in self._types:
            shard = self._shards[collection]
            config = json.loads((self._path(collection) / "edge_config.json").read_text())
            self._dims[collection] = int(config["vectors"][""]["size"])
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


def _filter(clause: Bool) -> "engine.Filter":
    return engine.Filter(
        must=[_condition(part) for part in clause.must] or None,
        should=[_condition(part) for part in clause.should] or None,
        must_not=[_condition(part) for part in clause.must_not] or None,
    )


def _condition(clause: Clause) -> "engine.ConditionType":
    if isinstance(clause, Bool):
        return _filter(clause)
    if isinstance(clause, Empty):
        return engine.IsEmptyCondition(clause.key)
    if isinstance(clause, DateRange):
        return engine.FieldCondition(clause.key, range=engine.RangeDateTime(gte=clause.gte, lt=clause.lt))
    if isinstance(clause, NumberRange):
        span = engine.RangeFloat(gt=clause.gt, gte=clause.gte, lt=clause.lt, lte=clause.lte)
        return engine.FieldCondition(clause.key, range=span)
    if len(clause.values) == 1:
        return engine.FieldCondition(clause.key, match=engine.MatchValue(clause.values[0]))
    texts = [value for value in clause.values if isinstance(value, str)]
    return engine.FieldCondition(clause.key, match=engine.MatchAny(texts))


def _uuid(point: "engine.PointId") -> UUID:
    return point if isinstance(point, UUID) else UUID(str(point))
