"""Redacted `repr`s: the shape of a patient's record, never its contents.

Everything that is logged, raised or shown in a notebook goes through `repr`: report texts, ids and paths must
not appear there. `as_json` and the fields themselves give the contents.
"""

from collections.abc import Sized
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, TypeVar

Record = TypeVar("Record", bound=type)

_PERSONAL = frozenset({"age", "birth_year"})  # numbers that describe a patient


def redacted(record: Record) -> Record:
    """Replace the `repr` of a data class or named tuple by one that shows only kinds and sizes.

    Texts, paths and bytes appear as their length, collections as their number of entries, arrays as their
    shape; numbers and members of an `Enum` stand as they are.
    """
    type.__setattr__(record, "__repr__", _repr)
    return record


def _repr(self: Any) -> str:
    names = [field.name for field in fields(self)] if is_dataclass(self) else self._fields
    shown = ", ".join(f"{name}={_shown(name, getattr(self, name, None))}" for name in names)
    return f"{type(self).__name__}({shown})"


def _shown(name: str, value: object) -> str:
    if isinstance(value, Enum):
        return f"{type(value).__name__}.{value.name}"
    if value is None or isinstance(value, bool):
        return repr(value)
    if isinstance(value, int | float):
        return "…" if name in _PERSONAL else repr(value)
    if type(value).__repr__ is _repr:
        return repr(value)
    return _shape(value)


def _shape(value: object) -> str:
    shape = getattr(value, "shape", None)
    if shape is not None:
        return f"<{type(value).__name__} of {shape}>"
    if isinstance(value, str | bytes):
        return f"<{len(value)} {'characters' if isinstance(value, str) else 'bytes'}>"
    size = f" of {len(value)}" if isinstance(value, Sized) else ""
    return f"<{type(value).__name__}{size}>"
