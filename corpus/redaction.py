"""What a record of a patient shows of itself: its shape, never its contents.

Whatever is logged, raised or shown in a notebook goes through `repr`: report texts, ids and paths must not
come out there. `as_json` and the fields themselves are how one reads them.
"""

from collections.abc import Sized
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, TypeVar

Record = TypeVar("Record", bound=type)

_PERSONAL = frozenset({"age", "birth_year"})  # numbers that tell of a patient


def redacted(record: Record) -> Record:
    """Make the `repr` of a data class or named tuple say what it holds, and nothing of it.

    Texts, paths and bytes are told by their length, collections by the number of their entries, arrays by
    shape; numbers and members of an `Enum` stand as they are.
    """
    type.__setattr__(record, "__repr__", _repr)
    return record


def _repr(self: Any) -> str:
    names = [field.name for field in fields(self)] if is_dataclass(self) else self._fields
    told = ", ".join(f"{name}={_told(name, getattr(self, name, None))}" for name in names)
    return f"{type(self).__name__}({told})"


def _told(name: str, value: object) -> str:
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
