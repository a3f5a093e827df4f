"""Candidate generation: each vector of a query is searched in each kind of item, its words in the reports.

The store applies the filter, what a phrase denies, and the exclusion of the query's own subject.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from corpus.findings import VOCABULARY, Status
from corpus.language.concepts import Concept
from corpus.redaction import redacted
from indexer.index import Index
from indexer.ingest.bm25 import query_terms
from indexer.ingest.payload import forms, write_concept
from indexer.vectors.filters import And, Comparison, Condition, Or, PayloadValue
from indexer.vectors.store import Terms
from retrieval.query.encode import EncodedQuery
from retrieval.query.feedback import QueryVector, Tower, Vector
from retrieval.query.filters import conjunction, excluding
from retrieval.query.query import Target
from retrieval.ranking.diversity import pool_size
from retrieval.ranking.fusion import FoundItem, Ranking, RankingKind

DEPTH = 60
"""Studies that each ranking holds before rankings are fused: below that rank a ranking adds little."""

_SENTENCE_USES = 4  # sentences in studies that are looked at, for each study wanted
_SENTENCES_AT_ONCE = 30  # of which the studies are looked up: of shared sentences the first few suffice
_MOST_STUDIES = 50  # a sentence that more studies have distinguishes none of them

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


@redacted
@dataclass(frozen=True, slots=True)
class Candidates:
    """The candidates of a query.

    Attributes:
        rankings: a ranking for each vector and kind of item.
        payloads: study key → payload of one of its vectors.
        complete: whether no ranking was cut off at the depth: a deeper search finds nothing more.
    """

    rankings: tuple[Ranking, ...]
    payloads: Payloads
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


def find_candidates(index: Index, query: EncodedQuery, depth: int) -> Candidates:
    """Search every kind of item that the query's target is ranked by.

    Args:
        index: the index.
        query: the query.
        depth: studies that each ranking should hold.
    """
    target = query.query.target
    collections = frozenset(index.store.collections())
    payload = _PAYLOAD if query.intent.concepts else _PAYLOAD[:1]
    search = _Search(index, _store_condition(index, query), depth, collections, payload)
    kinds = [kind for kind in _KINDS[target] if index.collection(kind) in collections]
    for number, vector in enumerate(query.vectors):
        for kind in kinds:
            search.add(f"{number}:{kind}", vector, kind)
    if query.region is not None and target != "reports":
        search.add_items("region", "patch", query.region.vectors, "region", REGION_WEIGHT, "image")
    if query.phrase and target != "images":
        search.add_items("terms", "term", query_terms(query.phrase), "terms", TERMS_WEIGHT, "text")
    _add_wished(search, query, [kind for kind in kinds if kind != "sentence"])
    if query.intent.concepts and query.vectors:
        search.complete_payloads(query.vectors[0])
    return Candidates(tuple(search.rankings), search.payloads, search.complete)


def _store_condition(index: Index, query: EncodedQuery) -> Condition | None:
    """The condition for the store: the query's own, without its own subject and without the examples."""
    own = excluding(index.home, "subject", query.subjects)
    return conjunction((query.where, own, excluding(index.home, "study", query.examples)))


