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
"""How often a search is made where the catalog's state changes meanwhile; the last answer stands. It used one
version throughout, which was active when it began."""


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
    answers: list[Answer | SimilarityError] = []
    for outcome in search_each(index, queries):
        if not isinstance(outcome, Answer | SimilarityError):
            raise outcome  # a fault of this program
        answers.append(outcome)
    return answers


def search_each(index: Index, queries: Sequence[Query]) -> list[Answer | Exception]:
    """As `search_all`, but what else goes wrong with one query is its outcome, too."""
    return search_prepared(prepare(index, queries))


@redacted
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
        EncoderError, FingerprintMismatch: the encoder cannot be loaded.
    """
    remembered = index.remembers
    bound = index.as_remembered()
    try:
        return Prepared(index, bound, queries, encode_queries(bound, queries))
    except SimilarityError:
        index.forget_state()  # the encoder may be another one meanwhile
        if not remembered:
            raise
    bound = index.as_remembered()
    return Prepared(index, bound, queries, encode_queries(bound, queries))


def search_prepared(prepared: Prepared) -> list[Answer | Exception]:
    """Search with queries that are encoded; in the place of one that cannot be answered, the reason.

    One that meets another state of the catalog than it was encoded in is encoded and searched again.

    Raises:
        EmptyIndex: nothing is indexed.
    """
    outcomes: list[Answer | Exception] = []
    for query, (outcome, is_current) in zip(prepared.queries, _search(prepared), strict=True):
        attempts = 1
        while not is_current and attempts < _MOST_ATTEMPTS:
            try:
                ((outcome, is_current),) = _search(prepare(prepared.index, [query]))
            except SimilarityError as error:
                outcome = error
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
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


Outcome = tuple[Answer | Exception, str | None]
"""An answer or the reason why there is none, and the stamp of the state that its studies were read in."""


def _search(prepared: Prepared) -> list[tuple[Answer | Exception, bool]]:
    """Search with all queries; each outcome with whether the catalog is still in the state of the query."""
    encoded = [one for one in prepared.encoded if isinstance(one, EncodedQuery)]
    answered = iter(_search_together(prepared.bound, encoded))
    outcomes: list[Outcome] = [
        (one, None) if isinstance(one, SimilarityError) else next(answered) for one in prepared.encoded
    ]
    now = None
    if any(stamp is None or not (isinstance(found, Answer) and found.hits) for found, stamp in outcomes):
        now = _stamp_of_filled(prepared.index)
    stamps = [now if stamp is None else stamp for _, stamp in outcomes]
    return [
        (outcome, stamp is None or prepared.bound.is_current(stamp))
        for (outcome, _), stamp in zip(outcomes, stamps, strict=True)
    ]


def _stamp_of_filled(index: Index) -> str | None:
    """Return the stamp of the catalog now; None where it cannot be read.

    Raises:
        EmptyIndex: it has no study, and that is the reason why a query has no hit.
    """
    try:
        with index.catalog.reading() as read:
            stamp, is_filled = read.stamp(), read.has_studies()
    except SimilarityError:  # the server's absence is the outcome of the searches themselves
        return None
    if not is_filled:
        raise EmptyIndex(
            f"the index in {index.home.folder} is empty: fill it with `similarity index add SOURCE "
            "--encoder DIR`"
        )
    return stamp


def _search_together(index: Index, encoded: Sequence[EncodedQuery]) -> list[Outcome]:
    """Search with several encoded queries; one with an image out of distribution is not searched."""
    searched = [one for one in encoded if one.refused is None]
    stopwatches = [Stopwatch(one.took) for one in searched]
    results = run_together(index, [_find(index, one) for one in searched], stopwatches)
    found = zip(results, stopwatches, strict=True)
    return [
        _describe(index, one, *next(found))
        if one.refused is None
        else (_answer(index, one, one.took, abstained=True, reason=one.refused), None)
        for one in encoded
    ]


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


def _describe(
    index: Index, encoded: EncodedQuery, found: _Found | Exception, stopwatch: Stopwatch
) -> Outcome:
    """Make the answer of what was found."""
    if isinstance(found, Exception):
        return found, None
    try:
        with stopwatch.measure("catalog"):
            promised = found.hits[: encoded.query.promised_hits]
            abstained, reason = apply_guarantee(index, encoded.query, promised)
    except Exception as error:
        return error, found.stamp
    if not found.hits:
        reason = _reason_for_no_hits(encoded, found.own)
    return _answer(index, encoded, stopwatch.took, found.hits, found.own, abstained, reason), found.stamp


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
