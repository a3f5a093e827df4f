"""Candidate generation: each vector of a query is searched in each kind of item, its words in the reports.

The store applies the filter, what a phrase denies, and the exclusion of the query's own subject. The rankings
are searched side by side (`retrieval.needs`): two calls of the store find the candidates of nearly every
query.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from uuid import UUID

from corpus.findings import VOCABULARY, Status
from corpus.language.concepts import Concept
from corpus.redaction import redacted
from indexer.catalog.studies import StoredSentence
from indexer.index import Index
from indexer.ingest.bm25 import query_terms
from indexer.ingest.payload import forms, write_concept
from indexer.vectors.filters import And, Comparison, Condition, Or, PayloadValue
from indexer.vectors.store import Hit, SearchRequest, Terms
from retrieval.needs import Search, sentences_of, together
from retrieval.query.encode import EncodedQuery
from retrieval.query.feedback import QueryVector, Tower, Vector
from retrieval.query.filters import conjunction, excluding
from retrieval.query.query import Target
from retrieval.ranking.diversity import pool_size
from retrieval.ranking.fusion import FoundItem, Ranking, RankingKind

DEPTH = 60
"""Studies that each ranking holds before rankings are fused: below that rank a ranking adds little."""

_SENTENCE_USES = 4  # sentences in studies that are looked at, for each study wanted

_KINDS: Mapping[Target, tuple[RankingKind, ...]] = {
    "images": ("image",),
    "reports": ("report", "sentence"),
    "cases": ("image", "report", "sentence"),
}

_WEIGHTS: Mapping[tuple[Tower, RankingKind], float] = {
    ("image", "image"): 1.0,
    ("image", "report"): 0.5,
    ("image", "sentence"): 0.5,
    ("text", "image"): 1.0,
    ("text", "report"): 0.5,
    ("text", "sentence"): 0.5,
}
"""Weight of a ranking in the fusion: images weigh as much as text, and of the text the whole report as much
as its best sentence."""
TERMS_WEIGHT = 0.5
REGION_WEIGHT = 1.0

_PAYLOAD = ("study", "finding", "concept")
"""Fields of a payload that are read: the item's study and, where findings are asked for, what it shows."""

Payloads = dict[str, Mapping[str, PayloadValue]]
Sentences = Mapping[UUID, StoredSentence]


@redacted
@dataclass(frozen=True, slots=True)
class Candidates:
    """The candidates of a query.

    Attributes:
        rankings: a ranking for each vector and kind of item.
        payloads: study key → payload of one of its vectors.
        sentences: point → sentence, of those that were found.
        complete: whether no ranking was cut off at the depth: a deeper search finds nothing more.
    """

    rankings: tuple[Ranking, ...]
    payloads: Payloads
    sentences: Sentences
    complete: bool


def search_depths(query: EncodedQuery) -> Iterator[int]:
    """Yield the depths to search to, each four times the one before.

    A ranking that is not fused needs no more studies than are shown, and some that are near-duplicates.
    """
    pool = pool_size(query.query)
    rankings = len(query.vectors) + (query.region is not None)
    alone = query.query.target == "images" and rankings == 1 and not query.intent.wished
    depth = pool + pool // 2
    if not alone:
        depth = max(depth, 2 * query.query.k, DEPTH)
    while True:
        yield depth
        depth *= 4


def find_candidates(index: Index, query: EncodedQuery, depth: int) -> Search[Candidates]:
    """Search every kind of item that the query's target is ranked by.

    Args:
        index: the index.
        query: the query.
        depth: studies that each ranking should hold.
    """
    target = query.query.target
    payload = _PAYLOAD if query.intent.concepts else _PAYLOAD[:1]
    search = _Rankings(index, _store_condition(index, query), depth, payload)
    kinds = _KINDS[target]
    searches = [
        search.by_vector(f"{number}:{kind}", vector, kind)
        for number, vector in enumerate(query.vectors)
        for kind in kinds
    ]
    if query.region is not None and target != "reports":
        searches.append(search.by_items("region", "patch", query.region.vectors, REGION_WEIGHT, "image"))
    if query.phrase and target != "images":
        searches.append(search.by_items("terms", "term", query_terms(query.phrase), TERMS_WEIGHT, "text"))
    searches += _wished_searches(search, query, [kind for kind in kinds if kind != "sentence"])
    found = yield from together(searches)
    rankings = tuple(ranking for of_one in found for ranking in of_one)
    return Candidates(rankings, search.payloads, search.sentences, search.complete)


