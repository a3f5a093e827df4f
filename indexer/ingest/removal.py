"""Erasing a study or a subject: catalog, vectors, sentences of no other report, problems, caches."""

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from corpus.redaction import redacted
from corpus.subjects import key_of, matching_subjects, patient_id_of, subject_key
from indexer.catalog.catalog import Catalog
from indexer.catalog.ledger import Ledger
from indexer.catalog.subjects import subjects_by_key
from indexer.home import CACHE
from indexer.index import Index


@redacted
@dataclass(frozen=True, slots=True)
class OtherSubject:
    """Another subject of the patient id that a removal names, which it does not erase.

    `studies`: how many it has. `undecided`: it is one study that several patients of the id may own; its id
    is the study's, too.
    """

    subject_id: str
    studies: int
    undecided: bool

    def as_json(self) -> dict[str, object]:
        """Return its part of `docs/contracts/index-remove.schema.json`."""
        return {"subject_id": self.subject_id, "studies": self.studies, "undecided": self.undecided}


@redacted
@dataclass(frozen=True, slots=True)
class Removed:
    """What was erased: studies, vectors (of all versions' items and sentences), problems.

    `not_erased`: the other subjects of the patient id.
    """

    studies: Sequence[str]
    vectors: int
    problems: int
    not_erased: Sequence[OtherSubject] = ()

    def as_json(self) -> dict[str, object]:
        """Return the form of `docs/contracts/index-remove.schema.json`."""
        return {
            "studies": list(self.studies),
            "vectors": self.vectors,
            "problems": self.problems,
            "not_erased": [other.as_json() for other in self.not_erased],
        }


@redacted
@dataclass(frozen=True, slots=True)
class StudyToErase:
    """A study to be erased. `date`: ISO 8601 or None. `images`, `reports`: how many it has."""

    study_id: str
    date: str | None
    images: int
    reports: int


def studies_to_erase(
    catalog: Catalog, *, study_id: str | None = None, subject_id: str | None = None
) -> list[StudyToErase]:
    """Return the studies that erasing a study or a subject would erase, newest first; nothing is erased."""
    named = [study_id] if study_id is not None else studies_of_subject(catalog, str(subject_id))
    studies, items = catalog.studies(named), catalog.items_of_studies(named)
    listed = []
    for name in (name for name in named if name in studies):
        kinds = Counter(item.kind for item in items.get(name, ()))
        listed.append(StudyToErase(name, studies[name].date, kinds["image"], kinds["report"]))
    return listed


def studies_of_subject(catalog: Catalog, subject_id: str) -> list[str]:
    """Return the ids of one subject's studies, by the id as it is named and as patient ids are matched."""
    return [
        study_id
        for name in sorted(matching_subjects(subject_id))
        for study_id in catalog.study_ids_of_subject(name)
    ]


def other_subjects(catalog: Catalog, subject_id: str) -> list[OtherSubject]:
    """Return the subjects of the same patient id that a removal of this one does not erase, by id.

    They are of other issuers or of none, distinguished by sex or birth date, or undecided studies. An id may
    mean any of them: the user has to decide.
    """
    source, patient_id = subject_id.partition(":")[0], patient_id_of(subject_id)
    plain = subject_key(source, patient_id)
    with_issuer = subject_key(source, patient_id, "?").partition("?")[2]
    keys = {plain, key_of(subject_id)}
    counted = subjects_by_key(catalog, source, keys, with_issuer, matching_subjects(subject_id))
    return [
        OtherSubject(subject.subject_id, subject.studies, subject.undecided)
        for subject in counted
        if patient_id_of(subject.key) == patient_id
    ]


def remove_study(index: Index, study_id: str) -> Removed:
    """Erase one study everywhere. An unknown study is no error: nothing is left of it either way."""
    return _remove(index, list(index.catalog.studies([study_id])) or [study_id], None)


def remove_subject(index: Index, subject_id: str) -> Removed:
    """Erase every study of one subject everywhere; list the other subjects of the patient id."""
    removed = _remove(index, studies_of_subject(index.catalog, subject_id), subject_id)
    return replace(removed, not_erased=other_subjects(index.catalog, subject_id))


def _remove(index: Index, study_ids: Sequence[str], subject_id: str | None) -> Removed:
    with index.writing("index remove") as lease:
        existing = index.catalog.studies(study_ids)
        before = _problems(index)
        ledger = Ledger(index.catalog, index.home, lease.lease_id)
        vectors = ledger.erase(study_ids, subject_id)
        ledger.purge(index.store, lease.check)
    # Caches may contain that subject's images and do not record the subject: all of them go.
    shutil.rmtree(index.home.folder / CACHE, ignore_errors=True)
    ledger.vacuum()
    return Removed(sorted(existing), vectors, before - _problems(index))


def _problems(index: Index) -> int:
    return sum(index.catalog.counts()["problems"].values())
