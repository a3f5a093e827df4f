"""Hits: what an answer shows of the studies that a search found, with the evidence for each."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from corpus.geometry import Box
from corpus.redaction import redacted
from indexer.catalog.studies import Reading, StoredItem, StoredSentence, StoredStudy
from indexer.index import Index
from retrieval.answer import Evidence, Hit, HitKind
from retrieval.query.encode import EncodedQuery
from retrieval.query.query import Target
from retrieval.query.region import Region, find_region
from retrieval.ranking.fusion import FoundItem
from retrieval.ranking.near_duplicates import DistinctStudy, NearDuplicate
from retrieval.ranking.rerank import Reranked

MOST_ITEMS = 8
"""Items shown as evidence of one hit; those that contributed to its score are shown even if they are more."""
MOST_DUPLICATES = 20

_HIT_KINDS: Mapping[Target, HitKind] = {"images": "image", "reports": "report", "cases": "case"}


def describe_hits(
    index: Index, read: Reading, encoded: EncodedQuery, studies: Sequence[DistinctStudy]
) -> tuple[Hit, ...]:
    """Describe studies as hits, best first.

    The catalog is asked once for the sentences of all hits, the store once for the patches of all images in
    which a region is to be found.

    Args:
        index: the index.
        read: of its catalog.
        encoded: the query.
        studies: what was found, best first.
    """
    boxes = {} if encoded.region is None else _find_boxes(index, encoded.region, studies)
    shown = [_shown_items(study.candidate) for study in studies]
    points = {UUID(item.item_id) for items in shown for item in items if item.kind == "sentence"}
    study_ids = [study.stored.case.study_id for study in studies]
    sentences = {
        (sentence.study_key, sentence.point): sentence
        for sentence in read.sentences_of_studies(points, study_ids)
    }
    sources = _EvidenceSources(sentences, boxes)
    return tuple(
        _describe_hit(rank, encoded.query.target, study, items, sources)
        for rank, (study, items) in enumerate(zip(studies, shown, strict=True), start=1)
    )


def _find_boxes(index: Index, region: Region, studies: Iterable[DistinctStudy]) -> dict[str, Box]:
    """Find the query's region in the images that a study was found by: point of the image → box."""
    shapes: dict[UUID, tuple[int, int] | None] = {}
    found: set[str] = set()
    for study in studies:
        shapes |= {item.point: item.shape for item in study.stored.items}
        found |= {item.item_id for item in study.candidate.study.evidence if item.kind == "region"}
    points = [UUID(name.removeprefix("region:")) for name in found]
    boxes = {}
    for point in index.store.fetch(index.collection("patch"), points) if points else []:
        shape = shapes.get(point.id)
        if shape is not None:
            boxes[str(point.id)] = find_region(region, point.vector, *shape)
    return boxes


@redacted
@dataclass(frozen=True, slots=True)
class _EvidenceSources:
    """What was fetched for all hits together.

    Attributes:
        sentences: (study key, point) → sentence.
        boxes: point of an image → box in which the query's region was found.
    """

    sentences: Mapping[tuple[str, UUID], StoredSentence]
    boxes: Mapping[str, Box]


def _describe_hit(
    rank: int, target: Target, study: DistinctStudy, shown: Iterable[FoundItem], sources: _EvidenceSources
) -> Hit:
    candidate, stored = study.candidate, study.stored
    items = {str(item.point): item for item in stored.items}
    described = (_describe_item(candidate, item, items, sources) for item in shown)
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
    candidate: Reranked, found: FoundItem, items: Mapping[str, StoredItem], sources: _EvidenceSources
) -> Evidence | None:
    """The evidence that an item is; None where it was removed meanwhile."""
    shares = [share for share in candidate.study.shares.values() if share.item_id == found.item_id]
    contributed = candidate.fused_weight * sum(share.share for share in shares)
    by = tuple(dict.fromkeys(share.part for share in shares if share.part))
    if found.kind == "sentence":
        sentence = sources.sentences.get((candidate.study.study_id, UUID(found.item_id)))
        if sentence is None:
            return None
        return Evidence(sentence.item_id, "sentence", found.score, sentence.text, contributed, by)
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