def _store_condition(index: Index, query: EncodedQuery) -> Condition | None:
    """The condition for the store: the query's own, without its own subject and without the examples."""
    own = excluding(index.home, "subject", query.subjects)
    return conjunction((query.where, own, excluding(index.home, "study", query.examples)))


def _wished_searches(
    search: "_Rankings", query: EncodedQuery, kinds: Sequence[RankingKind]
) -> list[Search[list[Ranking]]]:
    """The searches for studies with the wished findings: the nearest vectors alone may have none of them."""
    wished = query.intent.wished
    vector = next((vector for vector in query.vectors if vector.tower == "text"), None)
    if not wished or vector is None:
        return []
    stated = And(tuple(_is_stated(concept) for concept in wished))
    return [search.by_findings(vector, kind, stated, tuple(map(_is_met, wished))) for kind in kinds]


def _is_stated(concept: Concept) -> Condition:
    """The condition that a study states a wished finding in words: a denied one by its own name."""
    if concept.status is Status.ABSENT and not (concept.side or concept.zone or concept.degree):
        return Comparison("concept", "=", write_concept(concept))
    return _is_met(concept)


def _is_met(concept: Concept) -> Condition:
    """The condition that the findings of a study meet a wished one."""
    if concept.side or concept.zone or concept.degree:
        below = sorted((concept.finding, *VOCABULARY.descendants(concept.finding)))
        located = Comparison("concept", "in", forms(concept, below))
        if concept.status is not Status.ABSENT:
            return located
        return Or((located, Comparison("finding", "=", f"{concept.finding}:absent")))
    suffix = "" if concept.status is Status.PRESENT else f":{concept.status}"
    return Comparison("finding", "=", concept.finding + suffix)


@redacted
@dataclass(frozen=True, slots=True)
class _FoundItems:
    """The items of a ranking, and whether a deeper search would find more."""

    items: tuple[FoundItem, ...]
    has_more: bool = False


