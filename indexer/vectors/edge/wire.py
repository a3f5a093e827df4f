"""Serialization of a call to a vector store and its answer between processes: JSON, and arrays as bytes.

Only the values of the protocol can be written or read, each under its name. Nothing that arrives is run or
imported, as a pickle would be.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from indexer.vectors.filters import And, Comparison, FieldType, Not, Or
from indexer.vectors.store import Hit, Point, SearchRequest, Terms

_RECORDS: Mapping[str, type] = {
    kind.__name__: kind for kind in (And, Comparison, Hit, Not, Or, Point, SearchRequest, Terms)
}
_DTYPES = ("<f4", "<f8", "<i8", "|u1", "|b1")


def pack(value: Any) -> list[bytes]:
    """Return a value as messages: one of JSON, then one for each array in it."""
    arrays: list[bytes] = []
    written = _written(value, arrays)
    return [json.dumps(written, ensure_ascii=False).encode("utf-8", "surrogatepass"), *arrays]


def unpack(first: bytes, following: Callable[[], bytes]) -> Any:
    """Read a value; `following` gives the messages of its arrays, in order.

    Raises:
        ValueError: it is not what `pack` wrote.
    """
    return _read(json.loads(first), following)


def _written(value: Any, arrays: list[bytes]) -> Any:
    if isinstance(value, FieldType):
        return {"~type": value.value}
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, UUID):
        return {"~id": value.hex}
    if isinstance(value, np.ndarray):
        array = np.ascontiguousarray(value)
        arrays.append(array.tobytes())
        return {"~array": [array.dtype.str, list(array.shape)]}
    if isinstance(value, tuple):
        return {"~tuple": [_written(part, arrays) for part in value]}
    if isinstance(value, list):
        if value and all(type(part) is Hit for part in value):
            return {"~hits": _written_hits(value, arrays)}
        return [_written(part, arrays) for part in value]
    if isinstance(value, Mapping):
        return {"~map": [[_written(k, arrays), _written(v, arrays)] for k, v in value.items()]}
    if is_dataclass(value) and type(value).__name__ in _RECORDS:
        parts = {field.name: _written(getattr(value, field.name), arrays) for field in fields(value)}
        return {f"~{type(value).__name__}": parts}
    raise TypeError(f"a {type(value).__name__} does not travel")


def _written_hits(hits: list[Hit], arrays: list[bytes]) -> list[Any]:
    """Write hits column by column: one by one, hundreds take longer than their search."""
    ids = np.frombuffer(b"".join(hit.id.bytes for hit in hits), np.uint8)
    scores = np.array([hit.score for hit in hits], np.float64)
    payloads = [dict(hit.payload) for hit in hits]  # of an engine: as JSON has them
    return [_written(ids, arrays), _written(scores, arrays), payloads]


def _read_hits(content: Any, following: Callable[[], bytes]) -> list[Hit]:
    ids, scores, payloads = content
    points, values = _read(ids, following).tobytes(), _read(scores, following).tolist()
    return [
        Hit(UUID(bytes=points[16 * number : 16 * number + 16]), score, payload)
        for number, (score, payload) in enumerate(zip(values, payloads, strict=True))
    ]


def _read(written: Any, following: Callable[[], bytes]) -> Any:
    if isinstance(written, list):
        return [_read(part, following) for part in written]
    if not isinstance(written, dict):
        return written
    ((tag, content),) = written.items()
    name = tag.removeprefix("~")
    if name in _RECORDS:
        return _RECORDS[name](**{key: _read(part, following) for key, part in content.items()})
    if name not in _READERS:
        raise ValueError(f"unknown value {name!r}")
    return _READERS[name](content, following)


def _array(content: Any, following: Callable[[], bytes]) -> NDArray[Any]:
    dtype, shape = content
    if dtype not in _DTYPES:
        raise ValueError(f"unknown numbers {dtype!r}")
    return np.frombuffer(following(), np.dtype(dtype)).reshape(shape).copy()


_READERS: Mapping[str, Callable[[Any, Callable[[], bytes]], Any]] = {
    "type": lambda content, _: FieldType(content),
    "id": lambda content, _: UUID(hex=content),
    "array": _array,
    "hits": _read_hits,
    "tuple": lambda content, following: tuple(_read(part, following) for part in content),
    "map": lambda content, following: {_key(_read(k, following)): _read(v, following) for k, v in content},
}


def _key(value: Any) -> str | UUID:
    if not isinstance(value, str | UUID):
        raise ValueError("a key is text or an id")
    return value
