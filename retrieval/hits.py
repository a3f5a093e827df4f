"""Hits: what an answer shows of the studies that a search found, with the evidence for each."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from corpus.geometry import Box
from corpus.records import ItemId
from corpus.redaction import redacted
from indexer.catalog.studies import StoredItem, StoredStudy
from retrieval.answer import Evidence, Hit, HitKind
from retrieval.needs import Search, vectors_of
from retrieval.query.encode import EncodedQuery
from retrieval.query.query import Target
from retrieval.query.region import Region, find_region
from retrieval.ranking.candidates import Sentences
from retrieval.ranking.fusion import FoundItem
from retrieval.ranking.near_duplicates import DistinctStudy, NearDuplicate
from retrieval.ranking.rerank import Reranked

MOST_ITEMS = 8
"""Items shown as evidence of one hit; those that contributed to its score are shown even if they are more."""
MOST_DUPLICATES = 20

_HIT_KINDS: Mapping[Target, HitKind] = {"images": "image", "reports": "report", "cases": "case"}


def describe_hits(
    encoded: EncodedQuery, studies: Sequence[DistinctStudy], sentences: Sentences
) -> Search[tuple[Hit, ...]]:
    """Describe studies as hits, best first.

    The patches of all images in which a region is to be found are needed; nothing else.

    Args:
        encoded: the query.
        studies: what was found, best first.
        sentences: point → sentence, of those that were found.
    """
    boxes: Mapping[str, Box] = {}
    if encoded.region is not None:
        boxes = yield from _find_boxes(encoded.region, studies)
    sources = _EvidenceSources(sentences, boxes)
    return tuple(
        _describe_hit(rank, encoded.query.target, study, _shown_items(study.candidate), sources)
        for rank, study in enumerate(studies, start=1)
    )


def _find_boxes(region: Region, studies: Iterable[DistinctStudy]) -> Search[dict[str, Box]]:
    """Find the query's region in the images that a study was found by: point of the image → box."""
    shapes: dict[UUID, tuple[int, int] | None] = {}
    found: set[str] = set()
    for study in studies:
        shapes |= {item.point: item.shape for item in study.stored.items}
        found |= {item.item_id for item in study.candidate.study.evidence if item.kind == "region"}
    patches = yield from vectors_of("patch", (UUID(name.removeprefix("region:")) for name in found))
    boxes = {}
    for point, vectors in patches.items():
        shape = shapes.get(point)
        if shape is not None:
            boxes[str(point)] = find_region(region, vectors, *shape)
    return boxes


@redacted
@dataclass(frozen=True, slots=True)
class _EvidenceSources:
    """What was fetched for all hits together.

    Attributes:
        sentences: point → sentence.
        boxes: point of an image → box in which the query's region was found.
    """

    sentences: Sentences
    boxes: Mapping[str, Box]


def _describe_hit(
    rank: int, target: Target, study: DistinctStudy, shown: Iterable[FoundItem], sources: _EvidenceSources
) -> Hit:
    candidate, stored = study.candidate, study.stored
    items = {str(item.point): item for item in stored.items}
    described = (_describe_item(study, item, items, sources) for item in shown)
    evidence = [item for item in described if item is not None]
    images = {item.item_id: item.location for item in stored.items if item.kind == "image"}
    best_image = next((item.item_id for item in evidence if item.item_id in images), None)
    case = stored.case if best_image is None else replace(stored.case, path=images[best_image])
    report = next((item.item_id for item in stored.items if item.kind == "report"), None)
    best = evidence[0].item_id if evidence else case.study_id
    return Hit(
        rank,
        candidate.score,
        _HIT_KINDS[target],
        report if target == "reports" and report is not None else best,
        case,
        (
            *evidence,
            *_describe_agreement(candidate, stored),
            *map(_describe_duplicate, study.duplicates[:MOST_DUPLICATES]),
        ),
    )


def _shown_items(candidate: Reranked) -> tuple[FoundItem, ...]:
    """The items that contributed to the score, and the best of the others."""
    evidence = candidate.study.evidence
    contributing = {share.item_id for share in candidate.study.shares.values()}
    leading = [item for item in evidence if item.item_id in contributing]
    others = [item for item in evidence if item.item_id not in contributing]
    return (*leading, *others[: max(0, MOST_ITEMS - len(leading))])


def _describe_item(
    study: DistinctStudy, found: FoundItem, items: Mapping[str, StoredItem], sources: _EvidenceSources
) -> Evidence | None:
    """The evidence that an item is; None where it was removed meanwhile."""
    candidate = study.candidate
    shares = [share for share in candidate.study.shares.values() if share.item_id == found.item_id]
    contributed = candidate.fused_weight * sum(share.share for share in shares)
    by = tuple(dict.fromkeys(share.part for share in shares if share.part))
    if found.kind == "sentence":
        sentence = sources.sentences[UUID(found.item_id)]
        if sentence.text not in " ".join((study.stored.case.text or "").split()):
            return None  # the report was replaced since its sentences were read
        name = ItemId.sentence(study.stored.case.study_id, sentence.positions[study.study_id])
        return Evidence(name.text, "sentence", found.score, sentence.text, contributed, by)
    # Terms and regions have the point of their item, with their kind as a prefix.
    point = found.item_id.removeprefix(f"{found.kind}:")
    if point not in items:
        return None
    box = sources.boxes.get(point) if found.kind == "region" else None
    return Evidence(items[point].item_id, found.kind, found.score, None, contributed, by, box=box)


def _describe_agreement(candidate: Reranked, stored: StoredStudy) -> tuple[Evidence, ...]:
    met = candidate.agreement
    if met is None:
        return ()
    return (
        Evidence(
            stored.case.study_id,
            "findings",
            met.score,
            contributed=candidate.contributed_by_findings,
            agree=met.agree,
            conflict=met.conflict,
        ),
    )


def _describe_duplicate(duplicate: NearDuplicate) -> Evidence:
    return Evidence(duplicate.item_id, "duplicate", duplicate.score, study_id=duplicate.study.case.study_id)
