"""Reading the catalog: what a case is. Text, identity and everything else about a case live here.

Writing is `indexer.catalog.ledger`'s, in one transaction a step. Nothing here is cached: an answer is what
the database holds now.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import InstrumentedAttribute, Session

from corpus.findings import Status
from corpus.language.report_languages import ReportLanguages
from corpus.records import ImageRef, Problem, Report, Section, Study
from corpus.redaction import redacted
from indexer.catalog.database import repeated
from indexer.catalog.models import (
    EncoderRow,
    FilterFieldRow,
    ItemRow,
    LedgerRow,
    ProblemRow,
    SentenceRow,
    SentenceUseRow,
    StudyRow,
)
from indexer.vectors.filters import CASE_FIELDS, FieldType

_CHUNK = 1_000  # ids a statement: far under what any database takes

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Version:
    """An encoder whose vectors the index holds. `state`: active, building, or retired."""

    fingerprint: str
    name: str
    dim: int
    folder: str
    state: str


@redacted
@dataclass(frozen=True, slots=True)
class Item:
    """A picture or report that has a vector. `content`: hash of its pixels or text."""

    item_id: str
    study_id: str
    point_id: UUID
    kind: str
    location: str | None
    content: str


@redacted
@dataclass(frozen=True, slots=True)
class SentenceUse:
    """One place where a sentence stands: item id is `<study_id>#report.<position>`."""

    study_id: str
    position: int

    @property
    def item_id(self) -> str:
        """The contract's id of this sentence in this report."""
        return f"{self.study_id}#report.{self.position}"


@redacted
@dataclass(frozen=True, slots=True)
class Sentence:
    """A distinct sentence and every place where it stands, in order of study and position."""

    point_id: UUID
    text: str
    uses: tuple[SentenceUse, ...]


