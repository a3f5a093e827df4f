"""Rows of the catalog's tables: made of records, read as records, inserted and deleted in a transaction."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar
from uuid import UUID

import sqlalchemy as sa

from corpus.findings import Status
from corpus.records import ImageRef, ItemId, Problem, Report, Section, Study
from corpus.subjects import key_of
from indexer.catalog.ledger_records import KINDS, KINDS_OF_ITEM, Done, NewItem, Step, collection_of
from indexer.catalog.models import (
    Base,
    EncoderRow,
    ItemRow,
    LedgerRow,
    ProblemRow,
    SentenceRow,
    SentenceUseRow,
    TombstoneRow,
)
from indexer.home import Home
from indexer.ingest.payload import study_hash

CHUNK = 500
"""Values in one statement: SQLite may be built with a limit of 999 parameters."""

Value = TypeVar("Value")


def chunks(values: Iterable[Value]) -> Iterator[list[Value]]:
    """Yield the values in lists short enough for one statement, without repeats."""
    remaining = list(dict.fromkeys(values))
    for start in range(0, len(remaining), CHUNK):
        yield remaining[start : start + CHUNK]


def study_row(study: Study, home: Home) -> dict[str, Any]:
    """Return the row of `StudyRow`: all that the catalog stores of a study beside its items."""
    return {
        "study_id": study.study_id,
        "study_key": home.keyed("study", study.study_id),
        "subject_id": study.subject_id,
        "source": study.source,
        "age": study.age,
        "sex": study.sex,
        "date": study.date,
        "diagnosis": study.diagnosis,
        "accession": study.accession,
        "study_uid": study.study_uid,
        "findings": {name: status.value for name, status in study.findings.items()},
        "attributes": dict(study.attributes),
        "sections": None if study.report is None else [[s.name, s.text] for s in study.report.sections],
        "content": study_hash(study),
        "birth_key": study.birth_key,
        "shared_key": key if (key := key_of(study.subject_id)) != study.subject_id else study.shared_key,
        "language": None if study.report is None else study.report.language,
        "findings_read": None if study.report is None else study.report.findings_read,
    }


def study_of_row(row: Any, images: Iterable[ImageRef]) -> Study:
    """Return the study of a row of `StudyRow` and its images."""
    report = None
    if row.sections is not None:
        sections = tuple(Section(name, text) for name, text in row.sections)
        read = row.findings_read is not False
        report = Report(ItemId.report(row.study_id).text, sections, row.language, read)
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


def item_row(study: Study, position: int, item: NewItem) -> dict[str, Any]:
    """Return the row of `ItemRow`; `position`: of the item in its study."""
    return {
        "item_id": item.item_id,
        "study_id": study.study_id,
        "point_id": item.point_id,
        "kind": item.kind,
        "position": position,
        "location": item.location,
        "view": item.view,
        "modality": item.modality,
        "content": item.content,
        "stamp": item.stamp,
        "height": None if item.shape is None else item.shape[0],
        "width": None if item.shape is None else item.shape[1],
        "instance_key": item.instance_key,
    }


def problem_rows(
    problems: Iterable[tuple[str | None, str | None, Problem]], origin: str
) -> dict[str, dict[str, Any]]:
    """Return the rows of `ProblemRow` by item id; the last of several problems of one item wins.

    Args:
        problems: study id, subject id (None where they are not known) and problem.
        origin: the source as it was named.
    """
    return {
        problem.item_id: {
            "item_id": problem.item_id,
            "study_id": study_id,
            "subject_id": subject_id,
            "origin": origin,
            "state": problem.state,
            "reason": problem.reason,
            "location": problem.location,
        }
        for study_id, subject_id, problem in problems
    }


def insert(session: sa.Connection, table: type[Base], rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows, if any."""
    if rows:
        session.execute(sa.insert(table), rows)


def delete(session: sa.Connection, column: Any, values: Sequence[Any]) -> None:
    """Delete the rows with one of these values in a column."""
    for chunk in chunks(values):
        session.execute(sa.delete(column.class_).where(column.in_(chunk)))


