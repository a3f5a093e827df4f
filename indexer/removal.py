"""Erasing a study or a person: catalog, vectors, sentences that nobody else says, problems, kept work."""

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from corpus.redaction import redacted
from corpus.subjects import matching_subjects
from indexer.catalog import Catalog
from indexer.home import CACHE
from indexer.index import Index
from indexer.ledger import Ledger
from indexer.models import ProblemRow


@redacted
@dataclass(frozen=True, slots=True)
class Removed:
    """What was erased: studies, vectors (of all versions' items and sentences), problems."""

    studies: Sequence[str]
    vectors: int
    problems: int

    def as_json(self) -> dict[str, object]:
        """The form of `docs/contracts/index-remove.schema.json`."""
        return {"studies": list(self.studies), "vectors": self.vectors, "problems": self.problems}


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


def remove_study(index: Index, study_id: str) -> Removed:
    """Erase one study everywhere. A study that is not there is no error: nothing is left of it either way."""
    return _remove(index, list(index.catalog.studies([study_id])) or [study_id], None)


def remove_subject(index: Index, subject_id: str) -> Removed:
    """Erase every study of one person everywhere."""
    return _remove(index, studies_of_subject(index.catalog, subject_id), subject_id)


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
