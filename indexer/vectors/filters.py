"""Filters in a form of no engine, and their meaning.

`matches` is the meaning: plain boolean logic over comparisons, where a point without the field matches no
comparison, not even `!=`. Each store translates a condition into its engine's filter, and one suite of tests
compares both stores with `matches`. The engines answer an unknown field or a wrong type with no result and no
error, so `check` refuses those before any engine sees them.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Literal, get_args

from corpus.errors import UsageError

Operator = Literal["=", "!=", "<", "<=", ">", ">=", "in"]
Scalar = str | float | int | bool
PayloadValue = str | float | int | Sequence[str]
"""A value of a payload. Booleans are 1 and 0: qdrant-edge 0.9 stores a bool and then never finds it."""


class FieldType(StrEnum):
    """The type of a filter field's values."""

    KEYWORD = "keyword"
    NUMBER = "number"
    BOOL = "bool"
    DATE = "date"


KEY_FIELDS: Mapping[str, FieldType] = {
    "study": FieldType.KEYWORD,
    "subject": FieldType.KEYWORD,
    "kind": FieldType.KEYWORD,
    "concept": FieldType.KEYWORD,
}
"""Fields of the program's own filters, not of users': keyed hashes of study and subject, kind of item, and
findings that a report localizes or grades."""

CASE_FIELDS: Mapping[str, FieldType] = {
    "sex": FieldType.KEYWORD,
    "age": FieldType.NUMBER,
    "view": FieldType.KEYWORD,
    "modality": FieldType.KEYWORD,
    "date": FieldType.DATE,
    "source": FieldType.KEYWORD,
    "diagnosis": FieldType.KEYWORD,
    "finding": FieldType.KEYWORD,
}
"""The fields of every index; a manifest's own columns come on top."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """`field op value`. `value` is a tuple for `in`, else one scalar; a date is ISO 8601 text.

    A date may be a year, a month, a day or an instant; it means that whole interval.
    A list field (`finding`) equals a value when one of its entries does.
    """

    field: str
    op: Operator
    value: Scalar | tuple[Scalar, ...]

    def values(self) -> tuple[Scalar, ...]:
        """The values compared with, one or many."""
        return self.value if isinstance(self.value, tuple) else (self.value,)


@dataclass(frozen=True, slots=True)
class And:
    """All parts hold; with no parts, always."""

    parts: tuple["Condition", ...]


@dataclass(frozen=True, slots=True)
class Or:
    """At least one part holds; with no parts, never."""

    parts: tuple["Condition", ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The part does not hold. So a case of unknown age meets `not age > 60`."""

    part: "Condition"


Condition = Comparison | And | Or | Not


def payload_key(field: str) -> str:
    """Return the key of a filter field in a payload.

    Known fields keep their name. A table's own column (`scanner`, or `attr.scanner` where the name is also a
    known field's) is stored as `attr_` plus its name, with everything but letters and digits escaped: the
    engines read dots, quotes and brackets in a key as a path.
    """
    if field in CASE_FIELDS or field in KEY_FIELDS:
        return field
    name = field.removeprefix("attr.")
    return "attr_" + re.sub(r"[^A-Za-z0-9]", lambda sign: f"_{ord(sign.group()):x}_", name)


def stretch(date: str) -> tuple[datetime, datetime]:
    """Return the interval of an ISO 8601 date: its first instant, and the first one after it.

    `2020` is a year, `2020-03` a month, `2020-03-01` a day, a date with a time that very instant (the end is
    then a microsecond later). Without a zone, UTC.

    Raises:
        UsageError: the text is not such a date.
    """
    year_month = re.fullmatch(r"(\d{4})(?:-(\d{2}))?", date.strip())
    try:
        if year_month:
            year, month = int(year_month[1]), int(year_month[2] or 1)
            first = datetime(year, month, 1, tzinfo=UTC)
            if year_month[2] is None or month == 12:
                return first, datetime(year + 1, 1, 1, tzinfo=UTC)
            return first, datetime(year, month + 1, 1, tzinfo=UTC)
        start = datetime.fromisoformat(date.strip())
        start = start.replace(tzinfo=UTC) if start.tzinfo is None else start.astimezone(UTC)
        whole_day = re.fullmatch(r"\d{4}-?\d{2}-?\d{2}", date.strip()) is not None
        return start, start + (timedelta(days=1) if whole_day else timedelta(microseconds=1))
    except (ValueError, OverflowError):
        raise UsageError(f"{date!r} is not a date; write it as 2020-03-01, 2020-03 or 2020") from None


