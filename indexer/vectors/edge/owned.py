"""The embedded vector store, reached through the process that has it open."""

import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any
from uuid import UUID

from numpy.typing import NDArray

from corpus import errors
from corpus.errors import IndexingError, OwnerGone, SimilarityError
from indexer.vectors.edge.wire import pack, unpack
from indexer.vectors.filters import Condition, FieldType, PayloadValue
from indexer.vectors.store import Form, Hit, Point, SearchRequest, Terms

_BATCH = 1_000  # points in one message


class OwnedStore:
    """A `VectorStore` that passes every call to the owner of the home. Threads may share it."""

    def __init__(self, line: Connection) -> None:
        """Call over this connection; `indexer.owner.connect` opens it."""
        self._line = line
        self._mutex = threading.Lock()

    def create(
        self, collection: str, dim: int, fields: Mapping[str, FieldType], form: Form = "dense"
    ) -> None:
        """See `VectorStore.create`."""
        self._call("create", collection, dim, dict(fields), form)

    def collections(self) -> list[str]:
        """See `VectorStore.collections`."""
        names: list[str] = self._call("collections")
        return names

    def set_aliases(self, live: Mapping[str, str]) -> None:
        """See `VectorStore.set_aliases`."""
        self._call("set_aliases", dict(live))

    def upsert(self, collection: str, points: Sequence[Point]) -> None:
        """See `VectorStore.upsert`."""
        for start in range(0, len(points), _BATCH):
            self._call("upsert", collection, list(points[start : start + _BATCH]))

    def set_payload(self, collection: str, payloads: Mapping[UUID, Mapping[str, PayloadValue]]) -> None:
        """See `VectorStore.set_payload`."""
        self._call("set_payload", collection, dict(payloads))

    def delete(self, collection: str, ids: Iterable[UUID]) -> None:
        """See `VectorStore.delete`."""
        self._call("delete", collection, list(ids))

    def flush(self, collection: str) -> None:
        """See `VectorStore.flush`."""
        self._call("flush", collection)

    def search(
        self,
        collection: str,
        vector: NDArray[Any] | Terms,
        limit: int,
        where: Condition | None = None,
        exclude_study_keys: Collection[str] = (),
        exact: bool = False,
        payload: Collection[str] | None = None,
    ) -> list[Hit]:
        """See `VectorStore.search`."""
        hits: list[Hit] = self._call(
            "search",
            collection,
            vector,
            limit,
            where,
            tuple(exclude_study_keys),
            exact,
            None if payload is None else tuple(payload),
        )
        return hits

    def search_batch(self, requests: Sequence[SearchRequest]) -> list[list[Hit]]:
        """See `VectorStore.search_batch`."""
        try:
            hits: list[list[Hit]] = self._call("search_batch", list(requests))
        except OwnerGone as error:
            # An owner of a version that knows no batches hangs up: it takes the request for damaged.
            raise OwnerGone(
                "the service that had the index open has ended, or is of an earlier version: run the command "
                "again, and restart the service if this comes again"
            ) from error
        return hits

    def fetch(self, collection: str, ids: Iterable[UUID]) -> list[Point]:
        """See `VectorStore.fetch`."""
        points: list[Point] = self._call("fetch", collection, list(ids))
        return points

    def ids(self, collection: str) -> Iterator[UUID]:
        """See `VectorStore.ids`."""
        yield from self._call("ids", collection)

    def count(self, collection: str) -> int:
        """See `VectorStore.count`."""
        return int(self._call("count", collection))

    def optimize(self, collection: str) -> bool:
        """See `VectorStore.optimize`."""
        return bool(self._call("optimize", collection))

    def drop(self, collection: str) -> None:
        """See `VectorStore.drop`."""
        self._call("drop", collection)

    def close(self) -> None:
        """Disconnect; the owner keeps the store open."""
        self._line.close()

    def _call(self, method: str, *arguments: Any) -> Any:
        try:
            with self._mutex:
                for message in pack([method, *arguments]):
                    self._line.send_bytes(message)
                outcome, answer = unpack(self._line.recv_bytes(), self._line.recv_bytes)
        except (EOFError, OSError) as error:
            raise OwnerGone(
                "the service that had the index open has ended; run the command again: what was done is safe"
            ) from error
        if outcome == "done":
            return answer
        raise _error(outcome, str(answer))


def _error(kind: str, message: str) -> SimilarityError:
    found = getattr(errors, kind, None)
    if isinstance(found, type) and issubclass(found, SimilarityError):
        return found(message)
    return IndexingError(f"the owner of the index could not do that ({kind})")
