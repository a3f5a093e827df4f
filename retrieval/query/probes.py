"""The vectors that a search is made with, from those of a query's parts."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Side = Literal["image", "text"]
Part = Literal["image", "text", "case", "finding", "like", "dislike"]
"""What of a query a vector was made of, by `Query`'s names."""
Vector = NDArray[np.float32]

AWAY = 0.5
"""How far a query moves away from the mean of the disliked examples. Between 0.25 and 0.75 Rocchio's
feedback is known to be flat."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A vector to search with. `part` and `side`: what it was made of. `vector`: (dim,) float32 unit."""

    part: Part
    side: Side
    vector: Vector


def combine(found: Iterable[tuple[Part, Side, Vector]]) -> tuple[Probe, ...]:
    """Make the probes of a query.

    The pictures and reports of one case stay apart; liked examples become the mean of their vectors, one for
    pictures and one for texts; and every probe moves away from the mean of the disliked ones of its side, or,
    where all those are of the other side, of them (Rocchio, "Relevance feedback in information retrieval",
    1971). A probe that dislikes have cancelled out is left as it was.
    """
    parts = list(found)
    liked = {side: _mean(v for p, s, v in parts if p == "like" and s == side) for side in ("image", "text")}
    wanted: list[tuple[Part, Side, Vector]] = [p for p in parts if p[0] not in ("like", "dislike")]
    wanted += [("like", side, mean) for side, mean in liked.items() if mean is not None]  # type: ignore[misc]
    away = {side: _mean(v for p, s, v in parts if p == "dislike" and s == side) for side in ("image", "text")}
    anywhere = _mean(v for p, _, v in parts if p == "dislike")
    probes = []
    for part, side, vector in wanted:
        disliked = anywhere if away[side] is None else away[side]
        moved = vector if disliked is None else _unit(vector - AWAY * disliked)
        probes.append(Probe(part, side, vector if moved is None else moved))
    return tuple(probes)


def _mean(vectors: Iterable[Vector]) -> Vector | None:
    held = list(vectors)
    return _unit(np.mean(held, axis=0, dtype=np.float64)) if held else None


def _unit(vector: NDArray[np.floating]) -> Vector | None:
    length = float(np.linalg.norm(vector))
    return (vector / length).astype(np.float32) if length > 1e-6 else None
