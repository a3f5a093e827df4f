"""From queries to what is searched with: pictures decoded, pictures and phrases encoded in one batch each,
stored vectors of cases recalled, texts read for what they ask; and whose query it is."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter

from corpus.errors import SimilarityError, UsageError
from corpus.findings import Status
from corpus.redaction import redacted
from corpus.subjects import matching_subjects
from indexer.index import Index
from indexer.vectors.filters import And, Comparison, Condition, Not
from retrieval.answer import Took
from retrieval.localize.answer import Box
from retrieval.query.feedback import Recalled, Shown, is_picture, recall, show
from retrieval.query.filters import parse_where
from retrieval.query.finding_expression import parse_findings, refuse_contradiction, wanted
from retrieval.query.image import read_picture
from retrieval.query.intent import Asked, describe, read_text
from retrieval.query.probes import Part, Probe, Side, Vector, combine
from retrieval.query.query import Query
from retrieval.query.region import Region, cut
from retrieval.reliability.apply import refusal


@redacted
@dataclass(frozen=True, slots=True)
class Understood:
    """A query ready to be searched.

    `where`: what every hit meets: the filter, the expression over findings, and none of what a wish denies.
    `asked`: the findings that a text or the query's case asks for. `phrase`: the affirmed words, ranked by
    in the reports' own. `probes`: the vectors. `subjects`: subject_ids whose studies are the query's own.
    `examples`: study_ids that were given as examples. Neither are hits. `region`: the patches of a box.
    `refused`: why the picture is no query of this index, in a sentence (`retrieval.reliability.ood`).
    `notes`: as of `corpus.images.reader.ImageRead`, of its pictures.
    """

    query: Query
    where: Condition | None
    asked: Asked
    phrase: str
    probes: tuple[Probe, ...]
    subjects: frozenset[str]
    examples: frozenset[str] = frozenset()
    region: Region | None = None
    took: Took = field(default_factory=Took)
    refused: str | None = None
    notes: tuple[str, ...] = ()


@redacted
@dataclass(slots=True)
class _Reading:
    """A query under way: its parts, of which those without a vector wait to be encoded."""

    query: Query
    where: Condition | None
    asked: Asked
    phrase: str = ""
    texts: list[tuple[Part, str]] = field(default_factory=list)
    pictures: list[tuple[Part, Shown]] = field(default_factory=list)
    found: list[tuple[Part, Side, Vector]] = field(default_factory=list)
    subjects: set[str] = field(default_factory=set)
    examples: set[str] = field(default_factory=set)
    region: Region | None = None
    took: Took = field(default_factory=Took)
    refused: str | None = None
    notes: list[str] = field(default_factory=list)


def understand(index: Index, queries: Sequence[Query]) -> list[Understood | SimilarityError]:
    """Prepare queries together: pictures go through the encoder in one batch, texts in another.

    Returns:
        In the order of the queries; in the place of one that cannot be understood, the reason.
    """
    read: list[_Reading | SimilarityError] = []
    for query in queries:
        try:
            read.append(_read(index, query))
        except SimilarityError as error:
            read.append(error)
    under_way = [reading for reading in read if isinstance(reading, _Reading)]
    _encode_pictures(index, under_way)
    _encode_texts(index, under_way)
    return [_finish(reading) if isinstance(reading, _Reading) else reading for reading in read]


def with_vector(index: Index, query: Query, side: Side, vector: Vector) -> Understood:
    """A query whose vector is already made, for benchmarks and services that encode elsewhere."""
    reading = _start(index, query)
    reading.found = [("image" if side == "image" else "text", side, vector)]
    return _finish(reading)


def _start(index: Index, query: Query) -> _Reading:
    """Read a query's texts: its filter, its expression over findings, its phrase.

    Raises:
        UsageError: one of them cannot be understood, or asks for what it denies.
    """
    conditions: list[Condition] = []
    if query.where is not None:
        conditions.append(parse_where(query.where, index.catalog.own_fields()))
    asked = Asked() if query.text is None else read_text(query.text)
    texts: list[tuple[Part, str]] = []
    phrase = asked.words
    if query.finding is not None:
        expression = parse_findings(query.finding)
        refuse_contradiction(expression)
        conditions.append(expression)
        named = wanted(expression)
        told = ", ".join(map(describe, named))
        phrase = f"{phrase} {told}".strip()
        asked = replace(asked, wished=tuple(dict.fromkeys((*asked.wished, *named))))
        texts.append(("finding", told or query.finding))
    conditions += [Not(Comparison("finding", "=", name)) for name in asked.excluded]
    if query.text is not None:
        denies = any(concept.status is Status.ABSENT for concept in asked.wished)
        alone = not (query.image or query.case or query.like or query.finding)
        if asked.words:
            # A wish that also denies is encoded without what it denies: the vector would bring just that.
            texts.append(("text", asked.words if denies else query.text))
        elif alone:
            texts.append(("text", query.text))
    where = None if not conditions else conditions[0] if len(conditions) == 1 else And(tuple(conditions))
    subjects = set() if query.subject is None else matching_subjects(query.subject)
    return _Reading(query, where, asked, phrase, texts, subjects=subjects)


def _read(index: Index, query: Query) -> _Reading:
    """Read every part of a query that needs no encoder."""
    reading = _start(index, query)
    if query.location is not None and query.region is not None:
        reading.subjects |= _add_region(index, reading, query.location, query.region).subjects
    elif query.location is not None:
        reading.subjects |= _add_picture(index, reading, "image", query.location).subjects
    if query.case is not None:
        case = _add_case(index, reading, "case", query.case)
        reading.subjects.add(case.subject_id)
        reading.asked = replace(reading.asked, described=(*reading.asked.described, *case.shows))
    for part, examples in (("like", query.like), ("dislike", query.dislike)):
        for example in dict.fromkeys(examples):
            if is_picture(example):
                reading.examples |= _add_picture(index, reading, part, example).studies  # type: ignore[arg-type]
            else:
                _add_case(index, reading, part, example)  # type: ignore[arg-type]
                reading.examples.add(example)
    return reading


def _add_picture(index: Index, reading: _Reading, part: Part, location: str) -> Shown:
    began = perf_counter()
    read_already = reading.query.picture if part == "image" else None
    shown = show(index, read_already or read_picture(location))
    reading.pictures.append((part, shown))
    reading.notes += shown.picture.notes
    reading.took = replace(reading.took, decode=reading.took.decode + _since(began))
    if part == "image" and not shown.studies:  # one that the index holds is of its kind
        _look_whether_refused(index, reading, shown)
    return shown


def _look_whether_refused(index: Index, reading: _Reading, shown: Shown) -> None:
    encoder = index.encoder  # before the clock: to load it is part of the start-up
    began = perf_counter()
    reading.refused = refusal(index, encoder, shown.picture)
    reading.took = replace(reading.took, encode=reading.took.encode + _since(began))


def _add_region(index: Index, reading: _Reading, location: str, box: Box) -> Shown:
    """Take the patches of a box of a picture; the rest of the picture is not searched with."""
    if index.collection("patch") not in index.store.collections():
        raise UsageError(
            "this index holds no patches, which a region is looked for in: run `similarity index add SOURCE "
            "--patches`"
        )
    began = perf_counter()
    shown = show(index, reading.query.picture or read_picture(location))
    reading.notes += shown.picture.notes
    decoded = perf_counter()
    encoder = index.encoder  # before the clock: to load it is part of the start-up
    loaded = perf_counter()
    pixels = shown.picture.pixels
    patches = encoder.encode_patches([pixels])
    if not shown.studies:
        reading.refused = refusal(index, encoder, shown.picture)
    height, width = pixels.shape
    reading.region = cut(patches.vectors[0], patches.image_size, height, width, box)
    reading.took = replace(
        reading.took,
        decode=reading.took.decode + (decoded - began) * 1000,
        encode=reading.took.encode + _since(loaded),
    )
    return shown


def _add_case(index: Index, reading: _Reading, part: Part, study_id: str) -> Recalled:
    began = perf_counter()
    case = recall(index, study_id)
    reading.found += [(part, side, vector) for side, vector in case.vectors]
    reading.took = replace(reading.took, catalog=reading.took.catalog + _since(began))
    return case


def _encode_pictures(index: Index, readings: Sequence[_Reading]) -> None:
    waiting = [(reading, part, shown.picture) for reading in readings for part, shown in reading.pictures]
    if not waiting:
        return
    encoder = index.encoder  # before the clock: to load it is part of the start-up
    began = perf_counter()
    vectors = encoder.encode_images([picture.pixels for _, _, picture in waiting])
    each = _since(began) / len(waiting)
    for (reading, part, _), vector in zip(waiting, vectors, strict=True):
        reading.found.append((part, "image", vector))
        reading.took = replace(reading.took, encode=reading.took.encode + each)


def _encode_texts(index: Index, readings: Sequence[_Reading]) -> None:
    """Encode phrases. Equal text does not make a query someone's own: many normal reports read alike."""
    waiting = [(reading, part, text) for reading in readings for part, text in reading.texts]
    if not waiting:
        return
    encoder = index.encoder  # before the clock, as above
    began = perf_counter()
    vectors = encoder.encode_texts([text for _, _, text in waiting])
    each = _since(began) / len(waiting)
    for (reading, part, _), vector in zip(waiting, vectors, strict=True):
        reading.found.append((part, "text", vector))
        reading.took = replace(reading.took, encode=reading.took.encode + each)


def _finish(reading: _Reading) -> Understood:
    return Understood(
        reading.query,
        reading.where,
        reading.asked,
        reading.phrase,
        combine(reading.found),
        frozenset(reading.subjects),
        frozenset(reading.examples),
        reading.region,
        reading.took,
        reading.refused,
        tuple(reading.notes),
    )


def _since(began: float) -> float:
    return (perf_counter() - began) * 1000
