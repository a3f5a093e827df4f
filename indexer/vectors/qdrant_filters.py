"""Conditions translated to Qdrant's filters, once for the engine in the process and the server.

Both libraries know the same filters under slightly different class names, so the translation is made in
Qdrant's JSON shape and each store turns that shape into its own classes.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from indexer.vectors.filters import (
    CASE_FIELDS,
    KEY_FIELDS,
    And,
    Comparison,
    Condition,
    FieldType,
    Not,
    Or,
    Scalar,
    check,
    payload_key,
    stretch,
)


@dataclass(frozen=True, slots=True)
class Match:
    """The field has one of these values."""

    key: str
    values: tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class NumberRange:
    """The field lies between these bounds (None: open)."""

    key: str
    gt: float | None = None
    gte: float | None = None
    lt: float | None = None
    lte: float | None = None


@dataclass(frozen=True, slots=True)
class DateRange:
    """The field lies from `gte` on and before `lt` (None: open)."""

    key: str
    gte: str | None = None
    lt: str | None = None


@dataclass(frozen=True, slots=True)
class Empty:
    """The field is missing."""

    key: str


@dataclass(frozen=True, slots=True)
class Bool:
    """All of `must`, at least one of `should` where there are any, none of `must_not`."""

    must: tuple["Clause", ...] = ()
    should: tuple["Clause", ...] = ()
    must_not: tuple["Clause", ...] = ()


Clause = Match | NumberRange | DateRange | Empty | Bool

NOTHING = Bool(must=(Match("kind", ("",)),))
"""A filter that no point passes: every point has a kind, and none an empty one."""


def filter_of(
    where: Condition | None, exclude_study_keys: Collection[str], types: Mapping[str, FieldType]
) -> Bool | None:
    """Return the engine's filter of a search, or None.

    `types`: payload key → type, of the fields that the collection has an index on.

    Raises:
        UsageError: the condition names an unknown field or a value of the wrong type.
    """
    must: tuple[Clause, ...] = ()
    if where is not None:
        names = {name: types[payload_key(name)] for name in fields_of(where) if payload_key(name) in types}
        check(where, names)
        must = (_clause(where, {**names, **KEY_FIELDS, **CASE_FIELDS}),)
    must_not: tuple[Clause, ...] = ()
    if exclude_study_keys:
        must_not = (Match("study", tuple(sorted(exclude_study_keys))),)
    return Bool(must=must, must_not=must_not) if must or must_not else None


def fields_of(condition: Condition) -> set[str]:
    """Return the fields that a condition compares."""
    if isinstance(condition, And | Or):
        return {name for part in condition.parts for name in fields_of(part)}
    return fields_of(condition.part) if isinstance(condition, Not) else {condition.field}


def _clause(condition: Condition, types: Mapping[str, FieldType]) -> Clause:
    if isinstance(condition, And):
        return Bool(must=tuple(_clause(part, types) for part in condition.parts))
    if isinstance(condition, Or):
        # An engine reads a `should` without entries as "anything".
        return Bool(should=tuple(_clause(part, types) for part in condition.parts) or (NOTHING,))
    if isinstance(condition, Not):
        return Bool(must_not=(_clause(condition.part, types),))
    return _comparison(condition, types[condition.field])


def _comparison(comparison: Comparison, kind: FieldType) -> Clause:
    key = payload_key(comparison.field)
    if comparison.op in ("=", "in"):
        return _equals(key, kind, comparison.values())
    if comparison.op == "!=":
        # An engine lets a point without the field through a bare "not equal".
        return Bool(must_not=(_equals(key, kind, comparison.values()), Empty(key)))
    value = comparison.values()[0]
    if kind is FieldType.DATE:
        start, end = map(_instant, stretch(str(value)))
        return {
            "<": DateRange(key, lt=start),
            "<=": DateRange(key, lt=end),
            ">": DateRange(key, gte=end),
            ">=": DateRange(key, gte=start),
        }[comparison.op]
    number = float(value)
    return {
        "<": NumberRange(key, lt=number),
        "<=": NumberRange(key, lte=number),
        ">": NumberRange(key, gt=number),
        ">=": NumberRange(key, gte=number),
    }[comparison.op]


def _equals(key: str, kind: FieldType, values: tuple[Scalar, ...]) -> Clause:
    if not values:
        return NOTHING
    if kind is FieldType.KEYWORD:
        return Match(key, tuple(str(value) for value in values))
    if kind is FieldType.BOOL:
        return Bool(should=tuple(Match(key, (int(value),)) for value in values))
    if kind is FieldType.NUMBER:
        return Bool(should=tuple(NumberRange(key, gte=float(v), lte=float(v)) for v in values))
    spans = [tuple(map(_instant, stretch(str(value)))) for value in values]
    return Bool(should=tuple(DateRange(key, gte=start, lt=end) for start, end in spans))


def _instant(moment: datetime) -> str:
    """ISO 8601 in UTC with a four-digit year, as the engines read it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ").rjust(27, "0")
