"""Search: encode the query, find candidates, fuse, rerank, remove near-duplicates, describe the hits.

`search_encoded` is that path; each step is a function of its own module. Queries that are answered together
are encoded together and searched together: they share their round trips to store and catalog
(`retrieval.needs`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from corpus.errors import EmptyIndex, SimilarityError
from corpus.redaction import redacted
from indexer.catalog.studies import Case
from indexer.index import Index
from retrieval.answer import Answer, Hit
from retrieval.hits import describe_hits
from retrieval.needs import Search, run_together
from retrieval.query.encode import EncodedQuery, encode_queries, encode_with_vector
from retrieval.query.feedback import Tower, Vector
from retrieval.query.query import Query
from retrieval.ranking.candidates import find_candidates, search_depths
from retrieval.ranking.diversity import diversify, pool_size
from retrieval.ranking.fusion import fuse_rankings
from retrieval.ranking.near_duplicates import remove_near_duplicates
from retrieval.ranking.rerank import rerank
from retrieval.reliability.apply import apply_guarantee
from retrieval.timing import Stopwatch, Took

_MOST_ATTEMPTS = 3
"""How often a search begins anew because the catalog's state has changed meanwhile."""


def search(index: Index, query: Query) -> Answer:
    """Answer one query.

    Raises:
        UsageError: the filter cannot be parsed, or the case is unknown.
        UnreadableImage, NotAdmitted: the image cannot be a query.
        EmptyIndex: nothing is indexed.
    """
    (answer,) = search_all(index, [query])
    if isinstance(answer, SimilarityError):
        raise answer
    return answer


def search_all(index: Index, queries: Sequence[Query]) -> list[Answer | SimilarityError]:
    """Answer several queries together; in the place of one that cannot be answered, the reason.

    Raises:
        EmptyIndex: nothing is indexed.
    """
    return search_prepared(prepare(index, queries))


@dataclass(frozen=True, slots=True)
class Prepared:
    """Queries that are encoded, ready to be searched.

    Attributes:
        index: the index.
        bound: the index in the state in which they were encoded.
        queries: the queries.
        encoded: each encoded; in the place of one that cannot be encoded, the reason.
    """

    index: Index
    bound: Index
    queries: Sequence[Query]
    encoded: Sequence[EncodedQuery | SimilarityError]


def prepare(index: Index, queries: Sequence[Query]) -> Prepared:
    """Encode several queries together.

    Raises:
        EmptyIndex: nothing is indexed.
    """
    bound = index.as_remembered()  # another version may be activated meanwhile
    return Prepared(index, bound, queries, encode_queries(bound, queries))


def search_prepared(prepared: Prepared) -> list[Answer | SimilarityError]:
    """Search with queries that are encoded; in the place of one that cannot be answered, the reason.

    One that meets another state of the catalog than it was encoded in is encoded and searched again.
    """
    outcomes: list[Answer | SimilarityError] = []
    for query, (outcome, is_current) in zip(prepared.queries, _search(prepared), strict=True):
        attempts = 1
        while not is_current and attempts < _MOST_ATTEMPTS:
            ((outcome, is_current),) = _search(prepare(prepared.index, [query]))
            attempts += 1
        outcomes.append(outcome)
    return outcomes


def search_vector(index: Index, query: Query, tower: Tower, vector: Vector) -> Answer:
    """Answer a query with a ready vector.

    Args:
        index: the index.
        query: the query; its image is only repeated in the answer, its text is parsed for findings.
        tower: of the encoder that made the vector.
        vector: (dim,) float32 of unit length, by the index's encoder.
    """
    index = index.pinned()
    return search_encoded(index, encode_with_vector(index, query, tower, vector))


def search_encoded(index: Index, encoded: EncodedQuery) -> Answer:
    """Answer an encoded query, in whichever state the catalog is."""
    ((outcome, _),) = _search_together(index, [encoded])
    if isinstance(outcome, SimilarityError):
        raise outcome
    return outcome


Outcome = tuple[Answer | SimilarityError, str | None]
"""An answer or the reason why there is none, and the stamp of the state that the catalog was read in."""


