"""What a vector store must do. Two do it: `edge` inside the process, `server` on a Qdrant server."""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from corpus.errors import IndexingError
from indexer.vectors.conditions import Condition, FieldType, PayloadValue

UNIT_TOLERANCE = 1e-3
"""How far from 1 the length of a vector may be: float32 rounding and float16 models pass, others do not."""


@dataclass(frozen=True, slots=True)
class Point:
    """One vector with its payload. `vector`: (dim,) float32, unit length."""

    id: UUID
    vector: NDArray[np.float32]
    payload: Mapping[str, PayloadValue]


@dataclass(frozen=True, slots=True)
class Hit:
    """A point that a search found. `score`: inner product with the query, in [-1, 1], higher is better."""

    id: UUID
    score: float
    payload: Mapping[str, PayloadValue]


class VectorStore(Protocol):
    """Named collections of unit vectors with payloads, searched by inner product under a filter.

    A collection that does not exist is an `IndexingError` everywhere but in `create`, `collections`, `drop`.
    """

    def create(self, collection: str, dim: int, fields: Mapping[str, FieldType]) -> None:
        """Make the collection, or add what it lacks of the filter `fields` (beside those always known).

        Raises:
            IndexingError: it exists with another dimension.
        """
        ...

    def collections(self) -> list[str]:
        """Names of the collections, sorted."""
        ...

    def upsert(self, collection: str, points: Sequence[Point]) -> None:
        """Write points; one that exists is replaced, payload and all.

        Raises:
            IndexingError: a vector is not finite, not of unit length, or not of the collection's dimension.
                Nothing is written then.
        """
        ...

    def set_payload(self, collection: str, payloads: Mapping[UUID, Mapping[str, PayloadValue]]) -> None:
        """Replace the whole payload of points, leaving their vectors."""
        ...

    def delete(self, collection: str, ids: Iterable[UUID]) -> None:
        """Delete points; those that do not exist are passed over."""
        ...

    def flush(self, collection: str) -> None:
        """Return only once all that was written is on the disk."""
        ...

    def search(
        self,
        collection: str,
        vector: NDArray[np.float32],
        limit: int,
        where: Condition | None = None,
        exclude_study_keys: Collection[str] = (),
        exact: bool = False,
    ) -> list[Hit]:
        """The nearest points that meet the condition, best first.

        `exclude_study_keys`: keyed hashes of studies that must not come back. `exact`: compare with every
        vector rather than follow the graph.

        Raises:
            UsageError: the condition names an unknown field or a value of the wrong type.
            IndexingError: the query vector is not finite, not of unit length or of another dimension.
        """
        ...

    def fetch(self, collection: str, ids: Iterable[UUID]) -> list[Point]:
        """The points of these ids, in any order, without those that do not exist."""
        ...

    def ids(self, collection: str) -> Iterator[UUID]:
        """Every id, in the engine's own order."""
        ...

    def count(self, collection: str) -> int:
        """How many points there are, exactly."""
        ...

    def optimize(self, collection: str) -> bool:
        """Build the search graph where the collection has outgrown plain comparison; True when it did."""
        ...

    def drop(self, collection: str) -> None:
        """Delete the collection if it exists."""
        ...

    def close(self) -> None:
        """Flush and let go of everything."""
        ...


def check_vectors(vectors: NDArray[np.float32], dim: int, ids: Sequence[UUID] | None = None) -> None:
    """Refuse what the engines store without a word: NaN, infinity, zero, another dimension, not unit.

    Args:
        vectors: (n, dim).
        dim: the collection's dimension.
        ids: of the n points, to name the culprit; None for a query.

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
