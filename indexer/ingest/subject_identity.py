"""Whose a study is, among all that the index holds: patients of one id stay apart across sources and runs.

A source tells apart whom it sees at once (`corpus.subjects`). Two sites are often indexed one after the
other: here a study is compared with what the catalog has under the key of its subject. Birth dates are
compared by their keyed hash; nothing else of them is kept.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import sqlalchemy as sa

from corpus.records import ImageRef, Problem, Sex, Study
from corpus.redaction import redacted
from corpus.subjects import (
    KEPT_APART,
    PATIENT_SOURCES,
    UNDECIDED,
    Patient,
    apart,
    contradict,
    key_of,
    patient_id_of,
    pick,
    without_issuer,
)
from indexer.catalog.catalog import chunks
from indexer.catalog.database import repeated_query
from indexer.catalog.models import ItemRow, StudyRow
from indexer.home import Home
from indexer.ingest.embedding import is_same_file

OTHER_FILES = (
    "the index has this study from other files that are still there, as another patient's: it is left out; "
    "find out whose it is, and remove the study that is wrong"
)


@redacted
@dataclass(frozen=True, slots=True)
class Record:
    """What the catalog has of a study: its subject, and whom its record names."""

    study_id: str
    subject_id: str
    patient: Patient


class _Kin:
    """The studies under one key. `subjects`: whom each subject's records name, each said once."""

    def __init__(self, records: Iterable[Record]) -> None:
        self.subjects: dict[str, Counter[Patient]] = {}
        self._records: dict[str, Record] = {}
        for record in records:
            self.add(record)

    def add(self, record: Record) -> None:
        self._records[record.study_id] = record
        self.subjects.setdefault(record.subject_id, Counter())[record.patient] += 1

    def take(self, study_id: str) -> Record | None:
        """Take out the record of a study, if there is one."""
        record = self._records.pop(study_id, None)
        if record is not None:
            those = self.subjects[record.subject_id]
            those[record.patient] -= 1
            self.subjects[record.subject_id] = +those  # without those of no study
            if not self.subjects[record.subject_id]:
                del self.subjects[record.subject_id]
        return record


def keyed_patient(home: Home, patient: Patient) -> Patient:
    """The patient with the keyed hash in place of the birth date: equal dates of two ids are not alike."""
    born = patient.birth_date
    return replace(patient, birth_date=born and home.keyed("birth date", f"{patient.key}\0{born}"))


def subjects_of(engine: sa.Engine, home: Home, patient: Patient) -> frozenset[str]:
    """The subject that a query's patient is in the index; nobody's where the key does not tell whose.

    Two patients whom an earlier version took for one are still that one's: the record that fits decides.
    Where the index has nothing under the issuer that a header names, what it has of the patient id without
    one may be the patient's: an earlier version kept no issuers, and not every system writes them.
    """
    if not patient.key:
        return frozenset()
    keys = dict.fromkeys((patient.key, without_issuer(patient.key)))
    records = _records(engine, keys)
    key = next((key for key in keys if records[key]), patient.key)
    named = keyed_patient(home, replace(patient, key=key))  # a birth date is hashed with its key
    subjects = _Kin(records[key]).subjects
    known = {subject: _fitting(named, those) for subject, those in subjects.items()}
    found = pick(named, known) if known else (patient.key,)
    return frozenset(found) if len(found) == 1 else frozenset()


