"""Studies as an answer shows them: the case, its key in the vector store, its items and sentences.

Each read is one statement for up to `CHUNK` values. Reads of one snapshot share a connection:
`with catalog.reading() as read: read.studies_by_key(keys)`.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from corpus.findings import Status, Statuses, status_lists
from corpus.records import AttributeValue, Report, Section
from corpus.redaction import redacted
from indexer.catalog.models import ItemRow, SentenceRow, SentenceUseRow, StudyRow
from indexer.catalog.rows import chunks
from indexer.catalog.state import STAMP, read_stamp


@redacted
@dataclass(frozen=True, slots=True)
class Case:
    """A study as an answer shows it.

    `path`: location of its first image. `text`: its report. `language`: of the report, as ISO 639-1 code.
    `findings_read`: whether a lexicon of that language read the findings. The last two are None without a
    report, and in rows of a version that did not record them.
    """

    study_id: str
    subject_id: str
    source: str
    path: str | None
    text: str | None
    diagnosis: str | None
    findings: Statuses
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    language: str | None = None
    findings_read: bool | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the case's part of `docs/contracts/search.schema.json`."""
        return {
            "study_id": self.study_id,
            "subject_id": self.subject_id,
            "source": self.source,
            "path": self.path,
            "text": self.text,
            "diagnosis": self.diagnosis,
            "findings": status_lists(self.findings),
            "attributes": dict(self.attributes),
            "language": self.language,
            "findings_read": self.findings_read,
        }


@redacted
@dataclass(frozen=True, slots=True)
class StoredItem:
    """An image or report that has a vector.

    `point`: id of the vector. `kind`: image or report. `location`: file of an image. `content`: hash of the
    pixels or the text; equal content, equal hash. `shape`: (height, width) in pixels of an image as read,
    None where an earlier version did not record it.
    """

    item_id: str
    study_id: str
    point: UUID
    kind: str
    location: str | None
    content: str
    shape: tuple[int, int] | None = None


@redacted
@dataclass(frozen=True, slots=True)
class StoredStudy:
    """A study of the catalog: the case, its key in the vector store, its items in the study's order."""

    case: Case
    key: str
    items: tuple[StoredItem, ...]


@redacted
@dataclass(frozen=True, slots=True)
class StoredSentence:
    """A sentence and the studies with it in their report: study key → its first position there."""

    text: str
    positions: Mapping[str, int]


@redacted
@dataclass(frozen=True, slots=True)
class FoundStudies:
    """Studies that one statement found.

    Attributes:
        by_key: key of the vector store → study.
        of_subjects: the studies of the subjects that were asked for, newest first; those without a date last.
        stamp: of the catalog's state, see `indexer.catalog.state`.
    """

    by_key: Mapping[str, StoredStudy]
    of_subjects: tuple[StoredStudy, ...]
    stamp: str

    def part(self, keys: Collection[str], subjects: Collection[str]) -> "FoundStudies":
        """Return of these only the studies with some keys, and those of some subjects."""
        return FoundStudies(
            {key: self.by_key[key] for key in keys if key in self.by_key},
            tuple(study for study in self.of_subjects if study.case.subject_id in subjects),
            self.stamp,
        )


def _values(name: str = "values") -> sa.BindParameter[Any]:
    """Return the parameter for the values that a statement selects by."""
    return sa.bindparam(name, expanding=True)


