"""The search: a query in, studies out, each with what brought it here.

Filters, what a wish denies and the exclusion of the query's own subject run inside the vector store. The
lists that come back are fused (`retrieval.ranking.fusion`), judged by what the studies' findings say to what
was asked (`retrieval.ranking.rerank`), and cleared of near-duplicates; the catalog is asked for what is
shown.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import Any
from uuid import UUID

import numpy as np

from corpus.errors import EmptyIndex, SimilarityError
from indexer.index import Index
from indexer.vectors.filters import And, Comparison, Condition, Not
from retrieval.answer import Answer
from retrieval.hits import Shown, describe_hits
from retrieval.localize.answer import Box
from retrieval.lookup import Known, holds_studies, studies_by_key, studies_of
from retrieval.query.encode import Understood, understand, with_vector
from retrieval.query.probes import Side, Vector
from retrieval.query.query import Query
from retrieval.query.region import find
from retrieval.ranking.candidates import Candidates, find_candidates
from retrieval.ranking.diversity import diversify
from retrieval.ranking.fusion import rank_studies
from retrieval.ranking.near_duplicates import Vectors, fold
from retrieval.ranking.rerank import Judged, judge
from retrieval.reliability.apply import promise

DEEPER = 60
"""Studies that each list holds before lists are fused: below that place a list adds little."""
_EVERY = 1_000_000  # candidates: all of them
_POOL = 50  # candidates among which hits that differ are chosen


def search(index: Index, query: Query) -> Answer:
    """Answer one query.

    Raises:
        UsageError: the filter cannot be understood, or the case is unknown.
        UnreadableImage, NotAdmitted: the picture cannot be a query.
        EmptyIndex: nothing is indexed.
    """
    answer = search_all(index, [query])[0]
    if isinstance(answer, SimilarityError):
        raise answer
    return answer


def search_all(index: Index, queries: Sequence[Query]) -> list[Answer | SimilarityError]:
    """Answer several queries, decoded and encoded together; in the place of a failed one its reason.

    Raises:
        EmptyIndex: nothing is indexed.
    """
    answers: list[Answer | SimilarityError] = []
    for answering in prepare(index, queries):
        try:
            answers.append(answering())
        except SimilarityError as error:
            answers.append(error)
    return answers


def prepare(index: Index, queries: Sequence[Query]) -> list[Callable[[], Answer]]:
    """Decode and encode several queries together: what is left of each is to be searched.

    Returns:
        For each query what gives its answer, or raises what is wrong with it.

    Raises:
        EmptyIndex: nothing is indexed.
    """
    _require_something(index)
    index = index.pinned()  # another version may be activated meanwhile
    return [partial(_search_prepared, index, understood) for understood in understand(index, queries)]


def _search_prepared(index: Index, understood: Understood | SimilarityError) -> Answer:
    if isinstance(understood, SimilarityError):
        raise understood
    return search_understood(index, understood)


def search_vector(index: Index, query: Query, side: Side, vector: Vector) -> Answer:
    """Answer a query whose vector is already made.

    Args:
        index: the index.
        query: what is wanted; its image is only repeated in the answer, its text is read for findings.
        side: what the vector was made of.
        vector: (dim,) float32 unit, by the index's encoder.
    """
    index = index.pinned()
    return search_understood(index, with_vector(index, query, side, vector))


def search_understood(index: Index, understood: Understood) -> Answer:
    """Answer a query that `understand` prepared: search, rank and describe."""
    query = understood.query
    if understood.refused is not None:
        return _refused(index, understood, understood.refused)
    began = perf_counter()
    where = _with_exclusion(index, understood)
    depth = _depth(understood)
    searching = ranking = asking = 0.0
    while True:
        candidates = find_candidates(index, understood, where, depth)
        searched = perf_counter()
        judged = _judge(understood, candidates)
        ranked = perf_counter()
        shown = _choose(index, query, judged)
        chosen = perf_counter()
        searching += searched - began
        ranking += ranked - searched
        asking += chosen - ranked
        if len(shown) >= query.k or candidates.whole:
            break
        began, depth = perf_counter(), 4 * depth
    with index.catalog.engine.connect() as connection:
        hits = describe_hits(connection, query.target, shown, _boxes(index, understood, shown))
        own = studies_of(connection, understood.subjects) if understood.subjects else []
    told = [hit.case.findings for hit in hits[: query.k - query.ahead]]
    abstained, promised = promise(index, query, told)
    asking += perf_counter() - chosen
    return Answer(
        query=_told(understood),
        encoder={"name": index.active_version.name, "fingerprint": index.active_version.fingerprint},
        hits=hits,
        own_studies=tuple(known.case for known in own),
        took=replace(
            understood.took,
            search=searching * 1000,
            rank=ranking * 1000,
            catalog=understood.took.catalog + asking * 1000,
        ),
        abstained=abstained,
        reason=promised if hits else _why_nothing(understood, own),
        notes=understood.notes,
    )


def _refused(index: Index, understood: Understood, reason: str) -> Answer:
    """The answer to a picture that is not of the kind that the index holds."""
    return Answer(
        query=_told(understood),
        encoder={"name": index.active_version.name, "fingerprint": index.active_version.fingerprint},
        hits=(),
        took=understood.took,
        abstained=True,
        reason=reason,
        notes=understood.notes,
    )


def _depth(understood: Understood) -> int:
    """How many studies each list holds at first: one list alone needs no more than are shown, and some that
    they stand for."""
    query = understood.query
    lists = len(understood.probes) + (understood.region is not None)
    alone = query.target == "images" and lists == 1 and not understood.asked.wished
    depth = query.k + query.k // 2 if alone else max(2 * query.k, DEEPER)
    return max(depth, _POOL + _POOL // 2) if query.diversify else depth


def _require_something(index: Index) -> None:
    with index.catalog.engine.connect() as connection:
        if not holds_studies(connection):
            raise EmptyIndex(
                f"the index in {index.home.folder} is empty: fill it with `similarity index add SOURCE "
                "--encoder DIR`"
            )


def _with_exclusion(index: Index, understood: Understood) -> Condition | None:
    """The condition that the store is given: what was asked, and neither the query's own subject nor the
    examples."""
    parts: list[Condition] = [] if understood.where is None else [understood.where]
    for field, names in (("subject", understood.subjects), ("study", understood.examples)):
        if names:
            keys = tuple(sorted(index.home.keyed(field, name) for name in names))
            parts.append(Not(Comparison(field, "in", keys)))
    return None if not parts else parts[0] if len(parts) == 1 else And(tuple(parts))


def _judge(understood: Understood, candidates: Candidates) -> list[Judged]:
    ranked = rank_studies(candidates.rankings, _EVERY)
    return judge(ranked, understood.asked, candidates.payloads)


def _choose(index: Index, query: Query, judged: Sequence[Judged]) -> list[Shown]:
    """The k studies to be shown: near-duplicates folded, spread out where that was asked for.

    As many candidates are looked at as are needed, in steps: most of them are told apart by what the catalog
    holds of the first few.
    """
    wanted = max(query.k, _POOL) if query.diversify else query.k
    taken = wanted + wanted // 2
    while True:
        window = judged[:taken]
        with index.catalog.engine.connect() as connection:
            by_key = studies_by_key(connection, [candidate.study_id for candidate in window])
        # A study that was removed while this search ran is no hit.
        present = [candidate for candidate in window if candidate.study_id in by_key]
        vectors = _picture_vectors(index, by_key) if query.target != "reports" else {}
        folded = fold([by_key[candidate.study_id] for candidate in present], query.target, vectors)
        if len(folded) >= wanted or taken >= len(judged):
            break
        taken *= 2
    of = {candidate.study_id: candidate for candidate in present}
    shown = [(of[known.key], known, twins) for known, twins in folded]
    return _spread(index, query, shown[:wanted], vectors) if query.diversify else shown[: query.k]


def _boxes(index: Index, understood: Understood, shown: Sequence[Shown]) -> dict[str, Box]:
    """Where in the pictures that are shown the query's region is found, by the picture's point."""
    region = understood.region
    if region is None:
        return {}
    shapes = {item.point: item.shape for _, known, _ in shown for item in known.items}
    found = {
        item.item_id for judged, _, _ in shown for item in judged.study.evidence if item.kind == "region"
    }
    points = [UUID(name.removeprefix("region:")) for name in found]
    held = index.store.fetch(index.collection("patch"), points) if points else []
    boxes = {}
    for point in held:
        shape = shapes.get(point.id)
        if shape is not None:
            boxes[str(point.id)] = find(region, point.vector, *shape)
    return boxes


def _picture_vectors(index: Index, studies: Mapping[str, Known]) -> Vectors:
    points = [item.point for known in studies.values() for item in known.items if item.kind == "image"]
    collection = index.collection("image")
    if not points or collection not in index.store.collections():
        return {}
    return {point.id: point.vector for point in index.store.fetch(collection, points)}


def _spread(index: Index, query: Query, shown: Sequence[Shown], pictures: Vectors) -> list[Shown]:
    """Choose k that answer and differ."""
    texts = _report_vectors(index, shown)
    nothing = np.zeros(index.active_version.dim, np.float32)
    vectors: dict[str, list[Vector]] = {}
    for judged, known, _ in shown:
        points = {item.kind: item.point for item in reversed(known.items)}
        picture = pictures.get(points["image"], nothing) if "image" in points else nothing
        text = texts.get(points["report"], nothing) if "report" in points else nothing
        vectors[judged.study_id] = [picture, text]
    of = {judged.study_id: (judged, known, twins) for judged, known, twins in shown}
    scores = {judged.study_id: judged.score for judged, _, _ in shown}
    return [of[name] for name in diversify(scores, vectors, query.k)]


def _report_vectors(index: Index, shown: Sequence[Shown]) -> dict[UUID, Vector]:
    points = [item.point for _, known, _ in shown for item in known.items if item.kind == "report"]
    collection = index.collection("report")
    if not points or collection not in index.store.collections():
        return {}
    return {point.id: point.vector for point in index.store.fetch(collection, points)}


def _told(understood: Understood) -> dict[str, Any]:
    """The query as it was asked, and how its text was read."""
    asked = understood.query.as_json()
    if understood.query.text is None and understood.query.finding is None:
        return asked
    return {
        **asked,
        "understood": {
            **understood.asked.as_json(),
            "words": understood.phrase,
            "language": understood.asked.language,
        },
    }


def _why_nothing(understood: Understood, own: Sequence[Known]) -> str:
    if understood.where is not None:
        return "no study of the index meets what was asked for"
    if own:
        return "every study of the index is of the query's own subject or an example of the query"
    return "the index holds nothing of the kind that was asked for"
