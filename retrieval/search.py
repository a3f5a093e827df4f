"""The search: vectors in, studies out, each with what brought it here.

Filters and the exclusion of the query's own subject run inside the vector store. What comes back is grouped
by study and fused in `retrieval.rank`; the catalog is asked once for what is shown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from time import perf_counter
from uuid import UUID

from corpus.errors import EmptyIndex, SimilarityError
from indexer.index import Index
from indexer.vectors.conditions import And, Comparison, Condition, Not
from retrieval.answer import Answer, Evidence, Hit, HitKind
from retrieval.lookup import Known, Said, holders, holds_studies, sentences_said, studies_by_key, studies_of
from retrieval.query import Query, Target
from retrieval.rank import Found, ItemKind, RankedStudy, Ranking, rank_studies
from retrieval.understand import Probe, Side, Understood, Vector, understand, with_vector

DEEPER = 60
"""Studies that each list holds before lists are fused: below that place a list adds little."""
MOST_EVIDENCE = 8
"""Items told of one hit."""
_SENTENCE_PLACES = 4  # sentences in studies that are looked at, for each study wanted
_RARE = 50  # a sentence of more studies than this tells none from the others

_KINDS: Mapping[Target, tuple[ItemKind, ...]] = {
    "images": ("image",),
    "reports": ("report", "sentence"),
    "cases": ("image", "report", "sentence"),
}
_HIT_KINDS: Mapping[Target, HitKind] = {"images": "image", "reports": "report", "cases": "case"}

_WEIGHTS: Mapping[tuple[Side, ItemKind], float] = {
    ("image", "image"): 1.0,
    ("image", "report"): 0.5,
    ("image", "sentence"): 0.5,
    ("text", "image"): 1.0,
    ("text", "report"): 0.5,
    ("text", "sentence"): 0.5,
}
"""Of the lists in a fusion: films weigh as much as words, and of the words the whole report as much as its
best sentence."""


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
    _require_something(index)
    answers: list[Answer | SimilarityError] = []
    for understood in understand(index, queries):
        try:
            if isinstance(understood, SimilarityError):
                raise understood
            answers.append(_answer(index, understood))
        except SimilarityError as error:
            answers.append(error)
    return answers


def search_vector(index: Index, query: Query, side: Side, vector: Vector) -> Answer:
    """Answer a query whose vector is already made.

    Args:
        index: the index.
        query: what is wanted; its image or text is only repeated in the answer.
        side: what the vector was made of.
        vector: (dim,) float32 unit, by the index's encoder.
    """
    return _answer(index, with_vector(index, query, side, vector))


def _answer(index: Index, understood: Understood) -> Answer:
    """Search, rank and describe."""
    query = understood.query
    began = perf_counter()
    where = _with_exclusion(index, understood.where, understood.subjects)
    rankings = _rankings(index, understood, where)
    searched = perf_counter()
    ranked = rank_studies(rankings, query.k)
    done = perf_counter()
    hits, own = _describe(index, query.target, ranked, understood.subjects)
    told = perf_counter()
    return Answer(
        query=query.as_json(),
        encoder={"name": index.active_version.name, "fingerprint": index.active_version.fingerprint},
        hits=hits,
        own_studies=tuple(known.case for known in own),
        took=replace(
            understood.took,
            search=(searched - began) * 1000,
            rank=(done - searched) * 1000,
            catalog=understood.took.catalog + (told - done) * 1000,
        ),
    )


def _require_something(index: Index) -> None:
    with index.catalog.engine.connect() as connection:
        if not holds_studies(connection):
            raise EmptyIndex(
                f"the index in {index.home.folder} is empty: fill it with `similarity index add SOURCE "
                "--encoder DIR`"
            )


def _with_exclusion(index: Index, asked: Condition | None, subjects: frozenset[str]) -> Condition | None:
    """The condition that the store is given: the user's filter, and not the query's own subject."""
    if not subjects:
        return asked
    keys = tuple(sorted(index.home.keyed("subject", subject) for subject in subjects))
    others = Not(Comparison("subject", "in", keys))
    return others if asked is None else And((asked, others))


def _rankings(index: Index, understood: Understood, where: Condition | None) -> list[Ranking]:
    """Every list that the target draws on: each probe in each kind of item."""
    query = understood.query
    held = set(index.store.collections())
    kinds = [kind for kind in _KINDS[query.target] if index.collection(kind) in held]
    depth = query.k if len(kinds) * len(understood.probes) == 1 else max(2 * query.k, DEEPER)
    return [
        Ranking(f"{number}:{kind}", items, _WEIGHTS[probe.side, kind])
        for number, probe in enumerate(understood.probes)
        for kind in kinds
        if (items := _nearest(index, kind, probe, depth, where))
    ]


def _nearest(
    index: Index, kind: ItemKind, probe: Probe, studies: int, where: Condition | None
) -> tuple[Found, ...]:
    """The nearest items of a kind, asking for more until so many studies are among them or none is left."""
    if kind == "sentence":
        return _nearest_sentences(index, probe, studies, where)
    collection = index.collection(kind)
    limit = studies + studies // 2
    while True:
        hits = index.store.search(collection, probe.vector, limit, where)
        found = tuple(Found(str(hit.id), str(hit.payload["study"]), kind, hit.score) for hit in hits)
        if len(hits) < limit or len({item.study_id for item in found}) >= studies:
            return found
        limit *= 4


def _nearest_sentences(
    index: Index, probe: Probe, studies: int, where: Condition | None
) -> tuple[Found, ...]:
    """The nearest sentences, each in the studies that hold it and pass the filter.

    One vector stands for a sentence of many studies, so the filter runs on those studies' reports, in the
    store. Asked once, with a bound: this list sharpens the one of whole reports, in which every study with a
    sentence is, so a filter that leaves few of its studies loses none. Sentences that very many studies share
    tell them apart from none and are passed over.
    """
    hits = index.store.search(index.collection("sentence"), probe.vector, studies)
    with index.catalog.engine.connect() as connection:
        held = holders(connection, [hit.id for hit in hits], _RARE)
    found = [
        Found(str(hit.id), key, "sentence", hit.score) for hit in hits for key in sorted(held.get(hit.id, ()))
    ][: _SENTENCE_PLACES * studies]
    if where is None:
        return tuple(found)
    passing = _passing(index, probe, {item.study_id for item in found}, where)
    return tuple(item for item in found if item.study_id in passing)


def _passing(index: Index, probe: Probe, keys: set[str], where: Condition) -> set[str]:
    """Those of the studies whose report passes the filter."""
    if not keys:
        return set()
    among = And((where, Comparison("study", "in", tuple(sorted(keys)))))
    hits = index.store.search(index.collection("report"), probe.vector, len(keys), among)
    return {str(hit.payload["study"]) for hit in hits}


def _describe(
    index: Index, target: Target, ranked: Sequence[RankedStudy], subjects: frozenset[str]
) -> tuple[tuple[Hit, ...], list[Known]]:
    """Turn keys into cases: one statement for the studies, one for the sentences, one for the own studies."""
    with index.catalog.engine.connect() as connection:
        known = studies_by_key(connection, [study.study_id for study in ranked])
        points = {UUID(item.item_id) for study in ranked for item in _told(study) if item.kind == "sentence"}
        said = {
            (sentence.study_key, sentence.point): sentence
            for sentence in sentences_said(
                connection, points, [study.case.study_id for study in known.values()]
            )
        }
        own = studies_of(connection, subjects) if subjects else []
    hits: list[Hit] = []
    for study in ranked:
        # A study that was removed while this search ran is no hit.
        if (of := known.get(study.study_id)) is not None:
            hits.append(_hit(len(hits) + 1, target, study, of, said))
    return tuple(hits), own


def _hit(
    rank: int, target: Target, study: RankedStudy, known: Known, said: Mapping[tuple[str, UUID], Said]
) -> Hit:
    items = {str(item.point): item for item in known.items}
    evidence = []
    for found in _told(study):
        if found.kind == "sentence":
            sentence = said.get((study.study_id, UUID(found.item_id)))
            if sentence is not None:
                evidence.append(Evidence(sentence.item_id, "sentence", found.score, sentence.text))
        elif found.item_id in items:
            evidence.append(Evidence(items[found.item_id].item_id, found.kind, found.score))
    pictures = {item.item_id: item.location for item in known.items if item.kind == "image"}
    shown = next((told.item_id for told in evidence if told.item_id in pictures), None)
    case = known.case if shown is None else replace(known.case, path=pictures[shown])
    report = next((item.item_id for item in known.items if item.kind == "report"), None)
    best = evidence[0].item_id if evidence else case.study_id
    item_id = report if target == "reports" and report is not None else best
    return Hit(rank, study.score, _HIT_KINDS[target], item_id, case, tuple(evidence))


def _told(study: RankedStudy) -> tuple[Found, ...]:
    return study.evidence[:MOST_EVIDENCE]
