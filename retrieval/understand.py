"""From a query to vectors: decode the picture, encode picture or phrase, or take a case's stored vectors; and
find out whose query it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from corpus.errors import IndexingError, SimilarityError, UsageError
from indexer.index import Index
from indexer.vectors.conditions import Condition
from retrieval.answer import Took
from retrieval.lookup import study_by_id, subjects_with
from retrieval.picture import read_picture
from retrieval.query import Query
from retrieval.where import parse_where

Side = Literal["image", "text"]
Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Probe:
    """A vector to search with. `side`: what it was made of. `vector`: (dim,) float32 unit."""

    side: Side
    vector: Vector


@dataclass(frozen=True, slots=True)
class Understood:
    """A query ready to be searched. `subjects`: subject_ids whose studies are the query's own."""

    query: Query
    where: Condition | None
    probes: tuple[Probe, ...]
    subjects: frozenset[str]
    took: Took = field(default_factory=Took)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A query whose filter is read."""

    query: Query
    where: Condition | None


@dataclass(frozen=True, slots=True)
class _Picture:
    """A decoded query picture: (height, width) float32 in [0, 1], and whose it is."""

    asked: _Asked
    pixels: Vector
    subjects: frozenset[str]
    milliseconds: float


def understand(index: Index, queries: Sequence[Query]) -> list[Understood | SimilarityError]:
    """Prepare queries together: pictures go through the encoder in one batch, texts in another.

    Returns:
        In the order of the queries; in the place of one that cannot be understood, the reason.
    """
    results: dict[int, Understood | SimilarityError] = {}
    pictures: dict[int, _Picture] = {}
    texts: dict[int, _Asked] = {}
    for place, query in enumerate(queries):
        try:
            asked = _Asked(query, read_filter(index, query))
            if query.image is not None:
                pictures[place] = _decode(index, asked, query.image)
            elif query.case is not None:
                results[place] = _recall(index, asked, query.case)
            else:
                texts[place] = asked
        except SimilarityError as error:
            results[place] = error
    results |= _encode_pictures(index, pictures)
    results |= _encode_texts(index, texts)
    return [results[place] for place in range(len(queries))]


def read_filter(index: Index, query: Query) -> Condition | None:
    """The query's filter, over the fields that this index has.

    Raises:
        UsageError: it cannot be understood.
    """
    return None if query.where is None else parse_where(query.where, index.catalog.own_fields())


def _decode(index: Index, asked: _Asked, image: str) -> _Picture:
    """Read a picture; its subject is told by equal pixels in the index and by its DICOM header."""
    began = perf_counter()
    picture = asked.query.picture or read_picture(image)
    subjects = {f"dicom:{picture.patient}"} if picture.patient else set()
    with index.catalog.engine.connect() as connection:
        subjects |= subjects_with(connection, picture.content)
    return _Picture(asked, picture.pixels, frozenset(subjects), _since(began))


def _encode_pictures(index: Index, pictures: Mapping[int, _Picture]) -> dict[int, Understood]:
    if not pictures:
        return {}
    began = perf_counter()
    vectors = index.encoder.encode_images([picture.pixels for picture in pictures.values()])
    each = _since(began) / len(pictures)
    return {
        place: Understood(
            picture.asked.query,
            picture.asked.where,
            (Probe("image", vector),),
            picture.subjects | _named(picture.asked.query),
            Took(decode=picture.milliseconds, encode=each),
        )
        for (place, picture), vector in zip(pictures.items(), vectors, strict=True)
    }


def _encode_texts(index: Index, texts: Mapping[int, _Asked]) -> dict[int, Understood]:
    """Encode phrases. Equal text does not make a query someone's own: many normal reports read alike."""
    if not texts:
        return {}
    began = perf_counter()
    vectors = index.encoder.encode_texts([asked.query.text or "" for asked in texts.values()])
    each = _since(began) / len(texts)
    return {
        place: Understood(
            asked.query, asked.where, (Probe("text", vector),), _named(asked.query), Took(encode=each)
        )
        for (place, asked), vector in zip(texts.items(), vectors, strict=True)
    }


def _recall(index: Index, asked: _Asked, case: str) -> Understood:
    """Take the stored vectors of a case: its pictures and its report."""
    began = perf_counter()
    with index.catalog.engine.connect() as connection:
        known = study_by_id(connection, case)
    if known is None:
        raise UsageError(f"the index has no case {case!r}; an id is <source>:<the set's own name>")
    probes = []
    for kind, side in (("image", "image"), ("report", "text")):
        wanted = [item.point for item in known.items if item.kind == kind]
        collection = index.collection(kind)
        if wanted and collection in index.store.collections():
            found = {point.id: point.vector for point in index.store.fetch(collection, wanted)}
            probes += [Probe(side, found[point]) for point in wanted if point in found]  # type: ignore[arg-type]
    if not probes:
        raise IndexingError(
            f"the index holds no vector of {case!r} by {index.active_version.name}: "
            "run `similarity index add` with that encoder"
        )
    subjects = _named(asked.query) | {known.case.subject_id}
    return Understood(asked.query, asked.where, tuple(probes), subjects, Took(catalog=_since(began)))


def _named(query: Query) -> frozenset[str]:
    return frozenset() if query.subject is None else frozenset({query.subject})


def _since(began: float) -> float:
    return (perf_counter() - began) * 1000


def with_vector(index: Index, query: Query, side: Side, vector: Vector) -> Understood:
    """A query whose vector is already made, for benchmarks and services that encode elsewhere."""
    return Understood(query, read_filter(index, query), (Probe(side, vector),), _named(query))
