"""Records and filters in the embedded engine's own classes, and back: the only module that knows them."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import numpy as np
import qdrant_edge as engine
from numpy.typing import NDArray

from indexer.vectors.qdrant_filters import Bool, Clause, DateRange, Empty, NumberRange
from indexer.vectors.store import NO_VECTOR, Form, Point, Terms

_TERMS = "terms"  # the sparse vector's name; a dense one has none


def config_of(dim: int, form: Form) -> "engine.EdgeConfig":
    """Return the configuration of a collection of a form."""
    # Nothing is optimised until `optimize`; then every segment worth a graph gets one.
    optimizers = engine.EdgeOptimizersConfig(indexing_threshold=1_000)
    if form == "terms":
        rarity = engine.EdgeSparseVectorParams(modifier=engine.Modifier.Idf)
        return engine.EdgeConfig(sparse_vectors={_TERMS: rarity}, optimizers=optimizers)
    vectors = engine.EdgeVectorParams(size=dim, distance=engine.Distance.Dot)
    if form == "patches":
        vectors = engine.EdgeVectorParams(
            size=dim,
            distance=engine.Distance.Dot,
            multivector_config=engine.MultiVectorConfig(engine.MultiVectorComparator.MaxSim),
            quantization_config=engine.ScalarQuantizationConfig(engine.ScalarType.Int8, quantile=0.99),
        )
    return engine.EdgeConfig(vectors=vectors, optimizers=optimizers)


def shape_of(config: Mapping[str, Any]) -> tuple[int, Form]:
    """Return dimension and form of a collection, from the engine's own configuration file."""
    if _TERMS in config["sparse_vectors"]:
        return 0, "terms"
    vectors = config["vectors"][""]
    return int(vectors["size"]), "patches" if vectors.get("multivector_config") else "dense"


def written(point: Point) -> "engine.Point":
    """Return a point as the engine takes it."""
    vector: Any
    if point.terms is not None:
        vector = {_TERMS: engine.SparseVector(list(point.terms.ids), list(point.terms.weights))}
    elif point.vector.ndim == 2:
        vector = point.vector.tolist()
    else:
        # A buffer is taken over three times as fast as a list or an array.
        vector = memoryview(np.ascontiguousarray(point.vector, dtype=np.float32))  # type: ignore[arg-type]
    return engine.Point(point.id, vector, dict(point.payload))


def query_of(vector: NDArray[np.float32] | Terms) -> "engine.Query":
    """Return the query for the nearest points of a vector, of patches or of words."""
    if isinstance(vector, Terms):
        sparse = engine.SparseVector(list(vector.ids), list(vector.weights))
        return engine.Query.Nearest(sparse, using=_TERMS)
    return engine.Query.Nearest(vector.tolist())


def fetched(record: "engine.Record") -> Point:
    """Return a point of the engine's record."""
    vectors: Any = record.vector
    if isinstance(vectors, dict):
        sparse = vectors[_TERMS]
        terms = Terms(tuple(sparse.indices), tuple(sparse.values))
        return Point(uuid_of(record.id), NO_VECTOR, record.payload or {}, terms)
    return Point(uuid_of(record.id), np.asarray(vectors, dtype=np.float32), record.payload or {})


def filter_from(clause: Bool) -> "engine.Filter":
    """Return a filter in the engine's classes."""
    return engine.Filter(
        must=[_condition(part) for part in clause.must] or None,
        should=[_condition(part) for part in clause.should] or None,
        must_not=[_condition(part) for part in clause.must_not] or None,
    )


def _condition(clause: Clause) -> "engine.ConditionType":
    if isinstance(clause, Bool):
        return filter_from(clause)
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


def uuid_of(point: "engine.PointId") -> UUID:
    """Return the id of a point."""
    return point if isinstance(point, UUID) else UUID(str(point))
