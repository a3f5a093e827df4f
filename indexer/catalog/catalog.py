"""The catalog, for reading: everything about a case beside its vectors.

`indexer.catalog.ledger` writes it, in one transaction a step. Nothing here is cached: an answer is what the
database contains now.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import InstrumentedAttribute, Session

from corpus.errors import IndexingError
from corpus.language.detection import ReportLanguages
from corpus.records import ImageRef, Problem, Report, Section, Study
from corpus.redaction import redacted
from indexer.catalog.database import open_database, repeated
from indexer.catalog.identity import Identity, has_points, name_of_database, read_identity
from indexer.catalog.ledger_records import DOUBTFUL
from indexer.catalog.models import (
    ItemRow,
    LedgerRow,
    ProblemRow,
    SentenceRow,
    StudyRow,
)
from indexer.catalog.rows import CHUNK, chunks, study_of_row
from indexer.catalog.state import (
    ACTIVE,
    CatalogState,
    Version,
    read_own_fields,
    read_state,
    read_versions,
)
from indexer.catalog.studies import Reading, StoredItem
from indexer.home import Home
from indexer.retries import RetryPolicy
from indexer.servers import Servers
from indexer.vectors.filters import CASE_FIELDS, FieldType


@redacted
@dataclass(frozen=True, slots=True)
class VersionImage:
    """An image with a vector in a version. `point`: id of the vector."""

    study_id: str
    subject_id: str
    point: UUID
    location: str | None
    view: str | None


class Catalog:
    """The catalog of one index, for reading. Threads may share it."""

    def __init__(self, engine: sa.Engine) -> None:
        """Read through this engine; its tables are migrated (`open` opens one)."""
        self.engine = engine

    @classmethod
    def open(
        cls,
        home: Home,
        retry: RetryPolicy | None = None,
        *,
        read_only: bool = False,
        servers: Servers | None = None,
    ) -> "Catalog":
        """Open the catalog of a home and migrate its tables; see `database.open_database`. `close` it."""
        return cls(open_database(home, retry, read_only=read_only, servers=servers))

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    @property
    def name(self) -> str:
        """Which database it is in, for messages: no user, no password, no options."""
        return name_of_database(self.engine)

    @repeated
    def identity(self) -> Identity:
        """Return what distinguishes this index from every other.

        Raises:
            IndexingError: no version that knows identities has opened the catalog yet.
        """
        identity = read_identity(self.engine)
        if identity is None:
            raise IndexingError(f"{self.name} has no identity yet: any command on the index gives it one")
        return identity

    @repeated
    def has_points(self) -> bool:
        """Return whether the ledger has a point, of whichever version."""
        return has_points(self.engine)

    def ping(self) -> None:
        """Ask the database for nothing: it raises where the database does not answer."""
        with self.engine.connect() as connection:
            connection.execute(sa.text("SELECT 1"))

    @contextmanager
    def reading(self) -> Iterator[Reading]:
        """Open one connection for several reads of studies."""
        with self.engine.connect() as connection:
            yield Reading(connection)

    @repeated
    def state(self) -> CatalogState:
        """Return what every search relies on beside studies."""
        with self.engine.connect() as connection:
            return read_state(connection)

    @repeated
    def versions(self) -> list[Version]:
        """Return the versions, oldest first."""
        with self.engine.connect() as connection:
            return read_versions(connection)

    def active_version(self) -> Version | None:
        """Return the version that searches use; None before the first `index add`."""
        return next((version for version in self.versions() if version.state == ACTIVE), None)

    def filter_fields(self) -> dict[str, FieldType]:
        """Return every field that one can filter on, with the type of its values.

        A table's own column bears its own name, or `attr.<name>` where that is a known field's.
        """
        return {**CASE_FIELDS, **self.own_fields()}

    @repeated
    def own_fields(self) -> dict[str, FieldType]:
        """Return the filter fields that are columns of tables, with their types."""
        with self.engine.connect() as connection:
            return read_own_fields(connection)

    def studies(self, study_ids: Iterable[str]) -> dict[str, Study]:
        """Return study id → study, whole; unknown ids are left out."""
        return self._studies(StudyRow.study_id, study_ids)

    def studies_by_key(self, study_keys: Iterable[str]) -> dict[str, Study]:
        """Return keyed hash → study, whole; unknown keys are left out."""
        keys = list(study_keys)
        ids: dict[str, str] = {}
        for chunk in chunks(keys):
            found = self._rows(sa.select(StudyRow.study_key, StudyRow.study_id), StudyRow.study_key, chunk)
            ids |= {row.study_key: row.study_id for row in found}
        studies = self.studies(ids.values())
        return {key: studies[study_id] for key, study_id in ids.items() if study_id in studies}

    def images_of_studies(self, study_ids: Iterable[str]) -> dict[str, list[ImageRef]]:
        """Return study id → its images, in the study's order; unknown ids are left out."""
        found: dict[str, list[ImageRef]] = {}
        columns = (ItemRow.item_id, ItemRow.location, ItemRow.view, ItemRow.modality)
        of_study = sa.and_(ItemRow.study_id == StudyRow.study_id, ItemRow.kind == "image")
        chosen = sa.select(StudyRow.study_id, *columns).outerjoin(ItemRow, of_study)
        for chunk in chunks(study_ids):
            for study_id, item_id, location, view, modality in self._rows(
                chosen.order_by(ItemRow.position), StudyRow.study_id, chunk
            ):
                images = found.setdefault(study_id, [])
                if item_id is not None:
                    images.append(ImageRef(item_id, location or "", view, modality))
        return found

    def study_ids_of_subject(self, subject_id: str) -> list[str]:
        """Return the ids of one subject's studies, newest first (those without a date last)."""
        newest_first = sa.select(StudyRow.study_id).where(StudyRow.subject_id == subject_id)
        newest_first = newest_first.order_by(StudyRow.date.is_(None), StudyRow.date.desc(), StudyRow.study_id)
        with self.engine.connect() as connection:
            return list(connection.scalars(newest_first))

    def items_of_points(self, points: Iterable[UUID]) -> dict[UUID, StoredItem]:
        """Return point → the image or report of that vector; unknown points are left out."""
        found: dict[UUID, StoredItem] = {}
        for chunk in chunks(points):
            for row in self._rows(_ITEM, ItemRow.point_id, chunk):
                found[row.point_id] = _item(row)
        return found

    def items_of_studies(self, study_ids: Iterable[str]) -> dict[str, list[StoredItem]]:
        """Return study id → its images and report, in the study's order; unknown ids are left out."""
        found: dict[str, list[StoredItem]] = {}
        for chunk in chunks(study_ids):
            for row in self._rows(
                _ITEM.order_by(ItemRow.study_id, ItemRow.position), ItemRow.study_id, chunk
            ):
                found.setdefault(row.study_id, []).append(_item(row))
        return found

    def study_ids(self) -> Iterator[str]:
        """Yield every study's id, sorted, read as a stream."""
        for (study_id,) in self._stream(sa.select(StudyRow.study_id).order_by(StudyRow.study_id)):
            yield study_id

    def sentences(self) -> Iterator[tuple[UUID, str]]:
        """Yield (point, text) of every distinct sentence, read as a stream."""
        yield from self._stream(_SENTENCE)

    def reports(self) -> Iterator[tuple[str, Report]]:
        """Yield (study id, report) of every study that has one, by study id, read as a stream."""
        select = sa.select(StudyRow.study_id, StudyRow.sections).where(StudyRow.sections.is_not(None))
        for study_id, sections in self._stream(select.order_by(StudyRow.study_id)):
            yield study_id, Report("", tuple(Section(name, text) for name, text in sections))

    def findings_of_studies_with(self, kind: str) -> Iterator[Mapping[str, str]]:
        """Yield name → status of every study that has an item of a kind, read as a stream."""
        with_kind = sa.select(ItemRow.study_id).where(ItemRow.kind == kind)
        for (findings,) in self._stream(sa.select(StudyRow.findings).where(StudyRow.study_id.in_(with_kind))):
            yield findings

    def images_of_version(self, fingerprint: str) -> list[VersionImage]:
        """Return every image of a version, by the keyed hash of its study: an order without meaning."""
        select = (
            sa.select(
                StudyRow.study_id, StudyRow.subject_id, ItemRow.point_id, ItemRow.location, ItemRow.view
            )
            .join(ItemRow, ItemRow.study_id == StudyRow.study_id)
            .join(LedgerRow, LedgerRow.point_id == ItemRow.point_id)
            .where(LedgerRow.fingerprint == fingerprint, LedgerRow.kind == "image")
            .order_by(StudyRow.study_key, ItemRow.position)
        )
        with self.engine.connect() as connection:
            return [VersionImage(*row) for row in connection.execute(select)]

    @repeated
    def some_points(self, fingerprint: str, kind: str, limit: int) -> list[UUID]:
        """Return up to `limit` done points of one kind in one version."""
        mine = (LedgerRow.fingerprint == fingerprint) & (LedgerRow.kind == kind)
        with self.engine.connect() as connection:
            return list(connection.scalars(sa.select(LedgerRow.point_id).where(mine).limit(limit)))

    def version_counts(self, fingerprint: str) -> tuple[dict[str, int], int]:
        """Return a version's points by kind, and how many items and sentences have no point in it."""
        mine = (LedgerRow.fingerprint == fingerprint) & (LedgerRow.content != DOUBTFUL)
        counted = sa.select(LedgerRow.kind, sa.func.count()).where(mine).group_by(LedgerRow.kind)
        lacking = (
            (ItemRow, (LedgerRow.kind == ItemRow.kind) & (LedgerRow.point_id == ItemRow.point_id)),
            (SentenceRow, (LedgerRow.kind == "sentence") & (LedgerRow.point_id == SentenceRow.point_id)),
        )
        missing = 0
        with self.engine.connect() as connection:
            points = {kind: int(count) for kind, count in connection.execute(counted)}
            for table, same in lacking:
                select = sa.select(sa.func.count()).select_from(table).outerjoin(LedgerRow, mine & same)
                missing += int(connection.scalar(select.where(LedgerRow.point_id.is_(None))) or 0)
        return points, missing

    @repeated
    def problems(self) -> list[Problem]:
        """Return every recorded problem, by item id."""
        with Session(self.engine) as session:
            rows = session.scalars(sa.select(ProblemRow).order_by(ProblemRow.item_id)).all()
            return [Problem(r.item_id, r.state, r.reason, r.location) for r in rows]  # type: ignore[arg-type]

    @repeated
    def counts(self) -> dict[str, dict[str, int]]:
        """Count studies by source, done vectors by kind, problems by state."""
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
        """Count reports by language, and those without a lexicon for their findings."""
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
            of_study: dict[str, list[ImageRef]] = {}
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
                of_study.setdefault(study_id, []).append(image)
            studies |= {row.study_id: study_of_row(row, of_study.get(row.study_id, ())) for row in rows}
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

    def _stream(self, select: sa.Select[*tuple[Any, ...]]) -> Iterator[Any]:
        with self.engine.connect() as connection:
            yield from connection.execution_options(yield_per=CHUNK).execute(select)


_ITEM = sa.select(
    ItemRow.item_id,
    ItemRow.study_id,
    ItemRow.point_id,
    ItemRow.kind,
    ItemRow.location,
    ItemRow.content,
    ItemRow.height,
    ItemRow.width,
)

_SENTENCE = sa.select(SentenceRow.point_id, SentenceRow.text)


def _item(row: sa.Row[Any]) -> StoredItem:
    shape = None if row.height is None else (row.height, row.width)
    return StoredItem(row.item_id, row.study_id, row.point_id, row.kind, row.location, row.content, shape)
