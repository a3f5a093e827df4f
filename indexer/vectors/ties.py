"""Hits of equal score in one order, whichever store they come from.

Equal texts and equal images have equal scores, and each engine returns them in an order of its own, also
where the limit splits them. Here hits with scores that differ by rounding alone are one group, with one
score, in the order of their ids; a group that the limit splits is read to its end first.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from uuid import UUID

from indexer.vectors.filters import PayloadValue
from indexer.vectors.store import Hit

TOLERANCE = 1e-6
"""Largest difference within a group, relative to a score above 1: the engines add up float32 in different
orders, which moves a score by some 1e-7."""

MOST = 4_096
"""Hits that are read at most for a group that the limit splits; of a larger one the engine chooses."""

_GROWTH = 8


def in_one_order(
    limit: int,
    search: Callable[[int, bool], Sequence[Hit]],
    payloads: Callable[[Collection[UUID]], Mapping[UUID, Mapping[str, PayloadValue]]],
) -> list[Hit]:
    """Return the best hits, best first, those of equal score by id.

    Args:
        limit: how many at most.
        search: returns this many of the best hits, with their payloads or without, best first.
        payloads: returns the payloads of the points of these ids, without points that do not exist any more.
    """
    if limit < 1:
        return []
    wanted, hits = limit + 1, search(limit + 1, True)
    complete = {hit.id: hit for hit in hits}
    while len(hits) >= wanted and _splits(hits, limit) and wanted < MOST:
        wanted = min(_GROWTH * wanted, MOST)
        hits = search(wanted, False)
    best = _ordered(hits)[:limit]
    if wanted == limit + 1:
        return best
    if missing := [hit.id for hit in best if hit.id not in complete]:
        found = payloads(missing)
        complete |= {hit.id: replace(hit, payload=found[hit.id]) for hit in best if hit.id in found}
    return [replace(hit, payload=complete[hit.id].payload) for hit in best if hit.id in complete]


def _splits(hits: Sequence[Hit], limit: int) -> bool:
    """Return whether the group of the last hit within the limit may go on behind the last hit."""
    leader = hits[0].score
    for hit in hits[1:limit]:
        if not _equal(leader, hit.score):
            leader = hit.score
    return _equal(leader, hits[-1].score)


def _ordered(hits: Sequence[Hit]) -> list[Hit]:
    groups: list[list[Hit]] = []
    for hit in hits:
        if groups and _equal(groups[-1][0].score, hit.score):
            groups[-1].append(hit)
        else:
            groups.append([hit])
    return [
        hit if hit.score == group[0].score else replace(hit, score=group[0].score)
        for group in groups
        for hit in sorted(group, key=lambda hit: hit.id)
    ]


def _equal(leader: float, score: float) -> bool:
    return leader - score <= TOLERANCE * max(1.0, abs(leader))
