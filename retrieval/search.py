"""Search: encode the query, find candidates, fuse, rerank, remove near-duplicates, describe the hits.

`search_encoded` is that path; each step is a function of its own module. `search` answers one query and
`search_all` several, which are encoded together.
"""

from collections.abc import Callable, Sequence
from functools import partial

from corpus.errors import EmptyIndex, SimilarityError
from indexer.catalog.studies import Case
from indexer.index import Index
from retrieval.answer import Answer, Hit
from retrieval.hits import describe_hits
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


def search(index: Index, query: Query) -> Answer:
    """Answer one query.

    Raises:
        UsageError: the filter cannot be parsed, or the case is unknown.
        UnreadableImage, NotAdmitted: the image cannot be a query.
        EmptyIndex: nothing is indexed.
    """
    (answering,) = prepare(index, [query])
    return answering()


def search_all(index: Index, queries: Sequence[Query]) -> list[Answer | SimilarityError]:
    """Answer several queries, encoded together; in the place of one that cannot be answered, the reason.

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
    """Encode several queries together, so that each can then be searched by itself.

    Returns:
        For each query a function that returns its answer, or raises the reason why there is none.

    Raises:
        EmptyIndex: nothing is indexed.
    """
    with index.catalog.reading() as read:
        if not read.has_studies():
            raise EmptyIndex(
                f"the index in {index.home.folder} is empty: fill it with `similarity index add SOURCE "
                "--encoder DIR`"
            )
    index = index.pinned()  # another version may be activated meanwhile
    return [partial(_search_or_raise, index, encoded) for encoded in encode_queries(index, queries)]


def _search_or_raise(index: Index, encoded: EncodedQuery | SimilarityError) -> Answer:
    if isinstance(encoded, SimilarityError):
        raise encoded
    return search_encoded(index, encoded)


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
    """Answer an encoded query: the path from candidates to hits.

    The rankings are searched deeper until `k` studies are left, or no ranking has more.
    """
    if encoded.refused is not None:
        return _answer(index, encoded, encoded.took, abstained=True, reason=encoded.refused)
    query, stopwatch = encoded.query, Stopwatch(encoded.took)
    count = pool_size(query)
    for depth in search_depths(encoded):
        with stopwatch.measure("search"):
            candidates = find_candidates(index, encoded, depth)
        with stopwatch.measure("rank"):
            fused = fuse_rankings(candidates.rankings)
            reranked = rerank(fused, encoded.intent, candidates.payloads)
        with stopwatch.measure("catalog"):
            studies = remove_near_duplicates(index, reranked, query.target, count)
        if len(studies) >= query.k or candidates.complete:
            break
    with stopwatch.measure("catalog"):
        if query.diversify:
            studies = diversify(index, studies, query.k)
        with index.catalog.reading() as read:
            hits = describe_hits(index, read, encoded, studies)
            own = [study.case for study in read.studies_of_subjects(encoded.subjects)]
        abstained, reason = apply_guarantee(index, query, hits[: query.promised_hits])
    if not hits:
        reason = _reason_for_no_hits(encoded, own)
    return _answer(index, encoded, stopwatch.took, hits, own, abstained, reason)


def _answer(
    index: Index,
    encoded: EncodedQuery,
    took: Took,
    hits: tuple[Hit, ...] = (),
    own_studies: Sequence[Case] = (),
    abstained: bool | None = None,
    reason: str | None = None,
) -> Answer:
    version = index.active_version
    return Answer(
        query=encoded.as_json(),
        encoder={"name": version.name, "fingerprint": version.fingerprint},
        hits=hits,
        own_studies=tuple(own_studies),
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