@redacted
@dataclass(slots=True)
class _Rankings:
    """The searches of one query in one index, with one condition and depth.

    Attributes:
        payload: fields of the payloads to return.
        payloads: study key → payload of one of its vectors, of what was found so far.
        sentences: point → sentence, of what was found so far.
        complete: whether no ranking so far was cut off at the depth.
    """

    index: Index
    where: Condition | None
    depth: int
    payload: Sequence[str]
    payloads: Payloads = field(default_factory=dict)
    sentences: dict[UUID, StoredSentence] = field(default_factory=dict)
    complete: bool = True

    def by_vector(self, name: str, query: QueryVector, kind: RankingKind) -> Search[list[Ranking]]:
        """The ranking of a vector in a kind of item."""
        if kind == "sentence":
            found = yield from self._sentences(query)
        else:
            found = yield from self._items(kind, kind, query.vector, self.where)
        return self._ranked(name, found, _WEIGHTS[query.tower, kind], query.part)

    def by_items(
        self, kind: RankingKind, collection: str, query: Vector | Terms, weight: float, part: str
    ) -> Search[list[Ranking]]:
        """The ranking of a query that is no single vector: patches of a region, words of a report."""
        found = yield from self._items(kind, collection, query, self.where)
        return self._ranked(kind, found, weight, part)

    def by_findings(
        self, query: QueryVector, kind: RankingKind, stated: Condition, met: Sequence[Condition]
    ) -> Search[list[Ranking]]:
        """The rankings of a vector among studies with the wished findings: those that state them, and where
        these are too few, those that meet them, and those that meet one.

        Args:
            query: the vector.
            kind: of the items.
            stated: the condition that a study states all of them.
            met: for each finding, the condition that a study meets it.
        """
        weight = _WEIGHTS[query.tower, kind]

        def among(wished: Condition) -> Search[_FoundItems]:
            return self._items(kind, kind, query.vector, conjunction((self.where, wished)))

        found = yield from among(stated)
        rankings = self._ranked(f"stated:{kind}", found, weight, "findings")
        further: dict[str, Condition] = {"met": And(tuple(met)), "partly met": Or(tuple(met))}
        if further["met"] == stated:
            del further["met"]
        if len(met) == 1:
            del further["partly met"]
        if len(found.items) >= self.depth or not further:
            return rankings
        # Both in one round: a search that turns out not to be needed takes less than another round trip.
        wider = yield from together([among(wished) for wished in further.values()])
        for name, found_wider in zip(further, wider, strict=True):
            rankings += self._ranked(f"{name}:{kind}", found_wider, weight, "findings")
            if len(found_wider.items) >= self.depth:
                break
        return rankings

    def _ranked(self, name: str, found: _FoundItems, weight: float, part: str) -> list[Ranking]:
        self.complete = self.complete and not found.has_more
        return [Ranking(name, found.items, weight, part)] if found.items else []

    def _items(
        self, kind: RankingKind, collection: str, query: Vector | Terms, where: Condition | None
    ) -> Search[_FoundItems]:
        """The nearest items, searched deeper until `depth` studies are among them or no item is left."""
        limit = self.depth + self.depth // 2
        # The prefix distinguishes the terms of a report from its vector: both have the same point.
        prefix = "" if kind == collection else f"{kind}:"
        while True:
            (hits,) = yield [
                SearchRequest(self.index.collection(collection), query, limit, where, self.payload)
            ]
            self._record_payloads(hits)
            items = tuple(
                FoundItem(f"{prefix}{hit.id}", str(hit.payload["study"]), kind, hit.score) for hit in hits
            )
            if len(hits) < limit:
                return _FoundItems(items)
            if len({item.study_id for item in items}) >= self.depth:
                return _FoundItems(items, has_more=True)
            limit *= 4

    def _sentences(self, query: QueryVector) -> Search[_FoundItems]:
        """The nearest sentences, each in the studies that have it and pass the filter.

        One vector stands for a sentence of many studies, so the filter runs on the reports of those studies,
        in the store. The search is not deepened: this ranking sharpens that of whole reports, which holds
        every study with a sentence, so a filter that few of its studies pass loses none. Sentences that very
        many studies share distinguish none of them and are skipped.
        """
        (hits,) = yield [
            SearchRequest(self.index.collection("sentence"), query.vector, self.depth, payload=())
        ]
        sentences = yield from sentences_of(hit.id for hit in hits)
        self.sentences |= sentences
        items = self._uses(hits, sentences)
        keys = {item.study_id for item in items}
        if self.where is None:
            # Findings are compared by payloads: those of studies that only a sentence brought are missing.
            missing = keys - self.payloads.keys() if len(self.payload) > 1 else set()
            yield from self._reports(missing, query)
            return _FoundItems(items)
        passing = yield from self._reports(keys, query)
        return _FoundItems(tuple(item for item in items if item.study_id in passing))

    def _uses(self, hits: Sequence[Hit], sentences: Sentences) -> tuple[FoundItem, ...]:
        """The studies of the nearest sentences, an item for each."""
        items = (
            FoundItem(str(hit.id), key, "sentence", hit.score)
            for hit in hits
            if hit.id in sentences
            for key in sorted(sentences[hit.id].positions)
        )
        return tuple(islice(items, _SENTENCE_USES * self.depth))

    def _reports(self, keys: Collection[str], query: QueryVector) -> Search[set[str]]:
        """Those of the studies with a report that passes the filter; its payload is recorded."""
        collection = self.index.collection("report")
        if not keys:
            return set()
        among: Condition = Comparison("study", "in", tuple(sorted(keys)))
        chosen = among if self.where is None else And((self.where, among))
        (hits,) = yield [SearchRequest(collection, query.vector, len(keys), chosen, self.payload)]
        self._record_payloads(hits)
        return {str(hit.payload["study"]) for hit in hits}

    def _record_payloads(self, hits: Sequence[Hit]) -> None:
        self.payloads |= {str(hit.payload["study"]): hit.payload for hit in hits}