def _search(prepared: Prepared) -> list[tuple[Answer | SimilarityError, bool]]:
    """Search with all queries; each outcome with whether the catalog is still in the state of the query."""
    encoded = [one for one in prepared.encoded if isinstance(one, EncodedQuery)]
    answered = iter(_search_together(prepared.bound, encoded))
    outcomes: list[Outcome] = [
        (one, None) if isinstance(one, SimilarityError) else next(answered) for one in prepared.encoded
    ]
    if any(stamp is None for _, stamp in outcomes):
        with prepared.index.catalog.reading() as read:
            now = read.stamp()
        outcomes = [(outcome, stamp or now) for outcome, stamp in outcomes]
    return [(outcome, prepared.bound.is_current(stamp or "")) for outcome, stamp in outcomes]


def _search_together(index: Index, encoded: Sequence[EncodedQuery]) -> list[Outcome]:
    """Search with several encoded queries; those whose image is out of distribution are not searched."""
    searched = [one for one in encoded if one.refused is None]
    stopwatches = [Stopwatch(one.took) for one in searched]
    found = iter(run_together(index, [_find(index, one) for one in searched], stopwatches))
    waiting = iter(stopwatches)
    outcomes: list[Outcome] = []
    for one in encoded:
        if one.refused is not None:
            outcomes.append((_answer(index, one, one.took, abstained=True, reason=one.refused), None))
            continue
        outcome, stopwatch = next(found), next(waiting)
        if isinstance(outcome, SimilarityError):
            outcomes.append((outcome, None))
            continue
        try:
            outcomes.append((_describe(index, one, outcome, stopwatch), outcome.stamp))
        except SimilarityError as error:
            outcomes.append((error, outcome.stamp))
    return outcomes


@redacted
@dataclass(frozen=True, slots=True)
class _Found:
    """What a search found. `own`: studies of the query's own subject. `stamp`: see `Outcome`."""

    hits: tuple[Hit, ...]
    own: tuple[Case, ...]
    stamp: str


def _find(index: Index, encoded: EncodedQuery) -> Search[_Found]:
    """The path from candidates to hits.

    The rankings are searched deeper until `k` studies are left, or no ranking has more.
    """
    query, count = encoded.query, pool_size(encoded.query)
    for depth in search_depths(encoded):
        candidates = yield from find_candidates(index, encoded, depth)
        reranked = rerank(fuse_rankings(candidates.rankings), encoded.intent, candidates.payloads)
        distinct = yield from remove_near_duplicates(reranked, query.target, count, encoded.subjects)
        if len(distinct.studies) >= query.k or candidates.complete:
            break
    studies = distinct.studies
    if query.diversify:
        studies = yield from diversify(studies, index.active_version.dim, query.k)
    hits = yield from describe_hits(encoded, studies, candidates.sentences)
    return _Found(hits, tuple(study.case for study in distinct.of_subjects), distinct.stamp)


def _describe(index: Index, encoded: EncodedQuery, found: _Found, stopwatch: Stopwatch) -> Answer:
    """Make the answer of what was found.

    Raises:
        EmptyIndex: nothing was found, since the index has no study.
    """
    with stopwatch.measure("catalog"):
        promised = found.hits[: encoded.query.promised_hits]
        abstained, reason = apply_guarantee(index, encoded.query, promised)
    if not found.hits:
        with index.catalog.reading() as read:
            if not read.has_studies():
                raise EmptyIndex(
                    f"the index in {index.home.folder} is empty: fill it with `similarity index add SOURCE "
                    "--encoder DIR`"
                )
        reason = _reason_for_no_hits(encoded, found.own)
    return _answer(index, encoded, stopwatch.took, found.hits, found.own, abstained, reason)


def _answer(
    index: Index,
    encoded: EncodedQuery,
    took: Took,
    hits: tuple[Hit, ...] = (),
    own_studies: tuple[Case, ...] = (),
    abstained: bool | None = None,
    reason: str | None = None,
) -> Answer:
    version = index.active_version
    return Answer(
        query=encoded.as_json(),
        encoder={"name": version.name, "fingerprint": version.fingerprint},
        hits=hits,
        own_studies=own_studies,
        took=took,
        abstained=abstained,
        reason=reason,
        notes=encoded.notes,
    )


def _reason_for_no_hits(encoded: EncodedQuery, own_studies: Sequence[Case]) -> str:
    if encoded.where is not None:
        return "no study of the index meets what was asked for"
    if own_studies:
        return "every study of the index is of the query's own subject or an example of the query"
    return "the index holds nothing of the kind that was asked for"
