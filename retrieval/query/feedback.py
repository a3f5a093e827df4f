"""The vectors that a query is searched with, and relevance feedback on them (Rocchio)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Tower = Literal["image", "text"]
"""The network that made a vector: each has its own region of the common space."""
Part = Literal["image", "text", "case", "finding", "like", "dislike"]
"""The part of a query that a vector was made of, by `Query`'s field."""
Vector = NDArray[np.float32]

AWAY = 0.5
"""Weight of the mean of the disliked examples, which a query moves away from. Rocchio's feedback is known to
be flat between 0.25 and 0.75."""


@dataclass(frozen=True, slots=True)
class QueryVector:
    """A vector to search with.

    Attributes:
        part: the part of the query that it was made of.
        tower: the network that made it.
        vector: (dim,) float32, of unit length.
    """

    part: Part
    tower: Tower
    vector: Vector


def apply_feedback(vectors: Iterable[QueryVector]) -> tuple[QueryVector, ...]:
    """Return the vectors to search with, from those of all parts of a query.

    The images and the reports of one case stay apart. Liked examples become the mean of their vectors, one
    for each tower. Every vector then moves away from the mean of the disliked examples of its tower, or,
    where the other tower made all of them, from the mean of those (Rocchio, "Relevance feedback in
    information retrieval", 1971). A vector that the disliked examples cancel out is left as it was.
    """
    given = list(vectors)
    wanted = [vector for vector in given if vector.part not in ("like", "dislike")]
    towers: tuple[Tower, ...] = ("image", "text")
    for tower in towers:
        liked = _mean([v.vector for v in given if v.part == "like" and v.tower == tower])
        if liked is not None:
            wanted.append(QueryVector("like", tower, liked))
    disliked = [vector for vector in given if vector.part == "dislike"]
    disliked_by_any = _mean([vector.vector for vector in disliked])
    disliked_by = {tower: _mean([v.vector for v in disliked if v.tower == tower]) for tower in towers}
    moved = []
    for query in wanted:
        away = disliked_by[query.tower]
        away = disliked_by_any if away is None else away
        vector = None if away is None else _unit(query.vector - AWAY * away)
        moved.append(query if vector is None else QueryVector(query.part, query.tower, vector))
    return tuple(moved)


def _mean(vectors: Sequence[Vector]) -> Vector | None:
    return _unit(np.mean(vectors, axis=0, dtype=np.float64)) if vectors else None


def _unit(vector: NDArray[np.floating]) -> Vector | None:
    length = float(np.linalg.norm(vector))
    return (vector / length).astype(np.float32) if length > 1e-6 else None