# The statements are made once: to build one takes longer than to run it.
_STUDIES = (
    sa.select(
        StudyRow.study_id,
        StudyRow.study_key,
        StudyRow.subject_id,
        StudyRow.source,
        StudyRow.age,
        StudyRow.sex,
        StudyRow.date,
        StudyRow.diagnosis,
        StudyRow.findings,
        StudyRow.attributes,
        StudyRow.sections,
        StudyRow.language,
        StudyRow.findings_read,
        ItemRow.item_id,
        ItemRow.point_id,
        ItemRow.kind,
        ItemRow.location,
        ItemRow.content.label("item_content"),
        ItemRow.view,
        ItemRow.modality,
        ItemRow.height,
        ItemRow.width,
    )
    .outerjoin(ItemRow, ItemRow.study_id == StudyRow.study_id)
    .order_by(StudyRow.study_id, ItemRow.position, ItemRow.item_id)
)
_BY_KEY = _STUDIES.where(StudyRow.study_key.in_(_values()))
_BY_ID = _STUDIES.where(StudyRow.study_id.in_(_values()))
_FOUND = _STUDIES.add_columns(STAMP)
_FOUND_BY_KEY = _FOUND.where(StudyRow.study_key.in_(_values()))
_FOUND_BY_KEY_OR_SUBJECT = _FOUND.where(
    StudyRow.study_key.in_(_values()) | StudyRow.subject_id.in_(_values("subjects"))
)
_BY_CONTENT = (
    sa.select(StudyRow.study_id, StudyRow.subject_id)
    .join(ItemRow, ItemRow.study_id == StudyRow.study_id)
    .where(ItemRow.content == sa.bindparam("content"))
)
_ANY_STUDY = sa.select(StudyRow.study_id).limit(1)

# Reads no more than `most` uses of a sentence: to count those of one that half of the reports contain takes
# longer than the rest of a search.
_FURTHER = (
    sa.select(SentenceUseRow.position)
    .where(SentenceUseRow.point_id == SentenceRow.point_id)
    .correlate(SentenceRow)
    .limit(1)
    .offset(sa.bindparam("most"))
    .scalar_subquery()
)
# A row for each sentence, not for each of its hundreds of uses.
_SENTENCES = (
    sa.select(
        SentenceUseRow.point_id,
        SentenceRow.text,
        sa.func.aggregate_strings(StudyRow.study_key + ":" + sa.cast(SentenceUseRow.position, sa.Text), " "),
    )
    .join(SentenceRow, SentenceRow.point_id == SentenceUseRow.point_id)
    .join(StudyRow, StudyRow.study_id == SentenceUseRow.study_id)
    .where(
        SentenceUseRow.point_id.in_(
            sa.select(SentenceRow.point_id).where(SentenceRow.point_id.in_(_values()), _FURTHER.is_(None))
        )
    )
    .group_by(SentenceUseRow.point_id, SentenceRow.text)
)


