"""Encoding: from queries to the vectors, filters and findings that they are searched with.

Images and texts of several queries go through the encoder in one batch each. Vectors of cases are fetched
from the index. Texts are parsed for the findings that they ask for.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from corpus.errors import SimilarityError, UsageError
from corpus.findings import Status
from corpus.geometry import Box
from corpus.redaction import redacted
from corpus.subjects import matching_subjects
from indexer.index import Index
from indexer.vectors.filters import Comparison, Condition, Not
from retrieval.query.feedback import Part, QueryVector, Tower, Vector, apply_feedback
from retrieval.query.filters import conjunction, parse_where
from retrieval.query.finding_expression import affirmed_findings, parse_findings, refuse_contradiction
from retrieval.query.intent import Intent, describe, read_text
from retrieval.query.query import Query
from retrieval.query.references import IdentifiedImage, ReferencedCase, fetch_case, identify_image, is_image
from retrieval.query.region import Region, crop_region
from retrieval.reliability.apply import apply_detector
from retrieval.timing import Stopwatch, Took

if TYPE_CHECKING:
    from retrieval.query.image import QueryImage


@redacted
@dataclass(frozen=True, slots=True)
class EncodedQuery:
    """A query ready to be searched.

    Attributes:
        query: the query.
        where: the condition that every hit meets: the filter, the expression over findings, and no finding
            that a phrase denies.
        intent: the findings that a text or the query's case asks for.
        phrase: the affirmed words, which the words of reports are ranked by (BM25).
        vectors: the vectors to search with.
        subjects: subject_ids of the query's own subject; their studies are no hits.
        examples: study_ids of liked and disliked examples; they are no hits either.
        region: the patches of a box of the image.
        took: the time that decoding and encoding took.
        refused: why the image is out of distribution, in a sentence; None where it is not.
        notes: of the images, see `corpus.images.reader.ImageRead`.
    """

    query: Query
    where: Condition | None
    intent: Intent
    phrase: str
    vectors: tuple[QueryVector, ...]
    subjects: frozenset[str]
    examples: frozenset[str] = frozenset()
    region: Region | None = None
    took: Took = field(default_factory=Took)
    refused: str | None = None
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The query as an answer repeats it, with how its text was understood."""
        query = self.query.as_json()
        if self.query.text is None and self.query.finding is None:
            return query
        understood = {**self.intent.as_json(), "words": self.phrase, "language": self.intent.language}
        return {**query, "understood": understood}


@redacted
@dataclass(slots=True)
class _Encoding:
    """A query that is being encoded: see `EncodedQuery`; `texts` and `images` wait for the encoder."""

    query: Query
    where: Condition | None
    intent: Intent
    phrase: str = ""
    texts: list[tuple[Part, str]] = field(default_factory=list)
    images: list[tuple[Part, "QueryImage"]] = field(default_factory=list)
    vectors: list[QueryVector] = field(default_factory=list)
    subjects: set[str] = field(default_factory=set)
    examples: set[str] = field(default_factory=set)
    region: Region | None = None
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    refused: str | None = None
    notes: list[str] = field(default_factory=list)

    def finish(self) -> EncodedQuery:
        """Return the encoded query, relevance feedback applied."""
        return EncodedQuery(
            self.query,
            self.where,
            self.intent,
            self.phrase,
            apply_feedback(self.vectors),
            frozenset(self.subjects),
            frozenset(self.examples),
            self.region,
            self.stopwatch.took,
            self.refused,
            tuple(self.notes),
        )


def encode_queries(index: Index, queries: Sequence[Query]) -> list[EncodedQuery | SimilarityError]:
    """Encode queries together: their images in one batch, their texts in another.

    Returns:
        In the order of the queries; in the place of one that cannot be encoded, the reason.
    """
    prepared: list[_Encoding | SimilarityError] = []
    for query in queries:
        try:
            prepared.append(_resolve(index, query))
        except SimilarityError as error:
            prepared.append(error)
    encodings = [encoding for encoding in prepared if isinstance(encoding, _Encoding)]
    _encode_images(index, encodings)
    _encode_texts(index, encodings)
    return [encoding.finish() if isinstance(encoding, _Encoding) else encoding for encoding in prepared]


def encode_with_vector(index: Index, query: Query, tower: Tower, vector: Vector) -> EncodedQuery:
    """Return a query with a ready vector, for benchmarks and for services that encode elsewhere."""
    encoding = _parse(index, query)
    encoding.vectors = [QueryVector(tower, tower, vector)]
    return encoding.finish()


