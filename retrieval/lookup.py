"""What a search asks of the catalog, each in one statement: whose a picture is, who says a sentence, what a
case is."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from corpus.errors import IndexingError, UsageError
from corpus.findings import Status
from corpus.images.reader import content_hash
from corpus.records import AttributeValue, Report, Section
from corpus.redaction import redacted
from indexer.catalog.models import ItemRow, SentenceRow, SentenceUseRow, StudyRow
from indexer.index import Index
from retrieval.answer import Case

_MANY = 500  # parameters in one statement: SQLite's limit may be as low as 999


@redacted
@dataclass(frozen=True, slots=True)
class Item:
    """A picture or report of a case, with its place in the vector store.

    `kind`: image or report. `content`: hash of its pixels or text; equal content, equal hash. `shape`:
    (height, width) of a picture as read, where that was kept.
    """

    item_id: str
    point: UUID
    kind: str
    location: str | None
    content: str
    shape: tuple[int, int] | None = None


@redacted
@dataclass(frozen=True, slots=True)
class Known:
    """A study as the catalog has it: what leaves in an answer, its key in the vectors, its items."""

    case: Case
    key: str
    items: tuple[Item, ...]


@redacted
@dataclass(frozen=True, slots=True)
class Said:
    """A sentence in a study's report."""

    study_key: str
    point: UUID
    item_id: str
    text: str


def _values(name: str = "values") -> sa.BindParameter[Any]:
    """The values that a statement is asked for."""
    return sa.bindparam(name, expanding=True)


# The statements are made once: to put one together takes longer than to answer it.
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
_BY_SUBJECT = _STUDIES.where(StudyRow.subject_id.in_(_values()))
_ANY_STUDY = sa.select(StudyRow.study_id).limit(1)

# Looks at no more than `most` uses of a sentence: to count those of one that half the index holds takes
# longer than the rest of a search.
_FURTHER = (
    sa.select(SentenceUseRow.position)
    .where(SentenceUseRow.point_id == SentenceRow.point_id)
    .correlate(SentenceRow)
    .limit(1)
    .offset(sa.bindparam("most"))
    .scalar_subquery()
)
# A row for each sentence, not for each use of it: of those there are hundreds.
_HOLDERS = (
    sa.select(SentenceUseRow.point_id, sa.func.aggregate_strings(StudyRow.study_key, " "))
    .join(StudyRow, StudyRow.study_id == SentenceUseRow.study_id)
    .where(
        SentenceUseRow.point_id.in_(
            sa.select(SentenceRow.point_id).where(SentenceRow.point_id.in_(_values()), _FURTHER.is_(None))
        )
    )
    .group_by(SentenceUseRow.point_id)
)
_SAID = (
    sa.select(
        StudyRow.study_key,
        SentenceUseRow.study_id,
        SentenceUseRow.position,
        SentenceRow.point_id,
        SentenceRow.text,
    )
    .join(SentenceRow, SentenceRow.point_id == SentenceUseRow.point_id)
    .join(StudyRow, StudyRow.study_id == SentenceUseRow.study_id)
    .where(SentenceUseRow.point_id.in_(_values()), SentenceUseRow.study_id.in_(_values("studies")))
    .order_by(SentenceUseRow.position)
)


def studies_by_key(connection: sa.Connection, keys: Collection[str]) -> dict[str, Known]:
    """The studies that these keys of the vector store stand for, with their pictures and reports."""
    return {known.key: known for part in _parts(keys) for known in _studies(connection, _BY_KEY, part)}


def study_by_id(connection: sa.Connection, study_id: str) -> Known | None:
    """One study by its id, or None."""
    return next(iter(_studies(connection, _BY_ID, [study_id])), None)


def studies_of(connection: sa.Connection, subjects: Collection[str]) -> list[Known]:
    """The studies of these subjects, newest first; those without a date last."""
    found = [known for part in _parts(subjects) for known in _studies(connection, _BY_SUBJECT, part)]
    by_id = sorted(found, key=lambda known: known.case.study_id)
    return sorted(by_id, key=lambda known: str(known.case.attributes.get("date", "")), reverse=True)


def holds_studies(connection: sa.Connection) -> bool:
    """Whether there is any study at all."""
    return connection.execute(_ANY_STUDY).first() is not None


