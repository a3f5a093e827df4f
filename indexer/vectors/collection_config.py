"""The configuration of a collection on a server: dimension, form, and the types of its filter fields."""

from collections.abc import Mapping
from dataclasses import dataclass

from qdrant_client import models

from corpus.errors import IndexingError
from indexer.vectors.client_classes import TERMS
from indexer.vectors.filters import FieldType
from indexer.vectors.store import Form

_FIELD = "field:"
"""Beginning of a key in a collection's own metadata, followed by a filter field; the value is its type. The
client's local mode has no payload indexes to read them from. The server merges metadata by key, so that two
machines add fields at once."""
_CARD = "collection"
"""Key of all filter fields together, in collections of versions before."""


@dataclass(frozen=True, slots=True)
class CollectionConfig:
    """What is read once of a collection. `types`: payload key → type, of the filter fields."""

    dim: int
    form: Form
    types: Mapping[str, FieldType]


def field_key(name: str) -> str:
    """Return the key of the type of a filter field in a collection's metadata."""
    return _FIELD + name


def config_from(info: models.CollectionInfo, collection: str) -> CollectionConfig:
    """Return the configuration that a server describes; `collection`: its name, for messages.

    Raises:
        IndexingError: it was not made by Similarity.
    """
    params = info.config.params
    vectors, sparse = params.vectors, params.sparse_vectors
    dim: int = 0
    form: Form = "terms"
    if isinstance(vectors, models.VectorParams):
        dim, form = vectors.size, "patches" if vectors.multivector_config else "dense"
    elif sparse is None or TERMS not in sparse:
        raise IndexingError(f"collection {collection} was not made by Similarity")
    metadata = info.config.metadata or {}
    types = {**metadata.get(_CARD, {})}
    types |= {key.removeprefix(_FIELD): kind for key, kind in metadata.items() if key.startswith(_FIELD)}
    return CollectionConfig(dim, form, {key: FieldType(kind) for key, kind in types.items()})


def check_types(collection: str, known: Mapping[str, FieldType], wanted: Mapping[str, FieldType]) -> None:
    """Refuse a filter field that a collection has with another type.

    Raises:
        IndexingError: naming both types.
    """
    for key, kind in wanted.items():
        if known.get(key, kind) is not kind:
            raise IndexingError(f"field {key!r} is a {known[key]} in {collection}, not a {kind}")
