"""What a search needs from the index, and the round trips that bring it.

A search is a generator: it yields what it needs next and is sent the answers. `run_together` runs several
searches side by side. What they wait for at one moment is brought by one call of the store and one statement
of the catalog of each kind, however many searches there are.
"""

from collections import defaultdict
from collections.abc import Generator, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from corpus.errors import ServerUnavailable
from corpus.redaction import redacted
from indexer.catalog.studies import FoundStudies, StoredSentence
from indexer.index import Index
from indexer.vectors.store import SearchRequest
from retrieval.query.feedback import Vector
from retrieval.timing import Step, Stopwatch

MOST_STUDIES = 50
"""A sentence that more studies have distinguishes none of them."""


@dataclass(frozen=True, slots=True)
class SentencesNeed:
    """The sentences of these points, each with the studies that have it: point → sentence."""

    points: tuple[UUID, ...]


@redacted
@dataclass(frozen=True, slots=True)
class StudiesNeed:
    """The studies with these keys of the store, and all studies of these subjects."""

    keys: tuple[str, ...]
    subjects: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class VectorsNeed:
    """The vectors of these points of a kind: point → (dim,) float32."""

    kind: str
    points: tuple[UUID, ...]


Need = SearchRequest | SentencesNeed | StudiesNeed | VectorsNeed
Result = TypeVar("Result")
Search = Generator[Sequence[Need], Sequence[Any], Result]
"""Yields needs, is sent an answer to each, and returns its result."""


def sentences_of(points: Iterable[UUID]) -> Search[Mapping[UUID, StoredSentence]]:
    """Need sentences; those of more than `MOST_STUDIES` studies are left out."""
    (found,) = yield [SentencesNeed(tuple(points))]
    sentences: Mapping[UUID, StoredSentence] = found
    return sentences


def studies_of(keys: Iterable[str], subjects: Iterable[str] = ()) -> Search[FoundStudies]:
    """Need studies by key, and those of subjects."""
    (found,) = yield [StudiesNeed(tuple(keys), tuple(subjects))]
    studies: FoundStudies = found
    return studies


def vectors_of(kind: str, points: Iterable[UUID]) -> Search[Mapping[UUID, Vector]]:
    """Need vectors of a kind; none where nothing of it is indexed."""
    wanted = tuple(points)
    if not wanted:
        return {}
    (found,) = yield [VectorsNeed(kind, wanted)]
    vectors: Mapping[UUID, Vector] = found
    return vectors


def together(searches: Sequence[Search[Result]]) -> Search[list[Result]]:
    """Run several searches as one: what they need at one moment is one round."""
    results: dict[int, Result] = {}
    waiting: dict[int, Sequence[Need]] = {}
    answers: dict[int, Sequence[Any] | None] = dict.fromkeys(range(len(searches)))
    while answers:
        for number, answer in answers.items():
            try:
                search = searches[number]
                waiting[number] = next(search) if answer is None else search.send(answer)
            except StopIteration as ended:
                results[number] = ended.value
        chosen = {number: waiting.pop(number) for number in _first(waiting)}
        if not chosen:
            break
        brought = iter((yield [need for needs in chosen.values() for need in needs]))
        answers = {number: [next(brought) for _ in needs] for number, needs in chosen.items()}
    return [results[number] for number in range(len(searches))]


_ORDER: Sequence[type] = (SentencesNeed, SearchRequest, StudiesNeed, VectorsNeed)
"""What is brought first while other searches wait for something else: so most needs share a round trip."""


def _first(waiting: Mapping[int, Sequence[Need]]) -> list[int]:
    """Return which of the waiting searches are answered first: those with the earliest kind of need."""
    kinds = {number: min(map(_kind, needs), default=0) for number, needs in waiting.items()}
    earliest = min(kinds.values(), default=0)
    return [number for number, kind in kinds.items() if kind == earliest]


def _kind(need: Need) -> int:
    return _ORDER.index(type(need))


@redacted
@dataclass(slots=True)
class _Running:
    """A search that runs, and the time that its steps took."""

    search: Search[Any]
    stopwatch: Stopwatch
    needs: Sequence[Need] = ()
    answers: Sequence[Any] | None = None

    def advance(self) -> bool:
        """Run the search until it needs something; False where it has ended, with its result as `answers`."""
        with self.stopwatch.measure("rank"):
            try:
                self.needs = next(self.search) if self.answers is None else self.search.send(self.answers)
            except StopIteration as ended:
                self.answers = [ended.value]
                return False
        return True