class Catalog:
    """The catalog of one index, for reading. Threads may share it."""

    def __init__(self, engine: sa.Engine) -> None:
        """Read through this engine, whose tables are up to date (`database.open_database`)."""
        self.engine = engine

    @repeated
    def versions(self) -> list[Version]:
        """The encoders that the index holds vectors of, oldest first."""
        with self.engine.connect() as connection:
            return [Version(*row) for row in connection.execute(_VERSIONS)]

    def active_version(self) -> Version | None:
        """The version that searches use; None before the first `index add`."""
        return next((version for version in self.versions() if version.state == "active"), None)

    def filter_fields(self) -> dict[str, FieldType]:
        """Every field that one can filter on, and the type of its values.

        A table's own column bears its own name, or `attr.<name>` where that is a known field's.
        """
        return {**CASE_FIELDS, **self.own_fields()}

    @repeated
    def own_fields(self) -> dict[str, FieldType]:
        """Of the filter fields, those that tables brought."""
        with self.engine.connect() as connection:
            rows = connection.execute(sa.select(FilterFieldRow.name, FilterFieldRow.type)).all()
        return {name: FieldType(kind) for name, kind in sorted(map(tuple, rows))}

    def studies(self, study_ids: Iterable[str]) -> dict[str, Study]:
        """The studies of these ids, whole; an id that is not there is left out."""
        return self._studies(StudyRow.study_id, study_ids)

    def studies_by_key(self, study_keys: Iterable[str]) -> dict[str, Study]:
        """Keyed hash → study."""
        keys = list(study_keys)
        ids: dict[str, str] = {}
        for chunk in chunks(keys):
            found = self._rows(sa.select(StudyRow.study_key, StudyRow.study_id), StudyRow.study_key, chunk)
            ids |= {row.study_key: row.study_id for row in found}
        studies = self.studies(ids.values())
        return {key: studies[study_id] for key, study_id in ids.items() if study_id in studies}

    def images_of_studies(self, study_ids: Iterable[str]) -> dict[str, list[ImageRef]]:
        """Study → its pictures, in the study's own order; an id that is not there is left out."""
        found: dict[str, list[ImageRef]] = {}
        columns = (ItemRow.item_id, ItemRow.location, ItemRow.view, ItemRow.modality)
        pictures = sa.and_(ItemRow.study_id == StudyRow.study_id, ItemRow.kind == "image")
        chosen = sa.select(StudyRow.study_id, *columns).outerjoin(ItemRow, pictures)
        for chunk in chunks(study_ids):
            for study_id, item_id, location, view, modality in self._rows(
                chosen.order_by(ItemRow.position), StudyRow.study_id, chunk
            ):
                images = found.setdefault(study_id, [])
                if item_id is not None:
                    images.append(ImageRef(item_id, location or "", view, modality))
        return found

    def study_ids_of_subject(self, subject_id: str) -> list[str]:
        """The studies of one person, newest first (those without a date last)."""
        newest_first = sa.select(StudyRow.study_id).where(StudyRow.subject_id == subject_id)
        newest_first = newest_first.order_by(StudyRow.date.is_(None), StudyRow.date.desc(), StudyRow.study_id)
        with self.engine.connect() as connection:
            return list(connection.scalars(newest_first))

    def study_ids_of_content(self, contents: Iterable[str]) -> list[str]:
        """The studies that hold a picture or a report of this very content.

        Args:
            contents: hashes as in `Item.content`: `corpus.images.reader.content_hash` of a picture, or
                `indexer.ingest.payload.text_hash` of what a report says of the film.
        """
        found: set[str] = set()
        for chunk in chunks(contents):
            found |= {s for (s,) in self._rows(sa.select(ItemRow.study_id), ItemRow.content, chunk)}
        return sorted(found)

    def items_of_points(self, points: Iterable[UUID]) -> dict[UUID, Item]:
        """Point → the picture or report whose vector it is."""
        found: dict[UUID, Item] = {}
        for chunk in chunks(points):
            for row in self._rows(_ITEM, ItemRow.point_id, chunk):
                found[row.point_id] = Item(*row)
        return found

    def items_of_studies(self, study_ids: Iterable[str]) -> dict[str, list[Item]]:
        """Study → its pictures and report, in the study's own order."""
        found: dict[str, list[Item]] = {}
        for chunk in chunks(study_ids):
            for row in self._rows(
                _ITEM.order_by(ItemRow.study_id, ItemRow.position), ItemRow.study_id, chunk
            ):
                found.setdefault(row.study_id, []).append(Item(*row))
        return found

    def sentences_of_points(self, points: Iterable[UUID]) -> dict[UUID, Sentence]:
        """Point → the sentence whose vector it is, with every study that holds it."""
        texts: dict[UUID, str] = {}
        uses: dict[UUID, list[SentenceUse]] = {}
        for chunk in chunks(points):
            said = self._rows(sa.select(SentenceRow.point_id, SentenceRow.text), SentenceRow.point_id, chunk)
            texts |= {row.point_id: row.text for row in said}
            places = sa.select(SentenceUseRow.point_id, SentenceUseRow.study_id, SentenceUseRow.position)
            places = places.order_by(SentenceUseRow.study_id, SentenceUseRow.position)
            for point, study_id, position in self._rows(places, SentenceUseRow.point_id, chunk):
                uses.setdefault(point, []).append(SentenceUse(study_id, position))
        return {point: Sentence(point, text, tuple(uses.get(point, ()))) for point, text in texts.items()}

    def sentence_points_of_studies(self, study_ids: Iterable[str]) -> set[UUID]:
        """The sentences that these studies hold."""
        found: set[UUID] = set()
        for chunk in chunks(study_ids):
            rows = self._rows(sa.select(SentenceUseRow.point_id), SentenceUseRow.study_id, chunk)
            found |= {point for (point,) in rows}
        return found

    def study_ids(self) -> Iterator[str]:
        """Every study's id, sorted, read as a stream."""
        with self.engine.connect() as connection:
            result = connection.execution_options(yield_per=_CHUNK).scalars(
                sa.select(StudyRow.study_id).order_by(StudyRow.study_id)
            )
            yield from result

    @repeated
    def problems(self) -> list[Problem]:
        """What did not become part of the index, by item id."""
        with Session(self.engine) as session:
            rows = session.scalars(sa.select(ProblemRow).order_by(ProblemRow.item_id)).all()
            return [Problem(r.item_id, r.state, r.reason, r.location) for r in rows]  # type: ignore[arg-type]

    @repeated
    def counts(self) -> dict[str, dict[str, int]]:
        """How much there is: studies by source, done vectors by kind, problems by state."""
        grouped: dict[str, InstrumentedAttribute[str]] = {
            "studies": StudyRow.source,
            "vectors": LedgerRow.kind,
            "problems": ProblemRow.state,
        }
        with self.engine.connect() as connection:
            return {
                name: {
                    key: int(n)
                    for key, n in connection.execute(
                        sa.select(column, sa.func.count()).group_by(column).order_by(column)
                    )
                }
                for name, column in grouped.items()
            }

    def report_languages(self) -> ReportLanguages:
        """How many reports are in which language, and of how many no findings were read."""
        counted = ReportLanguages()
        columns = (StudyRow.language, StudyRow.findings_read)
        select = sa.select(*columns, sa.func.count()).where(StudyRow.sections.is_not(None)).group_by(*columns)
        with self.engine.connect() as connection:
            for language, read, count in connection.execute(select):
                counted.by_language[language or "unknown"] += count
                counted.findings_unread += count if read is False else 0
        return counted

    def _studies(self, column: InstrumentedAttribute[str], values: Iterable[str]) -> dict[str, Study]:
        studies: dict[str, Study] = {}
        for chunk in chunks(values):
            rows = self._rows(sa.select(*StudyRow.__table__.columns), column, chunk)
            pictures: dict[str, list[ImageRef]] = {}
            columns = (
                ItemRow.item_id,
                ItemRow.location,
                ItemRow.view,
                ItemRow.modality,
                ItemRow.instance_key,
            )
            images = sa.select(ItemRow.study_id, *columns).where(ItemRow.kind == "image")
            for study_id, item_id, location, view, modality, key in self._rows(
                images.order_by(ItemRow.position), ItemRow.study_id, [row.study_id for row in rows]
            ):
                image = ImageRef(item_id, location or "", view, modality, instance_key=key)
                pictures.setdefault(study_id, []).append(image)
            studies |= {row.study_id: _study(row, pictures.get(row.study_id, ())) for row in rows}
        return studies

    @repeated
    def _rows(
        self,
        select: sa.Select[*tuple[Any, ...]],
        column: InstrumentedAttribute[Any],
        values: Collection[Any],
    ) -> Sequence[Any]:
        if not values:
            return []
        with self.engine.connect() as connection:
            return connection.execute(select.where(column.in_(values))).all()