def _add_wished(search: "_Search", query: EncodedQuery, kinds: Sequence[RankingKind]) -> None:
    """Add studies that have the wished findings: the nearest vectors alone may have none of them."""
    wished = query.intent.wished
    vector = next((vector for vector in query.vectors if vector.tower == "text"), None)
    if not wished or vector is None:
        return
    stated = And(tuple(_is_stated(concept) for concept in wished))
    meets = tuple(map(_is_met, wished))
    for kind in kinds:
        items = search.add(f"stated:{kind}", vector, kind, stated)
        if len(items) < search.depth and And(meets) != stated:
            items = search.add(f"met:{kind}", vector, kind, And(meets))
        if len(items) < search.depth and len(meets) > 1:
            search.add(f"partly met:{kind}", vector, kind, Or(meets))


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
@dataclass(slots=True)
class _Search:
    """The rankings found so far, over one index, with one condition and depth.

    Attributes:
        collections: those that exist.
        payload: fields of the payloads to return.
    """

    index: Index
    where: Condition | None
    depth: int
    collections: frozenset[str]
    payload: Sequence[str]
    rankings: list[Ranking] = field(default_factory=list)
    payloads: Payloads = field(default_factory=dict)
    complete: bool = True

    def add(
        self, name: str, query: QueryVector, kind: RankingKind, wished: Condition | None = None
    ) -> tuple[FoundItem, ...]:
        """Add the ranking of a vector in a kind of item; `wished`: what its studies meet besides."""
        where = conjunction((self.where, wished))
        if kind == "sentence":
            items = self._search_sentences(query, where)
        else:
            items = self._search_items(kind, kind, query.vector, where)
        if items:
            part = query.part if wished is None else "findings"
            self.rankings.append(Ranking(name, items, _WEIGHTS[query.tower, kind], part))
        return items

    def add_items(
        self, name: str, collection: str, query: Vector | Terms, kind: RankingKind, weight: float, part: str
    ) -> None:
        """Add the ranking of a query that is no single vector: patches of a region, words of a report."""
        if self.index.collection(collection) not in self.collections:
            return
        items = self._search_items(kind, collection, query, self.where)
        if items:
            self.rankings.append(Ranking(name, items, weight, part))

    def complete_payloads(self, query: QueryVector) -> None:
        """Fetch the payload of studies that only a sentence brought: that of their report."""
        keys = {item.study_id for ranking in self.rankings for item in ranking.items}
        self._search_reports(keys - self.payloads.keys(), query, None)

    def _search_items(
        self, kind: RankingKind, collection: str, query: Vector | Terms, where: Condition | None
    ) -> tuple[FoundItem, ...]:
        """The nearest items, searched deeper until `depth` studies are among them or no item is left."""
        limit = self.depth + self.depth // 2
        # The prefix distinguishes the terms of a report from its vector: both have the same point.
        prefix = "" if kind == collection else f"{kind}:"
        while True:
            hits = self.index.store.search(
                self.index.collection(collection), query, limit, where, payload=self.payload
            )
            self.payloads |= {str(hit.payload["study"]): hit.payload for hit in hits}
            items = tuple(
                FoundItem(f"{prefix}{hit.id}", str(hit.payload["study"]), kind, hit.score) for hit in hits
            )
            if len(hits) < limit:
                return items
            if len({item.study_id for item in items}) >= self.depth:
                self.complete = False
                return items
            limit *= 4

    def _search_sentences(self, query: QueryVector, where: Condition | None) -> tuple[FoundItem, ...]:
        """The nearest sentences, each in the studies that have it and pass the filter.

        One vector stands for a sentence of many studies, so the filter runs on the reports of those studies,
        in the store. The search is not deepened: this ranking sharpens that of whole reports, which holds
        every study with a sentence, so a filter that few of its studies pass loses none. Sentences that very
        many studies share distinguish none of them and are skipped.
        """
        hits = self.index.store.search(
            self.index.collection("sentence"), query.vector, self.depth, payload=()
        )
        most = _SENTENCE_USES * self.depth
        items: list[FoundItem] = []
        with self.index.catalog.reading() as read:
            for start in range(0, len(hits), _SENTENCES_AT_ONCE):
                part = hits[start : start + _SENTENCES_AT_ONCE]
                studies = read.studies_by_sentence([hit.id for hit in part], _MOST_STUDIES)
                for hit in part:
                    keys = sorted(studies.get(hit.id, ()))
                    items += [FoundItem(str(hit.id), key, "sentence", hit.score) for key in keys]
                if len(items) >= most:
                    break
        items = items[:most]
        if where is None:
            return tuple(items)
        passing = self._search_reports({item.study_id for item in items}, query, where)
        return tuple(item for item in items if item.study_id in passing)

    def _search_reports(self, keys: set[str], query: QueryVector, where: Condition | None) -> set[str]:
        """Those of the studies with a report that passes the filter; its payload is recorded."""
        collection = self.index.collection("report")
        if not keys or collection not in self.collections:
            return set()
        among: Condition = Comparison("study", "in", tuple(sorted(keys)))
        chosen = among if where is None else And((where, among))
        hits = self.index.store.search(collection, query.vector, len(keys), chosen, payload=self.payload)
        self.payloads |= {str(hit.payload["study"]): hit.payload for hit in hits}
        return {str(hit.payload["study"]) for hit in hits}
