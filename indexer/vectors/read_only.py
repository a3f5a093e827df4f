"""A vector store that is only read: what would write to it is refused before it reaches the engine."""

from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

from corpus.errors import ReadOnlyIndex
from indexer.vectors.filters import FieldType, PayloadValue
from indexer.vectors.store import Form, Point, VectorStore

OPENED_READ_ONLY = "the index was opened read-only: open it with read_only=False"


class ReadOnlyStore:
    """A `VectorStore` whose readings are those of another; every writing raises `ReadOnlyIndex`."""

    def __init__(self, store: VectorStore) -> None:
        """Read from `store`, and close it when this is closed."""
        self.collections = store.collections
        self.search = store.search
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
