"""Points of a collection as bytes, to be kept in a file: whatever the collection's form, nothing is lost.

Arrays and JSON only: reading such a file runs nothing that stands in it.
"""

import io
import json
from collections.abc import Sequence
from itertools import pairwise
from typing import cast
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from indexer.vectors.store import Form, Point, Terms


def write_points(points: Sequence[Point]) -> bytes:
    """Write points of one collection; there is at least one.

    Vectors and words are written one after the other, with how many rows and words each point has.
    """
    terms = [point.terms or Terms() for point in points]
    rows = [np.atleast_2d(point.vector) for point in points]
    payloads = json.dumps([dict(point.payload) for point in points])
    content = io.BytesIO()
    np.savez(
        content,
        form=np.array(_form_of(points[0])),
        ids=np.frombuffer(b"".join(point.id.bytes for point in points), np.uint8).reshape(-1, 16),
        rows=np.concatenate(rows).astype(np.float32),
        row_counts=np.array([len(part) for part in rows], np.int64),
        term_ids=np.array([name for part in terms for name in part.ids], np.uint32),
        term_weights=np.array([weight for part in terms for weight in part.weights], np.float32),
        term_counts=np.array([len(part.ids) for part in terms], np.int64),
        payloads=np.frombuffer(payloads.encode(), np.uint8),
    )
    return content.getvalue()


def read_points(content: bytes) -> tuple[Form, int, list[Point]]:
    """Read what `write_points` wrote: the collection's form, its dimension (0 of terms), and the points."""
    with np.load(io.BytesIO(content), allow_pickle=False) as held:
        form = cast(Form, str(held["form"]))
        ids = [UUID(bytes=row.tobytes()) for row in held["ids"]]
        rows, names, weights = held["rows"], held["term_ids"], held["term_weights"]
        vectors = [rows[begin:end] for begin, end in _spans(held["row_counts"])]
        words = [slice(begin, end) for begin, end in _spans(held["term_counts"])]
        payloads = json.loads(held["payloads"].tobytes())
    points = [
        Point(
            point,
            vector if form == "patches" else vector[0],
            payload,
            Terms(tuple(names[span].tolist()), tuple(weights[span].tolist())) if form == "terms" else None,
        )
        for point, vector, span, payload in zip(ids, vectors, words, payloads, strict=True)
    ]
    return form, int(rows.shape[1]), points


def _form_of(point: Point) -> Form:
    if point.terms is not None:
        return "terms"
    return "patches" if point.vector.ndim == 2 else "dense"


def _spans(counts: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Where each part begins and ends."""
    return list(pairwise([0, *np.cumsum(counts).tolist()]))