class Reading:
    """Reads of studies on one connection, as of one moment where the database gives snapshots."""

    def __init__(self, connection: sa.Connection) -> None:
        """Read on this connection; it is the caller's to close (`Catalog.reading` does)."""
        self._connection = connection

    def has_studies(self) -> bool:
        """Return whether there is any study."""
        return self._connection.execute(_ANY_STUDY).first() is not None

    def stamp(self) -> str:
        """Return the stamp of the state that the catalog is in now (`indexer.catalog.state`)."""
        return read_stamp(self._connection)

    def studies_by_key(self, keys: Collection[str]) -> dict[str, StoredStudy]:
        """Return key → study, for these keys of the vector store; unknown keys are left out."""
        return {study.key: study for part in chunks(keys) for study in self._studies(_BY_KEY, part)}

    def study_by_id(self, study_id: str) -> StoredStudy | None:
        """Return one study, or None."""
        return next(iter(self._studies(_BY_ID, [study_id])), None)

    def find_studies(self, keys: Collection[str], subjects: Collection[str] = ()) -> FoundStudies:
        """Find studies by their keys of the vector store, and all studies of these subjects.

        Unknown keys and subjects are left out. It is one statement for up to `CHUNK` keys.
        """
        found: dict[str, StoredStudy] = {}
        stamps: set[str] = set()
        parts = list(chunks(keys)) or [[]]
        for part in parts:
            values: dict[str, Sequence[str]] = {"values": part}
            if subjects and part is parts[0]:
                rows = self._connection.execute(
                    _FOUND_BY_KEY_OR_SUBJECT, {**values, "subjects": list(subjects)}
                ).all()
            else:
                rows = self._connection.execute(_FOUND_BY_KEY, values).all()
            found |= {study.key: study for study in _studies_of_rows(rows)}
            stamps |= {rows[0].stamp} if rows else set()
        chosen = set(subjects)
        own = [study for study in found.values() if study.case.subject_id in chosen]
        own.sort(key=lambda study: study.case.study_id)
        own.sort(key=lambda study: str(study.case.attributes.get("date", "")), reverse=True)
        wanted_keys = set(keys)
        return FoundStudies(
            {key: study for key, study in found.items() if key in wanted_keys},
            tuple(own),
            # Statements that read different states have the stamp of none.
            "" if len(stamps) > 1 else next(iter(stamps), None) or read_stamp(self._connection),
        )

    def owners_of_content(self, content: str) -> set[tuple[str, str]]:
        """Return (study_id, subject_id) of each study that has an item of this content hash."""
        rows = self._connection.execute(_BY_CONTENT, {"content": content})
        return {(study_id, subject_id) for study_id, subject_id in rows}

    def sentences(self, points: Collection[UUID], most: int) -> dict[UUID, StoredSentence]:
        """Return point → sentence, with the studies that have it in their report.

        Args:
            points: of sentences.
            most: a sentence of more studies is left out: it does not distinguish between them.
        """
        found: dict[UUID, StoredSentence] = {}
        for part in chunks(points):
            rows = self._connection.execute(_SENTENCES, {"values": part, "most": most}).all()
            found |= {point: StoredSentence(text, _positions(uses)) for point, text, uses in rows}
        return found

    def _studies(self, statement: sa.Select[*tuple[Any, ...]], values: object) -> list[StoredStudy]:
        return _studies_of_rows(self._connection.execute(statement, {"values": values}).all())


def _positions(uses: str) -> dict[str, int]:
    """Read the uses of a sentence, `<study key>:<position>` each; of several in a report the first counts."""
    positions: dict[str, int] = {}
    for use in uses.split():
        key, _, position = use.partition(":")
        positions[key] = min(int(position), positions.get(key, int(position)))
    return positions


def _studies_of_rows(rows: Iterable[sa.Row[Any]]) -> list[StoredStudy]:
    """Make studies of their rows, one an item."""
    by_study: dict[str, list[sa.Row[Any]]] = {}
    for row in rows:
        by_study.setdefault(row.study_id, []).append(row)
    return [_stored_study(of_study) for of_study in by_study.values()]


def _stored_study(rows: list[sa.Row[Any]]) -> StoredStudy:
    """Make a study of its rows, one an item."""
    first = rows[0]
    items = [row for row in rows if row.item_id is not None]
    image = next((row for row in items if row.kind == "image"), None)
    case = Case(
        study_id=first.study_id,
        subject_id=first.subject_id,
        source=first.source,
        path=None if image is None else image.location,
        text=_text(first.sections),
        diagnosis=first.diagnosis,
        findings={name: Status(status) for name, status in first.findings.items()},
        attributes=_attributes(first, image),
        language=first.language,
        findings_read=first.findings_read,
    )
    return StoredStudy(case, first.study_key, tuple(map(_stored_item, items)))


def _stored_item(row: sa.Row[Any]) -> StoredItem:
    shape = None if row.height is None else (row.height, row.width)
    return StoredItem(
        row.item_id, row.study_id, row.point_id, row.kind, row.location, row.item_content, shape
    )


def _text(sections: list[list[str]] | None) -> str | None:
    if sections is None:
        return None
    return Report("", tuple(Section(name, text) for name, text in sections)).text


def _attributes(study: sa.Row[Any], image: sa.Row[Any] | None) -> Mapping[str, AttributeValue]:
    """Return the table's own columns with the attributes that every study has; the latter's names win."""
    common = {
        "age": study.age,
        "sex": study.sex,
        "date": study.date,
        "view": None if image is None else image.view,
        "modality": None if image is None else image.modality,
    }
    return {**study.attributes, **{name: value for name, value in common.items() if value is not None}}
