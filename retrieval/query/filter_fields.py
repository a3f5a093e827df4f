"""How the values of `--where` are read and written: one way for each type of field."""

import math
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import get_args

from corpus.errors import UsageError
from corpus.findings import VOCABULARY, Status
from corpus.records import View
from indexer.vectors.filters import FieldType, Scalar, stretch

DESCRIBED: Mapping[FieldType, str] = {
    FieldType.KEYWORD: "text",
    FieldType.NUMBER: "a number",
    FieldType.BOOL: "true or false",
    FieldType.DATE: "a date",
}
_EQUALITY = ("=", "!=", "in")
_ORDER = ("=", "!=", "<", "<=", ">", ">=", "in")
_SEXES = {"f": "F", "m": "M", "o": "O", "female": "F", "male": "M", "other": "O"}
_VIEWS = {view: view for view in get_args(View)}
_CLOSED: Mapping[str, Mapping[str, str]] = {"sex": _SEXES, "view": _VIEWS}


def operators(kind: FieldType) -> tuple[str, ...]:
    """The operators that mean something for a type."""
    return _ORDER if kind in (FieldType.NUMBER, FieldType.DATE) else _EQUALITY


def closed_values(field: str) -> list[str] | None:
    """Every value that a closed field can have; None where it is open."""
    return list(dict.fromkeys(_CLOSED[field].values())) if field in _CLOSED else None


def read_value(field: str, kind: FieldType, text: str) -> Scalar:
    """Turn a written value into one of the field's type.

    Numbers become float; a date stays text and stands for its year, month, day or instant; a finding
    becomes `name` (present) or `name:status`, an alias resolved; sex and view are closed.

    Raises:
        ValueError: it is not of that type; the message is for the user.
    """
    if field == "finding":
        return _read_finding(text)
    if field in _CLOSED:
        return _read_closed(field, _CLOSED[field], text)
    return _READERS[kind](field, text)


def write_value(value: Scalar) -> str:
    """Write a value so that `read_value` reads it back to an equal one."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, float) else str(value)


def _read_text(field: str, text: str) -> str:
    if not text:
        raise ValueError(f"{field} is compared with nothing")
    return text


def _read_closed(field: str, names: Mapping[str, str], text: str) -> str:
    folded = text.strip().lower().replace(" ", "_").replace("-", "_")
    if folded not in names:
        nearest = names[get_close_matches(folded, names, n=1, cutoff=0.0)[0]]
        known = ", ".join(dict.fromkeys(names.values()))
        raise ValueError(f"{field} is one of {known}, not {text!r}; the nearest is {nearest!r}")
    return names[folded]


def _read_number(field: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{field} is a number, not {text!r}")
    return number


def _read_flag(field: str, text: str) -> bool:
    folded = text.lower()
    if folded not in ("true", "yes", "1", "false", "no", "0"):
        raise ValueError(f"{field} is true or false, not {text!r}")
    return folded in ("true", "yes", "1")


def _read_date(field: str, text: str) -> str:
    try:
        stretch(text)
    except UsageError as error:
        raise ValueError(f"{field}: {error}") from None
    return text


def _read_finding(text: str) -> str:
    alias, _, written = text.partition(":")
    name = VOCABULARY.find(alias)
    if name is None:
        known = {known.lower(): known for known in VOCABULARY.names}
        nearest = get_close_matches(alias.lower(), known, n=1, cutoff=0.0)[0]
        raise ValueError(f"unknown finding {alias!r}; the nearest is {known[nearest]!r}")
    status = written.strip().lower() or Status.PRESENT.value
    allowed = [Status.PRESENT.value, Status.ABSENT.value, Status.UNCERTAIN.value]
    if status not in allowed:
        raise ValueError(f"a finding is {', '.join(allowed)}, not {written!r}")
    return name if status == Status.PRESENT.value else f"{name}:{status}"


_READERS: Mapping[FieldType, Callable[[str, str], Scalar]] = {
    FieldType.KEYWORD: _read_text,
    FieldType.NUMBER: _read_number,
    FieldType.BOOL: _read_flag,
    FieldType.DATE: _read_date,
}