def check(condition: Condition | None, fields: Mapping[str, FieldType]) -> None:
    """Refuse what no engine reports: unknown fields, values of the wrong type.

    `fields` are the known ones besides `CASE_FIELDS` and `KEY_FIELDS`.

    Raises:
        UsageError: naming the field, and the nearest known one or the type it needs.
    """
    if condition is None:
        return
    if isinstance(condition, And | Or):
        for part in condition.parts:
            check(part, fields)
    elif isinstance(condition, Not):
        check(condition.part, fields)
    else:
        _check_comparison(condition, {**CASE_FIELDS, **fields})


def _check_comparison(comparison: Comparison, fields: Mapping[str, FieldType]) -> None:
    kind = fields.get(comparison.field) or KEY_FIELDS.get(comparison.field)
    if kind is None:
        near = difflib.get_close_matches(comparison.field, fields, 1, 0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(fields))}"
        raise UsageError(f"unknown field {comparison.field!r}: {hint}")
    if comparison.op not in get_args(Operator):
        raise UsageError(f"unknown comparison {comparison.op!r}; use = != < <= > >= in")
    if (comparison.op == "in") is not isinstance(comparison.value, tuple):
        raise UsageError(f"{comparison.field}: `in` takes a list of values, every other comparison one")
    if comparison.op in ("<", "<=", ">", ">=") and kind in (FieldType.KEYWORD, FieldType.BOOL):
        raise UsageError(f"{comparison.field} has no order ({kind}): use =, != or in, not {comparison.op}")
    for value in comparison.values():
        _check_value(comparison.field, kind, value)


def _check_value(field: str, kind: FieldType, value: Scalar) -> None:
    if kind is FieldType.NUMBER:
        fits = isinstance(value, int | float) and not isinstance(value, bool)
    else:
        fits = isinstance(value, bool if kind is FieldType.BOOL else str)
    if not fits:
        raise UsageError(f"{field} is a {kind}: {value!r} is not")
    if kind is FieldType.DATE:
        stretch(str(value))


def matches(
    condition: Condition | None, payload: Mapping[str, PayloadValue], fields: Mapping[str, FieldType]
) -> bool:
    """Return whether a payload meets a condition: the meaning that both stores must agree with.

    `fields` gives the types of a table's own columns.
    """
    if condition is None:
        return True
    if isinstance(condition, And):
        return all(matches(part, payload, fields) for part in condition.parts)
    if isinstance(condition, Or):
        return any(matches(part, payload, fields) for part in condition.parts)
    if isinstance(condition, Not):
        return not matches(condition.part, payload, fields)
    stored = payload.get(payload_key(condition.field))
    entries = [stored] if isinstance(stored, str | int | float | bool) else list(stored or ())
    if not entries:
        return False
    kind = CASE_FIELDS.get(condition.field) or fields.get(condition.field)
    equal = any(_equal(e, v, kind) for e in entries for v in condition.values())
    if condition.op in ("=", "in"):
        return equal
    if condition.op == "!=":
        return not equal
    return any(_ordered(e, condition, kind) for e in entries)


def _equal(entry: Scalar, value: Scalar, kind: FieldType | None) -> bool:
    if kind is FieldType.DATE:
        start, end = stretch(str(value))
        return start <= stretch(str(entry))[0] < end
    return entry == value


def _ordered(entry: Scalar, comparison: Comparison, kind: FieldType | None) -> bool:
    value = comparison.values()[0]
    if kind is FieldType.DATE:
        start, end = stretch(str(value))
        moment = stretch(str(entry))[0]
        after, before = moment >= end, moment < start
    else:
        after, before = float(entry) > float(value), float(entry) < float(value)
    return {"<": before, "<=": not after, ">": after, ">=": not before}[comparison.op]
