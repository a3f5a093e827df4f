"""From ranked studies to the hits of an answer: what is shown of each, and what speaks for it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from uuid import UUID

import sqlalchemy as sa

from retrieval.answer import Evidence, Hit, HitKind
from retrieval.localize.answer import Box
from retrieval.lookup import Item, Known, Said, sentences_said
from retrieval.query.query import Target
from retrieval.ranking.fusion import Found
from retrieval.ranking.near_duplicates import Twin
from retrieval.ranking.rerank import Judged

MOST_ITEMS = 8
"""Items told of one hit, beside those that contributed."""
MOST_TWINS = 20

_HIT_KINDS: Mapping[Target, HitKind] = {"images": "image", "reports": "report", "cases": "case"}

Shown = tuple[Judged, Known, tuple[Twin, ...]]
"""A study to be shown: as it was judged, as the catalog has it, and the ones that it stands for."""


def describe_hits(
    connection: sa.Connection, target: Target, shown: Sequence[Shown], boxes: Mapping[str, Box]
) -> tuple[Hit, ...]:
    """Make the hits, best first, asking the catalog once for the sentences that are told.

    Args:
        connection: to the catalog.
        target: what was searched for.
        shown: the studies.
        boxes: point of a picture → where in it the query's region was found.
    """
    points = {
        UUID(item.item_id) for judged, _, _ in shown for item in _told(judged) if item.kind == "sentence"
    }
    said = {
        (sentence.study_key, sentence.point): sentence
        for sentence in sentences_said(connection, points, [known.case.study_id for _, known, _ in shown])
    }
    return tuple(
        _hit(rank, target, judged, known, twins, said, boxes)
        for rank, (judged, known, twins) in enumerate(shown, start=1)
    )


def _hit(
    rank: int,
    target: Target,
    judged: Judged,
    known: Known,
    twins: Sequence[Twin],
    said: Mapping[tuple[str, UUID], Said],
    boxes: Mapping[str, Box],
) -> Hit:
    items = {str(item.point): item for item in known.items}
    evidence = [
        told for found in _told(judged) if (told := _item(judged, found, items, said, boxes)) is not None
    ]
    pictures = {item.item_id: item.location for item in known.items if item.kind == "image"}
    shown = next((told.item_id for told in evidence if told.item_id in pictures), None)
    case = known.case if shown is None else replace(known.case, path=pictures[shown])
    report = next((item.item_id for item in known.items if item.kind == "report"), None)
    best = evidence[0].item_id if evidence else case.study_id
    item_id = report if target == "reports" and report is not None else best
    return Hit(
        rank,
        judged.score,
        _HIT_KINDS[target],
        item_id,
        case,
        (*evidence, *_findings(judged, known), *map(_twin, twins[:MOST_TWINS])),
    )


def _item(
    judged: Judged,
    found: Found,
    items: Mapping[str, Item],
    said: Mapping[tuple[str, UUID], Said],
    boxes: Mapping[str, Box],
) -> Evidence | None:
    gave = [share for share in judged.study.shares.values() if share.item_id == found.item_id]
    contributed = judged.lists * sum(share.share for share in gave)
    by = tuple(dict.fromkeys(share.part for share in gave if share.part))
    if found.kind == "sentence":
        sentence = said.get((judged.study_id, UUID(found.item_id)))
        if sentence is None:
            return None
        return Evidence(sentence.item_id, "sentence", found.score, sentence.text, contributed, by)
    # What is no plain vector of an item is marked by its kind.
    point = found.item_id.removeprefix(f"{found.kind}:")
    if point not in items:
        return None
    box = boxes.get(point) if found.kind == "region" else None
    return Evidence(items[point].item_id, found.kind, found.score, None, contributed, by, box=box)


def _findings(judged: Judged, known: Known) -> tuple[Evidence, ...]:
    met = judged.agreement
    if met is None:
        return ()
    return (
        Evidence(
            known.case.study_id,
            "findings",
            met.score,
            contributed=judged.findings,
            agree=met.agree,
            conflict=met.conflict,
        ),
    )


def _twin(twin: Twin) -> Evidence:
    return Evidence(twin.item_id, "duplicate", twin.score, study_id=twin.known.case.study_id)


def _told(judged: Judged) -> tuple[Found, ...]:
    """What contributed, and of the other items the best."""
    gave = {share.item_id for share in judged.study.shares.values()}
    leading = [found for found in judged.study.evidence if found.item_id in gave]
    others = [found for found in judged.study.evidence if found.item_id not in gave]
    return (*leading, *others[: max(0, MOST_ITEMS - len(leading))])
