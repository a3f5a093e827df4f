"""The lists that a search draws its candidates from: each vector in each kind of item, and what stands beside
what they find."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from corpus.findings import Status
from corpus.language.concepts import Concept
from corpus.redaction import redacted
from indexer.index import Index
from indexer.ingest.bm25 import query_terms
from indexer.ingest.payload import forms, write_concept
from indexer.vectors.filters import And, Comparison, Condition, Or, PayloadValue
from indexer.vectors.store import Terms
from retrieval.lookup import holders
from retrieval.query.encode import Understood
from retrieval.query.probes import Probe, Side, Vector
from retrieval.query.query import Target
from retrieval.ranking.agreement import descendants
from retrieval.ranking.fusion import Found, ItemKind, Ranking

_SENTENCE_PLACES = 4  # sentences in studies that are looked at, for each study wanted
_SENTENCES_AT_ONCE = 30  # whose studies are asked for: of sentences that many share, the first few suffice
_RARE = 50  # a sentence of more studies than this tells none from the others

_KINDS: Mapping[Target, tuple[ItemKind, ...]] = {
    "images": ("image",),
    "reports": ("report", "sentence"),
    "cases": ("image", "report", "sentence"),
}

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
TERMS_WEIGHT = 0.5
REGION_WEIGHT = 1.0

_BESIDE = ("study", "finding", "concept")
"""What is read of the payloads: whose an item is and, where findings are asked for, what the study shows."""

Payloads = dict[str, Mapping[str, PayloadValue]]


@redacted
@dataclass(frozen=True, slots=True)
class Candidates:
    """What was found. `payloads`: study key → what stands beside its vectors. `whole`: no list was cut off
    by the depth, so that searching deeper finds nothing more."""

    rankings: tuple[Ranking, ...]
    payloads: Payloads
    whole: bool


def find_candidates(index: Index, understood: Understood, where: Condition | None, depth: int) -> Candidates:
    """Search every list that the query's target draws on.

    Args:
        index: the index.
        understood: the query.
        where: what every study must meet, own studies and examples excluded.
        depth: studies that each list should hold.
    """
    held = frozenset(index.store.collections())
    beside = _BESIDE if understood.asked.concepts else _BESIDE[:1]
    search = _Search(index, where, depth, held, beside)
    kinds = [kind for kind in _KINDS[understood.query.target] if index.collection(kind) in held]
    for number, probe in enumerate(understood.probes):
        for kind in kinds:
            search.add(f"{number}:{kind}", probe, kind)
    if understood.region is not None and understood.query.target != "reports":
        search.add_items("region", "patch", understood.region.vectors, "region", REGION_WEIGHT, "image")
    if understood.phrase and understood.query.target != "images":
        search.add_items("terms", "term", query_terms(understood.phrase), "terms", TERMS_WEIGHT, "text")
    _add_wished(search, understood, [kind for kind in kinds if kind != "sentence"])
    if understood.asked.concepts and understood.probes:
        search.complete_payloads(understood.probes[0])
    return Candidates(tuple(search.rankings), search.payloads, search.whole)


def _add_wished(search: "_Search", understood: Understood, kinds: Sequence[ItemKind]) -> None:
    """Add those that meet what a phrase wishes for: the nearest vectors alone need not hold one of them."""
    wished = understood.asked.wished
    probe = next((probe for probe in understood.probes if probe.side == "text"), None)
    if not wished or probe is None:
        return
    said = And(tuple(_says(concept) for concept in wished))
    meets = tuple(map(_meets, wished))
    for kind in kinds:
        found = search.add(f"said:{kind}", probe, kind, said)
        if len(found) < search.depth and And(meets) != said:
            found = search.add(f"met:{kind}", probe, kind, And(meets))
        if len(found) < search.depth and len(meets) > 1:
            search.add(f"met in part:{kind}", probe, kind, Or(meets))


def _says(concept: Concept) -> Condition:
    """The condition that a study meets a wish in words: a finding is denied by its own name."""
    if concept.status is Status.ABSENT and not (concept.side or concept.zone or concept.degree):
        return Comparison("concept", "=", write_concept(concept))
    return _meets(concept)


def _meets(concept: Concept) -> Condition:
    """The condition that a study's findings meet a wish."""
    if concept.side or concept.zone or concept.degree:
        below = sorted(descendants(concept.finding))
        placed = Comparison("concept", "in", forms(concept, below))
        if concept.status is not Status.ABSENT:
            return placed
        return Or((placed, Comparison("finding", "=", f"{concept.finding}:absent")))
    suffix = "" if concept.status is Status.PRESENT else f":{concept.status}"
    return Comparison("finding", "=", concept.finding + suffix)


