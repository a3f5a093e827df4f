"""The protocol of a vector store, its records and checks. `edge` and `server` implement it."""

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from corpus.errors import IndexingError, MissingCollection, ReadOnlyIndex
from corpus.redaction import redacted
from indexer.vectors.filters import Condition, FieldType, PayloadValue

UNIT_TOLERANCE = 1e-3
"""Largest difference of a vector's length from 1: float32 rounding and float16 models pass, others do not."""

OPENED_READ_ONLY = "the index was opened read-only: open it with read_only=False"

Form = Literal["dense", "patches", "terms"]
"""Form of a collection's points: one vector; the vectors of an image's patches, compared by the sum over the
query's patches of the nearest one's inner product (MaxSim), in int8 first and exactly at the end; or the
weights of a text's words, compared by BM25 with the rarity of words counted over the collection."""


@dataclass(frozen=True, slots=True)
class Terms:
    """A text as a sparse vector: ids of its different words (uint32) and a weight above zero for each."""

    ids: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()


@redacted
@dataclass(frozen=True, slots=True)
class Point:
    """One vector with its payload.

    `vector`: (dim,) float32, unit length; of patches (n, dim), unit rows, n at least 1; of terms empty.
    `terms`: in a collection of terms, and only there.
    """

    id: UUID
    vector: NDArray[np.float32]
    payload: Mapping[str, PayloadValue]
    terms: Terms | None = None


NO_VECTOR: NDArray[np.float32] = np.zeros(0, np.float32)
"""The vector of a point of terms."""


@redacted
@dataclass(frozen=True, slots=True)
class Hit:
    """A point that a search found.

    `score`: inner product with the query, in [-1, 1]; of patches the mean of it over the query's patches; of
    terms BM25. Higher is better.
    """

    id: UUID
    score: float
    payload: Mapping[str, PayloadValue]


@redacted
@dataclass(frozen=True, slots=True)
class SearchRequest:
    """One of several searches that a store answers together; the fields are arguments of `search`."""

    collection: str
    vector: NDArray[np.float32] | Terms
    limit: int
    where: Condition | None = None
    payload: Collection[str] | None = None


class VectorStore(Protocol):
    """Named collections of unit vectors with payloads, searched by inner product under a filter.

    A collection that does not exist is a `MissingCollection` everywhere but in `create`, `collections`,
    `search_batch`, `drop`.
    """

    def create(
        self, collection: str, dim: int, fields: Mapping[str, FieldType], form: Form = "dense"
    ) -> None:
        """Create the collection, or add missing filter `fields` to it (beside those that every one has).

        Args:
            collection: its name.
            dim: of its vectors; 0 for terms.
            fields: own fields that one can filter on, with their types.
            form: of its points.

        Raises:
            IndexingError: it exists with another dimension or form.
        """
        ...

    def collections(self) -> list[str]:
        """Return the names of the collections, sorted."""
        ...

    def set_aliases(self, live: Mapping[str, str]) -> None:
        """Name the collections of the active version, for others who read the server.

        Args:
            live: alias → collection, of this store's names. All are set at once; an alias that is not among
                them is removed. The embedded store, which no one else reads, has none and does nothing.

        Raises:
            IndexingError: a collection does not exist on the server; no alias was changed.
        """
        ...

    def upsert(self, collection: str, points: Sequence[Point]) -> None:
        """Write points; one that exists is replaced, payload and all.

        Raises:
            IndexingError: a vector is not finite, not of unit length, or not of the collection's form and
                dimension. Nothing is written then.
        """
        ...

    def set_payload(self, collection: str, payloads: Mapping[UUID, Mapping[str, PayloadValue]]) -> None:
        """Replace the whole payload of points, leaving their vectors."""
        ...

    def delete(self, collection: str, ids: Iterable[UUID]) -> None:
        """Delete points; those that do not exist are passed over."""
        ...

    def flush(self, collection: str) -> None:
        """Return when everything that was written is on the disk."""
        ...

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
        """Return the nearest points that meet the condition, best first; those of equal score by id.

        Scores are equal that differ by rounding alone (`indexer.vectors.ties`): every store returns the same
        hits in the same order.

        Args:
            collection: its name.
            vector: (dim,) unit; for patches (n, dim) unit rows; for terms the words with a weight of 1 each,
                of which a point must have one.
            limit: how many points at most.
            where: condition on the payload; None for none.
            exclude_study_keys: keyed hashes of studies that are not returned.
            exact: compare with every vector rather than follow the graph.
            payload: keys to return; None for all, which takes longer to read than the search itself.

        Raises:
            UsageError: the condition names an unknown field or a value of the wrong type.
            IndexingError: the query is not finite, not of unit length, or of another form or dimension.
        """
        ...

    def search_batch(self, requests: Sequence[SearchRequest]) -> list[list[Hit]]:
        """Return what `search` returns for each request, in the order of the requests.

        They are answered in one round trip: by the embedded store in one call, by a server at the same time.
        A collection that does not exist has no hits.

        Raises:
            UsageError, IndexingError: as `search`, for the first request that cannot be answered.
        """
        ...

    def fetch(self, collection: str, ids: Iterable[UUID]) -> list[Point]:
        """Return the points of these ids, in any order, without those that do not exist."""
        ...

    def ids(self, collection: str) -> Iterator[UUID]:
        """Yield every id, in the engine's own order."""
        ...

    def count(self, collection: str) -> int:
        """Return the exact number of points."""
        ...

    def optimize(self, collection: str) -> bool:
        """Build the search graph of a collection too large for exhaustive search; return whether it did."""
        ...

    def drop(self, collection: str) -> None:
        """Delete the collection if it exists, and its aliases."""
        ...

    def close(self) -> None:
        """Flush and close everything."""
        ...


