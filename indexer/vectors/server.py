"""The vector store on a Qdrant server or cluster, through qdrant-client."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import ParamSpec, TypeVar
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse

from corpus.errors import IndexingError, SimilarityError, UsageError
from indexer.retries import RetryPolicy
from indexer.vectors.client_classes import TERMS, fetched, filter_from, params_of, sparse_of, written
from indexer.vectors.collection_config import CollectionConfig, check_types, config_from, field_key
from indexer.vectors.filters import (
    CASE_FIELDS,
    KEY_FIELDS,
    Condition,
    FieldType,
    PayloadValue,
    payload_key,
)
from indexer.vectors.qdrant_filters import Bool, filter_of
from indexer.vectors.server_failures import explain, no_collection, timed_out
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

NAMESPACES = "similarity_"
"""What every namespace begins with, and so the name of a collection that is of one."""

_BATCH = 256  # with 512 dimensions about 1 MB of JSON, far under the 5 MB where servers grow slow
_PAGE = 1_000
_SEARCH_EF = 256
_SIDE_BY_SIDE = 8  # calls of one batch of searches
_REST_SECONDS = 5.0
"""After a call that timed out, others fail at once for this long, rather than each wait in
turn: a service would answer no request for minutes."""
_RESCORED = 3.0  # times the limit: how many of the int8 candidates are compared exactly

_SCHEMAS = {
    FieldType.KEYWORD: models.PayloadSchemaType.KEYWORD,
    FieldType.NUMBER: models.PayloadSchemaType.FLOAT,
    FieldType.BOOL: models.PayloadSchemaType.INTEGER,
    FieldType.DATE: models.PayloadSchemaType.DATETIME,
}
Given = ParamSpec("Given")
Result = TypeVar("Result")


class ServerStore:
    """A `VectorStore` on a server. Every write waits until the server has applied it.

    Each call is safe to repeat, points being written and deleted by their ids: while the server is away, a
    call is made again within the store's retry policy. Beside what the protocol names, each raises
    `ServerUnavailable` where the server does not answer, or refuses.

    Several indexes share a server, each in a namespace: the name of a collection on the server is the
    namespace followed by its name here. A store lists, reads, writes and deletes nothing outside of it.
    """

    def __init__(
        self,
        client: QdrantClient,
        name: str = "Qdrant",
        retry: RetryPolicy | None = None,
        *,
        namespace: str = "",
    ) -> None:
        """Use this client; `close` closes it.

        Args:
            client: of the server.
            name: of the server, for messages.
            retry: how long the server is waited for when it goes away; default not at all.
            namespace: the beginning of the names of this index's collections on the server. Empty: the
                index is of a version without namespaces, and has the collections that are in none.
        """
        self._client, self._name, self._namespace = client, name, namespace
        self._retry = retry or RetryPolicy()
        self._resting: tuple[float, SimilarityError] | None = None
        self._configs: dict[str, CollectionConfig] = {}
        self._together = ThreadPoolExecutor(_SIDE_BY_SIDE, "similarity-search")

    @property
    def name(self) -> str:
        """The server's name, for messages."""
        return self._name

    def create(
        self, collection: str, dim: int, fields: Mapping[str, FieldType], form: Form = "dense"
    ) -> None:
        """See `VectorStore.create`. Payload indexes are made before anything is written, so that the server
        builds its graph with the filters in mind."""
        self._call(self._make, self._on_server(collection), dim, form)
        existing = self._read(collection)  # another machine may have added fields, or made it anew
        if (existing.dim, existing.form) != (dim, form):
            raise IndexingError(
                f"collection {collection} holds {existing.dim} numbers ({existing.form}), not {dim} ({form})"
            )
        wanted = {payload_key(n): kind for n, kind in {**KEY_FIELDS, **CASE_FIELDS, **fields}.items()}
        check_types(collection, existing.types, wanted)
        missing = {key: kind for key, kind in wanted.items() if key not in existing.types}
        name = self._on_server(collection)
        for key, kind in missing.items():
            self._in(collection, self._client.create_payload_index, name, key, _SCHEMAS[kind], wait=True)
        if missing:
            card = {field_key(key): str(kind) for key, kind in missing.items()}
            self._in(collection, self._client.update_collection, name, metadata=card)
            # Another machine may have added a field of another type meanwhile.
            check_types(collection, self._read(collection).types, wanted)

    def collections(self) -> list[str]:
        """See `VectorStore.collections`."""
        names = (entry.name for entry in self._call(self._list).collections)
        return sorted(name.removeprefix(self._namespace) for name in names if self._owns(name))

    def set_aliases(self, live: Mapping[str, str]) -> None:
        """See `VectorStore.set_aliases`. Without a namespace none is set: its name could be another's."""
        if not self._namespace:
            return
        existing = {
            entry.alias_name: entry.collection_name
            for entry in self._call(self._client.get_aliases).aliases
            if self._owns(entry.alias_name)
        }
        for collection in live.values():
            self._config(collection)
        wanted = {self._on_server(alias): self._on_server(name) for alias, name in live.items()}
        if wanted == existing:
            return
        changes: list[models.AliasOperations] = [
            models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=alias))
            for alias in existing
        ]
        changes += [
            models.CreateAliasOperation(
                create_alias=models.CreateAlias(alias_name=alias, collection_name=name)
            )
            for alias, name in wanted.items()
        ]
        self._call(self._client.update_collection_aliases, changes)

    def upsert(self, collection: str, points: Sequence[Point]) -> None:
        """See `VectorStore.upsert`."""
        config = self._config(collection)
        check_points(points, config.dim, config.form)
        for start in range(0, len(points), _BATCH):
            batch = [written(point) for point in points[start : start + _BATCH]]
            self._in(collection, self._client.upsert, self._on_server(collection), batch, wait=True)

    def set_payload(self, collection: str, payloads: Mapping[UUID, Mapping[str, PayloadValue]]) -> None:
        """See `VectorStore.set_payload`."""
        self._config(collection)
        remaining = iter(payloads.items())
        while batch := list(islice(remaining, _BATCH)):
            changes = [
                models.OverwritePayloadOperation(
                    overwrite_payload=models.SetPayload(payload=dict(payload), points=[str(point)])
                )
                for point, payload in batch
            ]
            self._in(
                collection, self._client.batch_update_points, self._on_server(collection), changes, wait=True
            )

    def delete(self, collection: str, ids: Iterable[UUID]) -> None:
        """See `VectorStore.delete`."""
        self._config(collection)
        remaining = iter(ids)
        while batch := list(islice(remaining, _PAGE)):
            gone = models.PointIdsList(points=[str(point) for point in batch])
            self._in(collection, self._client.delete, self._on_server(collection), gone, wait=True)

    def flush(self, collection: str) -> None:
        """See `VectorStore.flush`. Every write has waited until the server logged it on its disk."""
        self._config(collection)

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
        config = self._config(collection)
        check_query(vector, config.dim, config.form)
        if isinstance(vector, Terms) and not vector.ids:
            return []
        chosen = self._filter_of(collection, where, exclude_study_keys)
        query = sparse_of(vector) if isinstance(vector, Terms) else vector.tolist()
        keys = True if payload is None else list(payload) or False
        parts = 1 if isinstance(vector, Terms) else np.atleast_2d(vector).shape[0]

        def best(count: int, with_payload: bool) -> list[Hit]:
            found = self._in(
                collection,
                self._client.query_points,
                self._on_server(collection),
                query=query,
                using=TERMS if isinstance(vector, Terms) else None,
                limit=count,
                query_filter=None if chosen is None else filter_from(chosen),
                search_params=models.SearchParams(
                    hnsw_ef=max(_SEARCH_EF, 2 * count),
                    exact=exact,
                    quantization=models.QuantizationSearchParams(rescore=True, oversampling=_RESCORED),
                ),
                with_payload=keys if with_payload else False,
            )
            return [Hit(UUID(str(hit.id)), hit.score / parts, hit.payload or {}) for hit in found.points]

        def payloads(ids: Collection[UUID]) -> dict[UUID, Mapping[str, PayloadValue]]:
            found = self._in(
                collection,
                self._client.retrieve,
                self._on_server(collection),
                [str(point) for point in ids],
                with_payload=keys,
                with_vectors=False,
            )
            return {UUID(str(record.id)): record.payload or {} for record in found}

        return in_one_order(limit, best, payloads)

    def search_batch(self, requests: Sequence[SearchRequest]) -> list[list[Hit]]:
        """See `VectorStore.search_batch`; in threads, since a server's own batches are of one collection."""
        if len(requests) == 1:
            return [found_or_none(self.search, requests[0])]
        return list(self._together.map(partial(found_or_none, self.search), requests))

    def fetch(self, collection: str, ids: Iterable[UUID]) -> list[Point]:
        """See `VectorStore.fetch`."""
        self._config(collection)
        points: list[Point] = []
        remaining = iter(ids)
        while batch := list(islice(remaining, _PAGE)):
            found = self._in(
                collection,
                self._client.retrieve,
                self._on_server(collection),
                [str(point) for point in batch],
                with_payload=True,
                with_vectors=True,
            )
            points += [fetched(record) for record in found]
        return points

    def ids(self, collection: str) -> Iterator[UUID]:
        """See `VectorStore.ids`."""
        self._config(collection)
        offset: models.ExtendedPointId | None = None
        while True:
            page, offset = self._in(
                collection,
                self._client.scroll,
                self._on_server(collection),
                offset=offset,
                limit=_PAGE,
                with_payload=False,
                with_vectors=False,
            )
            yield from (UUID(str(record.id)) for record in page)
            if offset is None:
                return

    def count(self, collection: str) -> int:
        """See `VectorStore.count`."""
        return self._in(collection, self._client.count, self._on_server(collection), exact=True).count

    def optimize(self, collection: str) -> bool:
        """See `VectorStore.optimize`. A server does this on its own."""
        self._config(collection)
        return False

    def drop(self, collection: str) -> None:
        """See `VectorStore.drop`."""
        if self._call(self._client.collection_exists, self._on_server(collection)):
            self._call(self._client.delete_collection, self._on_server(collection))
        self._configs.pop(collection, None)

    def close(self) -> None:
        """See `VectorStore.close`."""
        self._together.shutdown(wait=False, cancel_futures=True)  # a call that hangs ends with its own limit
        self._client.close()

    def version(self) -> str:
        """Return the server's version; of a cluster, that of the node that answers."""
        return self._call(self._client.info).version

    def _on_server(self, collection: str) -> str:
        """Return the server's own name of a collection or an alias."""
        return self._namespace + collection

    def _owns(self, name: str) -> bool:
        """Return whether the collection or alias of this name on the server is of this store's namespace."""
        return name.startswith(self._namespace) if self._namespace else not name.startswith(NAMESPACES)

    def _list(self) -> models.CollectionsResponse:
        listed = self._client.get_collections()
        assert isinstance(listed, models.CollectionsResponse), "JSON of another service"
        return listed

    def _make(self, name: str, dim: int, form: Form) -> None:
        """Create a collection unless another machine, or an earlier call with a lost reply, did."""
        if self._client.collection_exists(name):
            return
        rarity = models.SparseVectorParams(modifier=models.Modifier.IDF)
        try:
            self._client.create_collection(
                name,
                vectors_config={} if form == "terms" else params_of(dim, form),
                sparse_vectors_config={TERMS: rarity} if form == "terms" else None,
            )
        except (UnexpectedResponse, ValueError):  # of a server, of the engine in memory
            if not self._client.collection_exists(name):
                raise

    def _in(
        self,
        collection: str,
        call: Callable[Given, Result],
        *args: Given.args,
        **kwargs: Given.kwargs,
    ) -> Result:
        """Make a call on a collection; one that is gone is reported as one that never was."""
        self._config(collection)
        try:
            return self._call(call, *args, **kwargs)
        except (IndexingError, ValueError):  # of a server, of the engine in memory
            if self._call(self._client.collection_exists, self._on_server(collection)):
                raise
            self._configs.pop(collection, None)
            raise no_collection(collection, self._name, self.collections()) from None

    def _call(self, call: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs) -> Result:
        """Make a call of the client; explain its failure, and retry while the server is away."""
        return self._retry.run(lambda: self._once(lambda: call(*args, **kwargs)), self._name)

    def _once(self, call: Callable[[], Result]) -> Result:
        if self._resting is not None:
            until, failure = self._resting
            if time.monotonic() < until:
                raise failure
        try:
            result = call()
        except Exception as error:  # the client raises nothing narrower
            failed = explain(error, self._name)
            if failed is None:
                raise
            if timed_out(error):
                self._resting = time.monotonic() + _REST_SECONDS, failed
            raise failed from error
        self._resting = None
        return result

    def _config(self, collection: str) -> CollectionConfig:
        """Return the configuration of a collection, read once."""
        known = self._configs.get(collection)
        return self._read(collection) if known is None else known

    def _read(self, collection: str) -> CollectionConfig:
        """Read a configuration as it is now; until then other threads have the earlier one."""
        name = self._on_server(collection)
        if not self._call(self._client.collection_exists, name):
            self._configs.pop(collection, None)
            raise no_collection(collection, self._name, self.collections())
        read = config_from(self._call(self._client.get_collection, name), collection)
        self._configs[collection] = read
        return read

    def _filter_of(
        self, collection: str, where: Condition | None, exclude_study_keys: Collection[str]
    ) -> Bool | None:
        """Return the filter; a condition that does not fit is compared with the fields as they are now."""
        known = self._config(collection).types
        try:
            return filter_of(where, exclude_study_keys, known)
        except UsageError:
            types = self._read(collection).types
            if types == known:
                raise
            return filter_of(where, exclude_study_keys, types)
