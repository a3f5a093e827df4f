"""Erasing a study or a person: catalog, vectors, sentences that nobody else says, problems, kept work."""

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sa

from corpus.redaction import redacted
from corpus.subjects import key_of, matching_subjects, patient_id_of, subject_key
from indexer.catalog.catalog import Catalog
from indexer.catalog.ledger import Ledger
from indexer.catalog.models import ProblemRow, StudyRow
from indexer.home import CACHE
from indexer.index import Index


@redacted
@dataclass(frozen=True, slots=True)
class OtherSubject:
    """A subject of the patient id that a removal named, which it leaves: `studies` is how many it has.

    `undecided`: it is one study, of which nothing tells whose it is; its id is the study's, too.
    """

    subject_id: str
    studies: int
    undecided: bool

    def as_json(self) -> dict[str, object]:
        """Its part of `docs/contracts/index-remove.schema.json`."""
        return {"subject_id": self.subject_id, "studies": self.studies, "undecided": self.undecided}


@redacted
@dataclass(frozen=True, slots=True)
class Removed:
    """What was erased: studies, vectors (of all versions' items and sentences), problems.

    `not_erased`: the other subjects of the patient id, who are still there.
    """

    studies: Sequence[str]
    vectors: int
    problems: int
    not_erased: Sequence[OtherSubject] = ()

    def as_json(self) -> dict[str, object]:
        """The form of `docs/contracts/index-remove.schema.json`."""
        return {
            "studies": list(self.studies),
            "vectors": self.vectors,
            "problems": self.problems,
            "not_erased": [other.as_json() for other in self.not_erased],
        }


@redacted
@dataclass(frozen=True, slots=True)
class StudyToErase:
    """A study that is about to be erased. `date`: ISO 8601, None where it is not known."""

    study_id: str
    date: str | None
    images: int
    reports: int


def studies_to_erase(
    catalog: Catalog, *, study_id: str | None = None, subject_id: str | None = None
) -> list[StudyToErase]:
    """The studies that would be erased with a study or a subject, the newest first; nothing is erased."""
    named = [study_id] if study_id is not None else studies_of_subject(catalog, str(subject_id))
    studies, items = catalog.studies(named), catalog.items_of_studies(named)
    listed = []
    for name in (name for name in named if name in studies):
        kinds = Counter(item.kind for item in items.get(name, ()))
        listed.append(StudyToErase(name, studies[name].date, kinds["image"], kinds["report"]))
    return listed


def studies_of_subject(catalog: Catalog, subject_id: str) -> list[str]:
    """The studies of one person, by the id as it is named and as patient ids are matched."""
    return [
        study_id
        for name in sorted(matching_subjects(subject_id))
        for study_id in catalog.study_ids_of_subject(name)
    ]


def other_subjects(catalog: Catalog, subject_id: str) -> list[OtherSubject]:
    """The subjects of the same patient id that a removal of this one leaves, in order of their ids.

    They are of other issuers or of none, kept apart by sex or birth date, or studies of which nothing tells
    whose they are. Who is meant by an id may be any of them; only a person can tell.
    """
    source, patient_id = subject_id.partition(":")[0], patient_id_of(subject_id)
    plain = subject_key(source, patient_id)
    with_issuer = subject_key(source, patient_id, "?").partition("?")[2]
    key = sa.func.coalesce(StudyRow.shared_key, StudyRow.subject_id)
    alone = StudyRow.shared_key.is_not(None) & (StudyRow.subject_id == StudyRow.study_id)
    undecided = alone.label("undecided")
    rows = (
        sa.select(StudyRow.subject_id, undecided, key.label("key"), sa.func.count().label("studies"))
        .where(
            StudyRow.source == source,
            key.in_({plain, key_of(subject_id)}) | key.endswith(with_issuer, autoescape=True),
            StudyRow.subject_id.not_in(matching_subjects(subject_id)),
        )
        .group_by(StudyRow.subject_id, undecided, key)
        .order_by(StudyRow.subject_id)
    )
    with catalog.engine.connect() as session:
        return [
            OtherSubject(row.subject_id, row.studies, bool(row.undecided))
            for row in session.execute(rows)
            if patient_id_of(row.key) == patient_id
        ]


def remove_study(index: Index, study_id: str) -> Removed:
    """Erase one study everywhere. A study that is not there is no error: nothing is left of it either way."""
    return _remove(index, list(index.catalog.studies([study_id])) or [study_id], None)


def remove_subject(index: Index, subject_id: str) -> Removed:
    """Erase every study of one subject everywhere; say which other subjects of the patient id are left."""
    removed = _remove(index, studies_of_subject(index.catalog, subject_id), subject_id)
    return replace(removed, not_erased=other_subjects(index.catalog, subject_id))


def _remove(index: Index, study_ids: Sequence[str], subject_id: str | None) -> Removed:
    existing = index.catalog.studies(study_ids)
    before = _problems(index)
    ledger = Ledger(index.catalog.engine, index.home)
    vectors = ledger.erase(study_ids, subject_id)
    ledger.bury(index.store)
    # What is kept for speed may be of that person's films, and does not say whose it is: all of it goes.
    shutil.rmtree(index.home.folder / CACHE, ignore_errors=True)
    if index.catalog.engine.dialect.name == "sqlite":
        # A deleted row's text would otherwise stay in the file until it is written over.
        with index.catalog.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as session:
            session.execute(sa.text("VACUUM"))
            session.execute(sa.text("PRAGMA wal_checkpoint(TRUNCATE)"))
    return Removed(sorted(existing), vectors, before - _problems(index))


def _problems(index: Index) -> int:
    with index.catalog.engine.connect() as session:
        return session.scalar(sa.select(sa.func.count()).select_from(ProblemRow)) or 0