class ReadOnlyStore:
    """A `VectorStore` that passes reads on to another and raises `ReadOnlyIndex` on every write."""

    def __init__(self, store: VectorStore) -> None:
        """Read from `store`, and close it when this is closed."""
        self.collections = store.collections
        self.search = store.search
        self.search_batch = store.search_batch
        self.fetch = store.fetch
        self.ids = store.ids
        self.count = store.count
        self.flush = store.flush
        self.close = store.close

    def create(
        self, collection: str, dim: int, fields: Mapping[str, FieldType], form: Form = "dense"
    ) -> None:
        """Refuse."""
        raise ReadOnlyIndex(OPENED_READ_ONLY)

    def set_aliases(self, live: Mapping[str, str]) -> None:
        """Refuse."""
        raise ReadOnlyIndex(OPENED_READ_ONLY)

    def upsert(self, collection: str, points: Sequence[Point]) -> None:
        """Refuse."""
        raise ReadOnlyIndex(OPENED_READ_ONLY)

    def set_payload(self, collection: str, payloads: Mapping[UUID, Mapping[str, PayloadValue]]) -> None:
        """Refuse."""
        raise ReadOnlyIndex(OPENED_READ_ONLY)

    def delete(self, collection: str, ids: Iterable[UUID]) -> None:
        """Refuse."""
        raise ReadOnlyIndex(OPENED_READ_ONLY)

    def optimize(self, collection: str) -> bool:
        """Refuse."""
        raise ReadOnlyIndex(OPENED_READ_ONLY)

    def drop(self, collection: str) -> None:
        """Refuse."""
        raise ReadOnlyIndex(OPENED_READ_ONLY)


def found_or_none(search: Callable[..., list[Hit]], request: SearchRequest) -> list[Hit]:
    """Answer one request of a batch by a store's `search`; none where there is no such collection."""
    try:
        return search(
            request.collection, request.vector, request.limit, request.where, payload=request.payload
        )
    except MissingCollection:
        return []


def check_vectors(vectors: NDArray[np.float32], dim: int, ids: Sequence[UUID] | None = None) -> None:
    """Refuse what the engines store without an error: NaN, infinity, zero, another dimension, not unit.

    Args:
        vectors: (n, dim).
        dim: the collection's dimension.
        ids: of the n points, for the message; None for a query.

    Raises:
        IndexingError: naming the first such vector.
    """
    if vectors.ndim != 2 or vectors.shape[1] != dim:
        raise IndexingError(f"a vector of {vectors.shape[-1]} numbers where the collection holds {dim}")
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    wrong = np.flatnonzero(~(np.abs(lengths - 1.0) <= UNIT_TOLERANCE))
    if wrong.size:
        first = int(wrong[0])
        who = "the query" if ids is None else f"point {ids[first]}"
        length = float(lengths[first])
        what = f"has length {length:.4g}, not 1" if math.isfinite(length) else "is not finite"
        raise IndexingError(f"the vector of {who} {what}: nothing was written")


def check_points(points: Sequence[Point], dim: int, form: Form) -> None:
    """Refuse points that the engines would store without a word, or that are of another form.

    Raises:
        IndexingError: naming the first such point.
    """
    for point in points:
        if (point.terms is None) is (form == "terms"):
            raise IndexingError(f"point {point.id} is not of a collection of {form}: nothing was written")
    if form == "terms":
        for point in points:
            check_terms(point.terms or Terms(), f"point {point.id}")
    elif form == "dense":
        vectors = [point.vector for point in points]
        if any(vector.shape != (dim,) for vector in vectors):
            raise IndexingError(f"a vector is not of {dim} numbers: nothing was written")
        if vectors:
            check_vectors(np.stack(vectors), dim, [point.id for point in points])
    else:
        for point in points:
            if not len(point.vector):
                raise IndexingError(f"point {point.id} holds no patch: nothing was written")
            check_vectors(point.vector, dim, [point.id] * len(point.vector))


def check_query(query: NDArray[np.float32] | Terms, dim: int, form: Form) -> None:
    """Refuse a query that is not of a collection's form and dimension.

    Raises:
        IndexingError: saying what is wrong with it.
    """
    if isinstance(query, Terms) is not (form == "terms"):
        raise IndexingError(f"the query is not of a collection of {form}")
    if isinstance(query, Terms):
        check_terms(query, "the query")
    elif query.ndim != (2 if form == "patches" else 1) or not len(query):
        raise IndexingError(f"the query of shape {query.shape} is not of a collection of {form}")
    else:
        check_vectors(np.atleast_2d(query), dim)


def check_terms(terms: Terms, who: str) -> None:
    """Refuse weights that are not finite or not above zero, and ids that repeat or are none.

    Raises:
        IndexingError: naming `who`.
    """
    if len(terms.ids) != len(terms.weights) or len(set(terms.ids)) != len(terms.ids):
        raise IndexingError(f"the words of {who} and their weights do not pair: nothing was written")
    if any(not 0 <= word < 1 << 32 for word in terms.ids):
        raise IndexingError(f"{who} has a word with an id that is no uint32: nothing was written")
    if any(not (0 < weight < math.inf) for weight in terms.weights):
        raise IndexingError(f"{who} has a word with a weight that is not above zero: nothing was written")
