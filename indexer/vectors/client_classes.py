"""Our records as qdrant-client's classes, and back."""

from uuid import UUID

import numpy as np
from qdrant_client import models

from indexer.vectors.qdrant_filters import Bool, Clause, DateRange, Empty, NumberRange
from indexer.vectors.store import NO_VECTOR, Form, Point, Terms

TERMS = "terms"
"""Name of the sparse vector of a point of terms; a dense one has none."""


def params_of(dim: int, form: Form) -> models.VectorParams:
    """Return the configuration of the vectors of a collection of this form, which is not `terms`."""
    if form == "dense":
        return models.VectorParams(size=dim, distance=models.Distance.DOT)
    int8 = models.ScalarQuantizationConfig(type=models.ScalarType.INT8, quantile=0.99, always_ram=True)
    return models.VectorParams(
        size=dim,
        distance=models.Distance.DOT,
        multivector_config=models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM),
        quantization_config=models.ScalarQuantization(scalar=int8),
        on_disk=True,
    )


def written(point: Point) -> models.PointStruct:
    """Return a point as the client writes it."""
    vector = {TERMS: sparse_of(point.terms)} if point.terms is not None else point.vector.tolist()
    return models.PointStruct(id=str(point.id), vector=vector, payload=dict(point.payload))


def sparse_of(terms: Terms) -> models.SparseVector:
    """Return the weights of a text's words as a sparse vector."""
    return models.SparseVector(indices=list(terms.ids), values=list(terms.weights))


def fetched(record: models.Record) -> Point:
    """Return a point that was read with payload and vector."""
    vectors = record.vector
    if isinstance(vectors, dict):
        sparse = vectors[TERMS]
        assert isinstance(sparse, models.SparseVector)
        terms = Terms(tuple(sparse.indices), tuple(sparse.values))
        return Point(UUID(str(record.id)), NO_VECTOR, record.payload or {}, terms)
    return Point(UUID(str(record.id)), np.asarray(vectors, dtype=np.float32), record.payload or {})


def filter_from(clause: Bool) -> models.Filter:
    """Return a condition of `qdrant_filters` as a filter."""
    return models.Filter(
        must=[_condition(part) for part in clause.must] or None,
        should=[_condition(part) for part in clause.should] or None,
        must_not=[_condition(part) for part in clause.must_not] or None,
    )


def _condition(clause: Clause) -> models.Condition:
    if isinstance(clause, Bool):
        return filter_from(clause)
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