class Identities:
    """The subjects of the studies of one run: those of the catalog, and those that the run has met."""

    def __init__(self, engine: sa.Engine, home: Home) -> None:
        """Read through this engine; nothing is written."""
        self._engine, self._home = engine, home
        self._kin: dict[str, _Kin] = {}

    def settle(self, studies: Sequence[Study]) -> tuple[list[Study], list[Problem]]:
        """Return the studies as they may be indexed, each under its subject, and what is to be recorded.

        A study that the catalog has as another patient's, from other files, is left out.
        """
        keys = {key_of(study.subject_id) for study in studies if _names_patient(study)}
        for key, records in _records(self._engine, keys - self._kin.keys()).items():
            self._kin[key] = _Kin(records)
        before = _held(self._engine, [study.study_id for study in studies if study.source == "dicom"])
        named: list[Study] = []
        settled: list[Study] = []
        problems: list[Problem] = []
        for study in map(self._keyed, studies):
            held = before.get(study.study_id)
            if held is not None and _is_anothers(study, held):
                problems.append(Problem(f"{study.study_id}#study", "failed", OTHER_FILES))
            else:
                named.append(study)
                settled.append(self._place(study) if _names_patient(study) else study)
        # Only now: one of them may have left a subject that it was kept apart in.
        doubts = (self._doubt(was, now) for was, now in zip(named, settled, strict=True))
        return settled, problems + [problem for problem in doubts if problem is not None]

    def _keyed(self, study: Study) -> Study:
        """The study with keyed hashes in place of the birth date and of the images' UIDs."""
        images = tuple(self._keyed_image(image) for image in study.images)
        patient = keyed_patient(self._home, Patient(key_of(study.subject_id), study.sex, study.birth_date))
        birth_key = patient.birth_date or study.birth_key
        return replace(study, images=images, birth_date=None, birth_key=birth_key)

    def _keyed_image(self, image: ImageRef) -> ImageRef:
        if image.instance_uid is None:
            return image
        key = self._home.keyed("instance", image.instance_uid)
        return replace(image, instance_uid=None, instance_key=key)

    def _place(self, study: Study) -> Study:
        key = key_of(study.subject_id)
        kin = self._kin[key]
        earlier = kin.take(study.study_id)
        patient = Patient(key, study.sex, study.birth_key)
        known = kin.subjects
        # What the source made of it, whose studies it saw at once, stands until the index knows better.
        proposed = study.subject_id if study.subject_id not in known else None
        found = pick(patient, known, before=proposed if earlier is None else earlier.subject_id)
        if len(found) > 1:
            return replace(study, subject_id=study.study_id, shared_key=key)
        subject = found[0] if found else apart(key, study.study_id)
        kin.add(Record(study.study_id, subject, patient))
        return replace(study, subject_id=subject)

    def _doubt(self, named: Study, settled: Study) -> Problem | None:
        """What is to be recorded of where a study was placed."""
        if not _names_patient(named):
            return None
        item_id = f"{settled.study_id}#subject"
        if settled.subject_id == settled.study_id:
            return Problem(item_id, "noted", UNDECIDED)
        several = len(self._kin[key_of(named.subject_id)].subjects) > 1
        return Problem(item_id, "noted", KEPT_APART) if several else None


def _names_patient(study: Study) -> bool:
    return study.source in PATIENT_SOURCES and study.subject_id != study.study_id


@dataclass(frozen=True, slots=True)
class _Held:
    """A study of the catalog and the files that its images were read from, with their stamps."""

    record: Record
    files: dict[str, str | None]


def _is_anothers(study: Study, held: _Held) -> bool:
    """Whether the catalog has a study of this id as another patient's, from files that are still there."""
    if {image.location for image in study.images} & held.files.keys():
        return False  # read anew: the header was corrected
    key, old = key_of(study.subject_id), held.record.patient.key
    new = Patient(key, study.sex, study.birth_key)
    if _names_patient(study) and held.record.subject_id != study.study_id and key != old:
        # An index of an earlier version has no issuers.
        others = patient_id_of(key) != patient_id_of(old) or ("::" in key and "::" in old)
    else:
        others = contradict(new, held.record.patient)
    return others and any(stamp and is_same_file(file, stamp) for file, stamp in held.files.items())


@repeated_query
def _held(engine: sa.Engine, study_ids: Iterable[str]) -> dict[str, _Held]:
    columns = (*_COLUMNS, ItemRow.location, ItemRow.stamp)
    select = sa.select(*columns).join(ItemRow, ItemRow.study_id == StudyRow.study_id)
    held: dict[str, _Held] = {}
    with engine.connect() as session:
        for chunk in chunks(study_ids):
            images = select.where(ItemRow.kind == "image", StudyRow.study_id.in_(chunk))
            for row in session.execute(images):
                files = held.setdefault(row.study_id, _Held(_record(row), {})).files
                files[row.location or ""] = row.stamp
    return held


_COLUMNS = (StudyRow.study_id, StudyRow.subject_id, StudyRow.sex, StudyRow.birth_key)


@repeated_query
def _records(engine: sa.Engine, keys: Iterable[str]) -> dict[str, list[Record]]:
    """Key → what the catalog has under it, whatever subjects it was kept apart into."""
    found: dict[str, list[Record]] = {key: [] for key in keys}
    with engine.connect() as session:
        for chunk in chunks(found):
            under = StudyRow.subject_id.in_(chunk) | StudyRow.shared_key.in_(chunk)
            under &= StudyRow.subject_id != StudyRow.study_id  # nothing tells of which of them these are
            for row in session.execute(sa.select(*_COLUMNS).where(under)):
                found[key_of(row.subject_id)].append(_record(row))
    return found


def _record(row: Any) -> Record:
    patient = Patient(key_of(row.subject_id), cast("Sex | None", row.sex), row.birth_key)
    return Record(row.study_id, row.subject_id, patient)


def _fitting(patient: Patient, records: Collection[Patient]) -> Collection[Patient]:
    """Of records that contradict each other, those that the patient fits, if any."""
    births = {record.birth_date for record in records} - {None}
    if len(births) <= 1 and not {"F", "M"} <= {record.sex for record in records}:
        return records
    return [record for record in records if not contradict(patient, record)] or records