@redacted
@dataclass(slots=True)
class _Search:
    """Lists under way, over one index and one condition.

    `held`: the collections that there are. `beside`: what of the payloads is wanted.
    """

    index: Index
    where: Condition | None
    depth: int
    held: frozenset[str]
    beside: Sequence[str]
    rankings: list[Ranking] = field(default_factory=list)
    payloads: Payloads = field(default_factory=dict)
    whole: bool = True

    def add(
        self, name: str, probe: Probe, kind: ItemKind, also: Condition | None = None
    ) -> tuple[Found, ...]:
        """Add the list of a probe in a kind of item; `also`: what its studies meet besides."""
        where = self.where if also is None else also if self.where is None else And((self.where, also))
        if kind == "sentence":
            found = self._sentences(probe, where)
        else:
            found = self._nearest(kind, kind, probe.vector, where)
        if found:
            part = "findings" if also is not None else probe.part
            self.rankings.append(Ranking(name, found, _WEIGHTS[probe.side, kind], part))
        return found

    def add_items(
        self, name: str, collection: str, query: Vector | Terms, kind: ItemKind, weight: float, part: str
    ) -> None:
        """Add the list of what is no plain vector: patches by a region, reports by their words."""
        if self.index.collection(collection) not in self.held:
            return
        found = self._nearest(kind, collection, query, self.where)
        if found:
            self.rankings.append(Ranking(name, found, weight, part))

    def complete_payloads(self, probe: Probe) -> None:
        """Fetch what stands beside the reports of studies that only a sentence brought."""
        keys = {item.study_id for ranking in self.rankings for item in ranking.items}
        self._reports(keys - self.payloads.keys(), probe, None)

    def _nearest(
        self, kind: ItemKind, collection: str, query: Vector | Terms, where: Condition | None
    ) -> tuple[Found, ...]:
        """The nearest items, asking for more until so many studies are among them or none is left."""
        limit = self.depth + self.depth // 2
        # The words of a report are told apart from its vector, though both are of one item.
        mark = "" if kind == collection else f"{kind}:"
        while True:
            hits = self.index.store.search(
                self.index.collection(collection), query, limit, where, payload=self.beside
            )
            self.payloads |= {str(hit.payload["study"]): hit.payload for hit in hits}
            found = tuple(
                Found(f"{mark}{hit.id}", str(hit.payload["study"]), kind, hit.score) for hit in hits
            )
            if len(hits) < limit:
                return found
            if len({item.study_id for item in found}) >= self.depth:
                self.whole = False
                return found
            limit *= 4

    def _sentences(self, probe: Probe, where: Condition | None) -> tuple[Found, ...]:
        """The nearest sentences, each in the studies that hold it and pass the filter.

        One vector stands for a sentence of many studies, so the filter runs on those studies' reports, in the
        store. Asked once, with a bound: this list sharpens the one of whole reports, in which every study
        with a sentence is, so a filter that leaves few of its studies loses none. Sentences that very many
        studies share tell them apart from none and are passed over.
        """
        hits = self.index.store.search(
            self.index.collection("sentence"), probe.vector, self.depth, payload=()
        )
        places = _SENTENCE_PLACES * self.depth
        found: list[Found] = []
        with self.index.catalog.engine.connect() as connection:
            for start in range(0, len(hits), _SENTENCES_AT_ONCE):
                part = hits[start : start + _SENTENCES_AT_ONCE]
                held = holders(connection, [hit.id for hit in part], _RARE)
                for hit in part:
                    name = str(hit.id)
                    found += [Found(name, key, "sentence", hit.score) for key in sorted(held.get(hit.id, ()))]
                if len(found) >= places:
                    break
        found = found[:places]
        if where is None:
            return tuple(found)
        passing = self._reports({item.study_id for item in found}, probe, where)
        return tuple(item for item in found if item.study_id in passing)

    def _reports(self, keys: set[str], probe: Probe, where: Condition | None) -> set[str]:
        """Those of the studies whose report passes the filter; what stands beside it is kept."""
        collection = self.index.collection("report")
        if not keys or collection not in self.held:
            return set()
        among: Condition = Comparison("study", "in", tuple(sorted(keys)))
        chosen = among if where is None else And((where, among))
        hits = self.index.store.search(collection, probe.vector, len(keys), chosen, payload=self.beside)
        self.payloads |= {str(hit.payload["study"]): hit.payload for hit in hits}
        return {str(hit.payload["study"]) for hit in hits}