def run_together(
    index: Index, searches: Sequence[Search[Result]], stopwatches: Sequence[Stopwatch]
) -> list[Result | Exception]:
    """Run searches to their ends, side by side.

    Args:
        index: the index.
        searches: the searches.
        stopwatches: for each search; gets the time of its steps. That of a round trip is shared evenly by the
            needs that it brought.

    Returns:
        For each search its result, or the reason why it has none.
    """
    results: dict[int, Result | Exception] = {}
    running = {
        number: _Running(search, stopwatch)
        for number, (search, stopwatch) in enumerate(zip(searches, stopwatches, strict=True))
    }
    advancing = list(running)
    while running:
        for number in advancing:
            one = running[number]
            try:
                if one.advance():
                    continue
                results[number] = (one.answers or [None])[0]
            except Exception as error:  # a fault in one search is not the others'
                results[number] = error
            del running[number]
        advancing = _first({number: one.needs for number, one in running.items()})
        failed = _bring_to_each(index, {number: running[number] for number in advancing})
        for number, reason in failed.items():
            results[number] = reason
            running.pop(number).search.close()
        advancing = [number for number in advancing if number in running]
    return [results[number] for number in range(len(searches))]


def _bring_to_each(index: Index, running: Mapping[int, _Running]) -> dict[int, Exception]:
    """Answer the needs of searches; return those that cannot be answered, with the reason."""
    try:
        _bring(index, list(running.values()))
    except ServerUnavailable as error:
        return dict.fromkeys(running, error)
    except Exception as error:
        if len(running) == 1:
            return dict.fromkeys(running, error)
        # What one search asked for is no reason for the others: each asks by itself.
        failed: dict[int, Exception] = {}
        for number, one in running.items():
            failed |= _bring_to_each(index, {number: one})
        return failed
    return {}


def _bring(index: Index, running: Sequence[_Running]) -> None:
    """Answer the needs of all searches: one round trip for each kind of need."""
    trips: dict[Hashable, list[tuple[_Running, int]]] = defaultdict(list)
    for one in running:
        for position, need in enumerate(one.needs):
            trips[_trip_of(need)].append((one, position))
    brought: dict[int, dict[int, Any]] = {id(one): {} for one in running}
    for needing in trips.values():
        step, trip = _STEPS[type(needing[0][0].needs[needing[0][1]])], Stopwatch()
        with trip.measure(step):
            answers = _answers(index, [one.needs[position] for one, position in needing])
        for (one, position), answer in zip(needing, answers, strict=True):
            brought[id(one)][position] = answer
            one.stopwatch.add(step, trip.took.total / len(needing))
    for one in running:
        one.answers = [brought[id(one)][position] for position in range(len(one.needs))]


_STEPS: Mapping[type, Step] = {
    SearchRequest: "search",
    SentencesNeed: "search",
    StudiesNeed: "catalog",
    VectorsNeed: "catalog",
}


def _trip_of(need: Need) -> Hashable:
    """Needs of one trip are brought by one call."""
    return type(need).__name__, need.kind if isinstance(need, VectorsNeed) else ""


def _answers(index: Index, needs: Sequence[Any]) -> Sequence[Any]:
    """Bring needs of one trip."""
    if isinstance(needs[0], SearchRequest):
        return index.store.search_batch(needs)
    if isinstance(needs[0], VectorsNeed):
        points = {point for need in needs for point in need.points}
        stored = index.points(needs[0].kind, points)
        vectors = {point: found.vector for point, found in stored.items()}
        return [{point: vectors[point] for point in need.points if point in vectors} for need in needs]
    with index.catalog.reading() as read:
        if isinstance(needs[0], SentencesNeed):
            sentences = read.sentences({point for need in needs for point in need.points}, MOST_STUDIES)
            return [
                {point: sentences[point] for point in need.points if point in sentences} for need in needs
            ]
        keys = {key for need in needs for key in need.keys}
        subjects = {subject for need in needs for subject in need.subjects}
        found = read.find_studies(sorted(keys), sorted(subjects))
    return [found.part(need.keys, need.subjects) for need in needs]
