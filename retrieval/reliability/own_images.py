"""The films of an index, asked about as if they were new: what a calibration learns from.

Only people whom the encoder did not learn from tell how it does on new ones; films of the others are left
out, by the keyed hashes in the encoder's record.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from corpus.records import Study
from corpus.redaction import redacted
from indexer.catalog.models import ItemRow, LedgerRow, StudyRow
from indexer.index import Index
from trainer.runtime.training_overlap import seen_among

MOST_FILMS = 1_000
"""Films that are asked about at most: what is learned hardly changes with more."""


@redacted
@dataclass(frozen=True, slots=True)
class Film:
    """A film of the index. `vector`: (dim,) float32 unit, as it is stored."""

    study: Study
    location: str
    view: str | None
    vector: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class OwnFilms:
    """Films of people new to the encoder, in an order that no property of them decides.

    `seen`: how many films were left out because the encoder learned from their people.
    """

    films: tuple[Film, ...]
    seen: int

    @property
    def known(self) -> tuple[Film, ...]:
        """Those that something is known of."""
        return tuple(film for film in self.films if film.study.findings)

    def one_each(self) -> tuple[Film, ...]:
        """One film that something is known of for each person: people are exchangeable, films of one are
        not.
        """
        first: dict[str, Film] = {}
        for film in self.known:
            first.setdefault(film.study.subject_id, film)
        return tuple(first.values())


def own_films(index: Index, most: int = MOST_FILMS, *, new_only: bool = True) -> OwnFilms:
    """Take films of the index, at most so many.

    Args:
        index: the index.
        most: how many.
        new_only: leave out people whom the encoder learned from.

    Raises:
        EmptyIndex: nothing was indexed yet.
    """
    rows = list(_rows(index))
    people = {row.subject_id for row in rows}
    seen = seen_among(index.encoder.record, people) if new_only else frozenset()
    new = [row for row in rows if row.subject_id not in seen]
    chosen = new[:most]
    vectors = _vectors(index, [row.point_id for row in chosen])
    studies = index.catalog.studies(row.study_id for row in chosen)
    films = tuple(
        Film(studies[row.study_id], row.location or "", row.view, vectors[row.point_id])
        for row in chosen
        if row.point_id in vectors and row.study_id in studies
    )
    return OwnFilms(films, len(rows) - len(new))


def _rows(index: Index) -> Iterator[sa.Row[str, str, UUID, str | None, str | None]]:
    """Every film of the active version, by the keyed hash of its study: an order without meaning."""
    statement = (
        sa.select(StudyRow.study_id, StudyRow.subject_id, ItemRow.point_id, ItemRow.location, ItemRow.view)
        .join(ItemRow, ItemRow.study_id == StudyRow.study_id)
        .join(LedgerRow, LedgerRow.point_id == ItemRow.point_id)
        .where(LedgerRow.fingerprint == index.active_version.fingerprint, LedgerRow.kind == "image")
        .order_by(StudyRow.study_key, ItemRow.position)
    )
    with index.catalog.engine.connect() as connection:
        yield from connection.execute(statement)


def _vectors(index: Index, points: list[UUID]) -> dict[UUID, NDArray[np.float32]]:
    collection = index.collection("image")
    if not points or collection not in index.store.collections():
        return {}
    return {point.id: point.vector for point in index.store.fetch(collection, points)}