def points_of(session: sa.Connection, study_ids: Sequence[str]) -> tuple[dict[UUID, str], set[UUID]]:
    """Return the points of studies: of items, with their kind, and of sentences."""
    items: dict[UUID, str] = {}
    sentences: set[UUID] = set()
    for chunk in chunks(study_ids):
        rows = session.execute(sa.select(ItemRow.point_id, ItemRow.kind).where(ItemRow.study_id.in_(chunk)))
        items |= {row.point_id: row.kind for row in rows}
        uses = sa.select(SentenceUseRow.point_id).where(SentenceUseRow.study_id.in_(chunk))
        sentences |= set(session.scalars(uses))
    return items, sentences


def delete_unused(session: sa.Connection, sentences: Iterable[UUID]) -> set[UUID]:
    """Delete those of these sentences that no report contains any more; return them."""
    unused: set[UUID] = set()
    for chunk in chunks(sentences):
        used = sa.select(SentenceUseRow.point_id).where(SentenceUseRow.point_id.in_(chunk))
        unused |= set(chunk) - set(session.scalars(used))
    delete(session, SentenceRow.point_id, list(unused))
    return unused


def tombstone(session: sa.Connection, points: Mapping[UUID, str]) -> None:
    """Delete points from every version's ledger and enter them as tombstones."""
    versions = session.scalars(sa.select(EncoderRow.fingerprint)).all()
    delete(session, LedgerRow.point_id, list(points))
    for chunk in chunks(points):
        existing = sa.select(TombstoneRow.collection, TombstoneRow.point_id)
        before = {tuple(row) for row in session.execute(existing.where(TombstoneRow.point_id.in_(chunk)))}
        wanted = [
            (collection_of(kind, version), point)
            for version in versions
            for point in chunk
            for kind in KINDS_OF_ITEM[points[point]]
        ]
        rows = [{"collection": c, "point_id": p} for c, p in wanted if (c, p) not in before]
        insert(session, TombstoneRow, rows)


def delete_problems_under(session: sa.Connection, name: str, marks: str) -> None:
    """Delete the problems of the item id `name`, and of those that begin with it and one of the marks."""
    start = sa.func.substr(ProblemRow.item_id, 1, len(name) + 1)
    under = start.in_([name + mark for mark in marks])
    session.execute(sa.delete(ProblemRow).where((ProblemRow.item_id == name) | under))


def revive(session: sa.Connection, step: Step, fingerprint: str) -> None:
    """Keep the points that a step needs and another run dropped meanwhile, such as a sentence.

    They are in the store still: no run purges tombstones while another writes (`indexer.catalog.leases`).
    """
    collections = {kind: collection_of(kind, fingerprint) for kind in KINDS}
    for kind, collection in collections.items():
        of_kind = [point for made, point in (*step.done, *step.relied) if made == kind]
        for chunk in chunks(of_kind):
            buried = (TombstoneRow.collection == collection) & TombstoneRow.point_id.in_(chunk)
            session.execute(sa.delete(TombstoneRow).where(buried))
        relied = {point: done for (made, point), done in step.relied.items() if made == kind}
        for chunk in chunks(relied):
            mine = (LedgerRow.fingerprint == fingerprint) & (LedgerRow.kind == kind)
            present = sa.select(LedgerRow.point_id).where(mine, LedgerRow.point_id.in_(chunk))
            dropped = set(chunk) - set(session.scalars(present))
            insert(session, LedgerRow, [ledger_row(fingerprint, kind, p, relied[p]) for p in dropped])


def ledger_row(fingerprint: str, kind: str, point: UUID, done: Done) -> dict[str, Any]:
    """Return the row of `LedgerRow` of a point that is done."""
    return {
        "fingerprint": fingerprint,
        "point_id": point,
        "kind": kind,
        "content": done.content,
        "attributes": done.attributes,
    }
