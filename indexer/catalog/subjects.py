"""Studies by subject, patient id and SOPInstanceUID: what identities are settled by."""

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, cast

import sqlalchemy as sa

from corpus.records import Sex
from corpus.redaction import redacted
from corpus.subjects import Patient, key_of
from indexer.catalog.database import Connected, repeated
from indexer.catalog.models import ItemRow, StudyRow
from indexer.catalog.rows import chunks


@redacted
@dataclass(frozen=True, slots=True)
class SubjectRecord:
    """A study of the catalog: its subject, and the patient that its header names."""

    study_id: str
    subject_id: str
    patient: Patient


@dataclass(frozen=True, slots=True)
class StudyFiles:
    """A study of the catalog and the files that its images were read from. `files`: location → stamp."""

    record: SubjectRecord
    files: dict[str, str | None]


@redacted
@dataclass(frozen=True, slots=True)
class StoredInstance:
    """An image of the catalog, found by its SOPInstanceUID. `stamp`: of its file when it was read."""

    item_id: str
    study_id: str
    subject_id: str
    content: str
    location: str | None
    stamp: str | None


@redacted
@dataclass(frozen=True, slots=True)
class SubjectCount:
    """A subject with a number of studies.

    `key`: of its patient id. `undecided`: it is one study that several patients of one id may own.
    """

    subject_id: str
    undecided: bool
    key: str
    studies: int


_RECORD = (StudyRow.study_id, StudyRow.subject_id, StudyRow.sex, StudyRow.birth_key)


@repeated
def records_by_key(catalog: Connected, keys: Iterable[str]) -> dict[str, list[SubjectRecord]]:
    """Return key of a patient id → its studies, of all subjects that were kept apart under it."""
    found: dict[str, list[SubjectRecord]] = {key: [] for key in keys}
    with catalog.engine.connect() as connection:
        for chunk in chunks(found):
            under = StudyRow.subject_id.in_(chunk) | StudyRow.shared_key.in_(chunk)
            under &= StudyRow.subject_id != StudyRow.study_id  # undecided studies: of none of them for sure
            for row in connection.execute(sa.select(*_RECORD).where(under)):
                found[key_of(row.subject_id)].append(_record(row))
    return found


@repeated
def files_of_studies(catalog: Connected, study_ids: Iterable[str]) -> dict[str, StudyFiles]:
    """Return study id → its record and files; studies without images are left out."""
    select = sa.select(*_RECORD, ItemRow.location, ItemRow.stamp)
    select = select.join(ItemRow, ItemRow.study_id == StudyRow.study_id)
    found: dict[str, StudyFiles] = {}
    with catalog.engine.connect() as connection:
        for chunk in chunks(study_ids):
            images = select.where(ItemRow.kind == "image", StudyRow.study_id.in_(chunk))
            for row in connection.execute(images):
                files = found.setdefault(row.study_id, StudyFiles(_record(row), {})).files
                files[row.location or ""] = row.stamp
    return found


@repeated
def instances_by_key(catalog: Connected, keys: Iterable[str]) -> dict[str, list[StoredInstance]]:
    """Return keyed hash of a SOPInstanceUID → the images under it."""
    columns = (
        ItemRow.instance_key, ItemRow.item_id, ItemRow.study_id, StudyRow.subject_id, ItemRow.content,
        ItemRow.location, ItemRow.stamp,
    )  # fmt: skip
    select = sa.select(*columns).join(StudyRow, StudyRow.study_id == ItemRow.study_id)
    found: dict[str, list[StoredInstance]] = defaultdict(list)
    with catalog.engine.connect() as connection:
        for chunk in chunks(keys):
            for row in connection.execute(select.where(ItemRow.instance_key.in_(chunk))):
                found[row[0] or ""].append(StoredInstance(*row[1:]))
    return found


def subjects_by_key(
    catalog: Connected, source: str, keys: Collection[str], ending: str, exclude: Collection[str]
) -> list[SubjectCount]:
    """Count the studies of each subject of a source with a key in `keys` or one that ends in `ending`, by id.

    Args:
        catalog: to read from.
        source: name of the source.
        keys: of patient ids.
        ending: of keys: issuer's separator and patient id.
        exclude: subjects that are left out.
    """
    key = sa.func.coalesce(StudyRow.shared_key, StudyRow.subject_id)
    alone = StudyRow.shared_key.is_not(None) & (StudyRow.subject_id == StudyRow.study_id)
    undecided = alone.label("undecided")
    select = (
        sa.select(StudyRow.subject_id, undecided, key.label("key"), sa.func.count().label("studies"))
        .where(
            StudyRow.source == source,
            key.in_(keys) | key.endswith(ending, autoescape=True),
            StudyRow.subject_id.not_in(exclude),
        )
        .group_by(StudyRow.subject_id, undecided, key)
        .order_by(StudyRow.subject_id)
    )
    with catalog.engine.connect() as connection:
        return [
            SubjectCount(row.subject_id, bool(row.undecided), row.key, row.studies)
            for row in connection.execute(select)
        ]


def _record(row: Any) -> SubjectRecord:
    patient = Patient(key_of(row.subject_id), cast("Sex | None", row.sex), row.birth_key)
    return SubjectRecord(row.study_id, row.subject_id, patient)