def _parse(index: Index, query: Query) -> _Encoding:
    """Parse a query's texts: its filter, its expression over findings, its phrase.

    Raises:
        UsageError: one of them cannot be parsed, or asks for what it denies.
    """
    conditions: list[Condition] = []
    if query.where is not None:
        conditions.append(parse_where(query.where, index.own_fields))
    intent = Intent() if query.text is None else read_text(query.text)
    texts: list[tuple[Part, str]] = []
    phrase = intent.words
    if query.finding is not None:
        expression = parse_findings(query.finding)
        refuse_contradiction(expression)
        conditions.append(expression)
        affirmed = affirmed_findings(expression)
        names = ", ".join(map(describe, affirmed))
        phrase = f"{phrase} {names}".strip()
        intent = replace(intent, wished=tuple(dict.fromkeys((*intent.wished, *affirmed))))
        texts.append(("finding", names or query.finding))
    conditions += [Not(Comparison("finding", "=", name)) for name in intent.excluded]
    if query.text is not None:
        denies = any(concept.status is Status.ABSENT for concept in intent.wished)
        alone = not (query.image or query.case or query.like or query.finding)
        if intent.words:
            # A phrase that also denies is encoded without what it denies: the vector would bring just that.
            texts.append(("text", intent.words if denies else query.text))
        elif alone:
            texts.append(("text", query.text))
    subjects = set() if query.subject is None else matching_subjects(query.subject)
    return _Encoding(query, conjunction(conditions), intent, phrase, texts, subjects=subjects)


def _resolve(index: Index, query: Query) -> _Encoding:
    """Parse a query's texts, decode its images, and fetch the cases that it refers to."""
    encoding = _parse(index, query)
    if query.location is not None and query.region is not None:
        encoding.subjects |= _encode_region(index, encoding, query.location, query.region).subjects
    elif query.location is not None:
        encoding.subjects |= _add_image(index, encoding, "image", query.location).subjects
    if query.case is not None:
        case = _add_case(index, encoding, "case", query.case)
        encoding.subjects.add(case.subject_id)
        described = (*encoding.intent.described, *case.concepts)
        encoding.intent = replace(encoding.intent, described=described)
    parts: tuple[tuple[Part, tuple[str, ...]], ...] = (("like", query.like), ("dislike", query.dislike))
    for part, examples in parts:
        for example in dict.fromkeys(examples):
            if is_image(example):
                encoding.examples |= _add_image(index, encoding, part, example).studies
            else:
                _add_case(index, encoding, part, example)
                encoding.examples.add(example)
    return encoding


def _add_image(index: Index, encoding: _Encoding, part: Part, location: str) -> IdentifiedImage:
    identified = _decode(index, encoding, location, encoding.query.decoded if part == "image" else None)
    encoding.images.append((part, identified.image))
    if part == "image" and not identified.studies:  # one that the index holds is in distribution
        encoder = index.encoder  # before it is timed: to load it is part of the start-up
        with encoding.stopwatch.measure("encode"):
            encoding.refused = apply_detector(index, encoder, identified.image)
    return identified


def _encode_region(index: Index, encoding: _Encoding, location: str, box: Box) -> IdentifiedImage:
    """Encode the patches of a box of an image; the rest of the image is not searched with."""
    if index.collection("patch") not in index.store.collections():
        raise UsageError(
            "this index holds no patches, which a region is looked for in: run `similarity index add SOURCE "
            "--patches`"
        )
    identified = _decode(index, encoding, location, encoding.query.decoded)
    encoder = index.encoder  # before it is timed: to load it is part of the start-up
    with encoding.stopwatch.measure("encode"):
        pixels = identified.image.pixels
        patches = encoder.encode_patches([pixels])
        if not identified.studies:
            encoding.refused = apply_detector(index, encoder, identified.image)
        height, width = pixels.shape
        encoding.region = crop_region(patches.vectors[0], patches.image_size, height, width, box)
    return identified


def _decode(
    index: Index, encoding: _Encoding, location: str, decoded: "QueryImage | None"
) -> IdentifiedImage:
    from retrieval.query.image import read_query_image  # late: DICOM, which no phrase needs

    with encoding.stopwatch.measure("decode"):
        identified = identify_image(index, decoded or read_query_image(location))
    encoding.notes += identified.image.notes
    return identified


def _add_case(index: Index, encoding: _Encoding, part: Part, study_id: str) -> ReferencedCase:
    with encoding.stopwatch.measure("catalog"):
        case = fetch_case(index, study_id)
    encoding.vectors += [QueryVector(part, tower, vector) for tower, vector in case.vectors]
    return case


def _encode_images(index: Index, encodings: Sequence[_Encoding]) -> None:
    waiting = [(encoding, part, image) for encoding in encodings for part, image in encoding.images]
    if not waiting:
        return
    encoder = index.encoder  # before it is timed, as above
    batch = Stopwatch()
    with batch.measure("encode"):
        vectors = encoder.encode_images([image.pixels for _, _, image in waiting])
    for (encoding, part, _), vector in zip(waiting, vectors, strict=True):
        encoding.vectors.append(QueryVector(part, "image", vector))
        encoding.stopwatch.add("encode", batch.took.encode / len(waiting))


def _encode_texts(index: Index, encodings: Sequence[_Encoding]) -> None:
    """Encode phrases. Equal text does not make a query a subject's own: many normal reports read the same."""
    waiting = [(encoding, part, text) for encoding in encodings for part, text in encoding.texts]
    if not waiting:
        return
    encoder = index.encoder  # before it is timed, as above
    batch = Stopwatch()
    with batch.measure("encode"):
        vectors = encoder.encode_texts([text for _, _, text in waiting])
    for (encoding, part, _), vector in zip(waiting, vectors, strict=True):
        encoding.vectors.append(QueryVector(part, "text", vector))
        encoding.stopwatch.add("encode", batch.took.encode / len(waiting))