def owners_of(connection: sa.Connection, content: str) -> set[tuple[str, str]]:
    """The studies that have an item of this content hash: (study_id, subject_id) each."""
    statement = (
        sa.select(StudyRow.study_id, StudyRow.subject_id)
        .join(ItemRow, ItemRow.study_id == StudyRow.study_id)
        .where(ItemRow.content == content)
    )
    return {(study, subject) for study, subject in connection.execute(statement)}


def holders(connection: sa.Connection, points: Collection[UUID], most: int) -> dict[UUID, list[str]]:
    """The keys of the studies whose reports hold these sentences, for sentences held by at most `most`.

    A sentence that more studies hold tells none of them from the others, and is left out.
    """
    held: dict[UUID, list[str]] = {}
    for part in _parts(points):
        rows = connection.execute(_HOLDERS, {"values": part, "most": most}).all()
        held |= {point: keys.split() for point, keys in rows}
    return held


def sentences_said(
    connection: sa.Connection, points: Collection[UUID], study_ids: Collection[str]
) -> list[Said]:
    """Where these studies say these sentences: each the first time."""
    said: dict[tuple[str, UUID], Said] = {}
    for part in _parts(points):
        asked = {"values": part, "studies": list(study_ids)}
        for key, study_id, position, point, text in connection.execute(_SAID, asked).all():
            said.setdefault((key, point), Said(key, point, f"{study_id}#report.{position}", text))
    return list(said.values())


def _parts(values: Collection[Any]) -> Iterable[list[Any]]:
    """Cut values into lists that fit one statement."""
    ordered = list(values)
    return (ordered[start : start + _MANY] for start in range(0, len(ordered), _MANY))


def _studies(connection: sa.Connection, chosen: sa.Select[*tuple[Any, ...]], values: object) -> list[Known]:
    rows: dict[str, list[sa.Row[Any]]] = {}
    for row in connection.execute(chosen, {"values": values}).all():
        rows.setdefault(row.study_id, []).append(row)
    return [_known(of_study) for of_study in rows.values()]


def _known(rows: list[sa.Row[Any]]) -> Known:
    first = rows[0]
    items = [row for row in rows if row.item_id is not None]
    picture = next((row for row in items if row.kind == "image"), None)
    return Known(
        case=Case(
            study_id=first.study_id,
            subject_id=first.subject_id,
            source=first.source,
            path=None if picture is None else picture.location,
            text=_text(first.sections),
            diagnosis=first.diagnosis,
            findings={name: Status(status) for name, status in first.findings.items()},
            attributes=_attributes(first, picture),
            language=first.language,
            findings_read=first.findings_read,
        ),
        key=first.study_key,
        items=tuple(map(_item, items)),
    )


def _item(row: sa.Row[Any]) -> Item:
    shape = None if row.height is None else (row.height, row.width)
    return Item(row.item_id, row.point_id, row.kind, row.location, row.item_content, shape)


def _text(sections: list[list[str]] | None) -> str | None:
    if sections is None:
        return None
    return Report("", tuple(Section(name, text) for name, text in sections)).text


def _attributes(study: sa.Row[Any], picture: sa.Row[Any] | None) -> Mapping[str, AttributeValue]:
    """The table's own columns, and what is known of everyone; the latter's names win."""
    known = {
        "age": study.age,
        "sex": study.sex,
        "date": study.date,
        "view": None if picture is None else picture.view,
        "modality": None if picture is None else picture.modality,
    }
    return {**study.attributes, **{name: value for name, value in known.items() if value is not None}}


def image_location(index: Index, study_id: str) -> str:
    """Where the first image of a case is read from.

    Raises:
        UsageError: there is no such case.
        IndexingError: it has no image, or its image has changed since it was indexed.
    """
    with index.catalog.engine.connect() as connection:
        known = study_by_id(connection, study_id)
    if known is None:
        raise UsageError(f"the index has no case {study_id!r}; an id is <source>:<the set's own name>")
    first = next((item for item in known.items if item.kind == "image"), None)
    if first is None or first.location is None:
        raise IndexingError(f"the case {study_id!r} has no image to look at, only a report")
    if content_hash(first.location) != first.content:
        raise IndexingError(
            f"the image of {study_id!r} has changed since it was indexed: run `similarity index add` on its "
            "source"
        )
    return first.location