_VERSIONS = sa.select(
    EncoderRow.fingerprint, EncoderRow.name, EncoderRow.dim, EncoderRow.folder, EncoderRow.state
).order_by(EncoderRow.created)

_ITEM = sa.select(
    ItemRow.item_id, ItemRow.study_id, ItemRow.point_id, ItemRow.kind, ItemRow.location, ItemRow.content
)


def chunks(values: Iterable[Value]) -> Iterator[list[Value]]:
    """Lists short enough for one statement, without repeats."""
    remaining = list(dict.fromkeys(values))
    for start in range(0, len(remaining), _CHUNK):
        yield remaining[start : start + _CHUNK]


def _study(row: Any, images: Iterable[ImageRef]) -> Study:
    report = None
    if row.sections is not None:
        sections = tuple(Section(name, text) for name, text in row.sections)
        read = row.findings_read is not False
        report = Report(f"{row.study_id}#report", sections, row.language, read)
    findings: Mapping[str, Status] = {name: Status(status) for name, status in row.findings.items()}
    return Study(
        study_id=row.study_id,
        subject_id=row.subject_id,
        source=row.source,
        images=tuple(images),
        report=report,
        findings=findings,
        diagnosis=row.diagnosis,
        age=row.age,
        sex=row.sex,
        date=row.date,
        accession=row.accession,
        study_uid=row.study_uid,
        attributes=row.attributes,
        birth_key=row.birth_key,
        shared_key=row.shared_key if row.subject_id == row.study_id else None,
    )
