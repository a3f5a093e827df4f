"""The subject of a study: patients who share an id are distinguished across sources and runs.

A source distinguishes the patients that it sees at once (`corpus.subjects`). Two sites are often indexed one
after the other: here a study is compared with the catalog's studies under the key of its subject. Birth dates
are compared by their keyed hash; nothing else of them is stored.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from corpus.records import ImageRef, Problem, Study
from corpus.subjects import (
    AMBIGUOUS_ID,
    CONTRADICTED_ID,
    PATIENT_SOURCES,
    Patient,
    compatible_subjects,
    contradict,
    key_of,
    patient_id_of,
    separate_subject,
    without_issuer,
)
from indexer.catalog.database import Connected
from indexer.catalog.subjects import StudyFiles, SubjectRecord, files_of_studies, records_by_key
from indexer.home import Home
from indexer.ingest.embedding import is_same_file

OTHER_FILES = (
    "the index has this study from other files that are still there, as another patient's: it is left out; "
    "find out which patient it is of, and remove the study that is wrong"
)


class _SharedKey:
    """The studies under one key. `subjects`: subject → the patients that its records name, with counts."""

    def __init__(self, records: Iterable[SubjectRecord]) -> None:
        self.subjects: dict[str, Counter[Patient]] = {}
        self._records: dict[str, SubjectRecord] = {}
        for record in records:
            self.add(record)

    def add(self, record: SubjectRecord) -> None:
        self._records[record.study_id] = record
        self.subjects.setdefault(record.subject_id, Counter())[record.patient] += 1

    def take(self, study_id: str) -> SubjectRecord | None:
        """Remove and return the record of a study, if there is one."""
        record = self._records.pop(study_id, None)
        if record is not None:
            patients = self.subjects[record.subject_id]
            patients[record.patient] -= 1
            self.subjects[record.subject_id] = +patients  # without those of no study
            if not self.subjects[record.subject_id]:
                del self.subjects[record.subject_id]
        return record


def keyed_patient(home: Home, patient: Patient) -> Patient:
    """Return the patient with a keyed hash for the birth date: equal dates of two ids hash differently."""
    born = patient.birth_date
    return replace(patient, birth_date=born and home.keyed("birth date", f"{patient.key}\0{born}"))


def subjects_of(catalog: Connected, home: Home, patient: Patient) -> frozenset[str]:
    """Return the subject of a query's patient in the index; empty where several subjects are possible.

    Two patients whom an earlier version took for one are still one subject: the record that fits decides.
    Where the index has nothing under the issuer that a header names, its studies of the patient id without
    one may be the patient's: an earlier version stored no issuers, and not every system writes them.
    """
    if not patient.key:
        return frozenset()
    keys = dict.fromkeys((patient.key, without_issuer(patient.key)))
    records = records_by_key(catalog, keys)
    key = next((key for key in keys if records[key]), patient.key)
    named = keyed_patient(home, replace(patient, key=key))  # a birth date is hashed with its key
    subjects = _SharedKey(records[key]).subjects
    known = {subject: _fitting(named, patients) for subject, patients in subjects.items()}
    found = compatible_subjects(named, known) if known else (patient.key,)
    return frozenset(found) if len(found) == 1 else frozenset()


class Identities:
    """The subjects of the studies of one run: those of the catalog, and those of the run so far."""

    def __init__(self, catalog: Connected, home: Home) -> None:
        """Read this catalog; nothing is written."""
        self._catalog, self._home = catalog, home
        self._by_key: dict[str, _SharedKey] = {}

    def settle(self, studies: Sequence[Study]) -> tuple[list[Study], list[Problem]]:
        """Return the studies to be indexed, each under its subject, and the problems to be recorded.

        A study that the catalog has as another patient's, from other files, is left out.
        """
        keys = {key_of(study.subject_id) for study in studies if _names_patient(study)}
        for key, records in records_by_key(self._catalog, keys - self._by_key.keys()).items():
            self._by_key[key] = _SharedKey(records)
        before = files_of_studies(
            self._catalog, [study.study_id for study in studies if study.source == "dicom"]
        )
        named: list[Study] = []
        settled: list[Study] = []
        problems: list[Problem] = []
        for study in map(self._keyed, studies):
            existing = before.get(study.study_id)
            if existing is not None and _is_anothers(study, existing):
                problems.append(Problem(f"{study.study_id}#study", "failed", OTHER_FILES))
            else:
                named.append(study)
                settled.append(self._under_subject(study) if _names_patient(study) else study)
        # Only now: one of them may have left the subject that it was distinguished as.
        doubts = (self._doubt(was, now) for was, now in zip(named, settled, strict=True))
        return settled, problems + [problem for problem in doubts if problem is not None]

    def _keyed(self, study: Study) -> Study:
        """Return the study with keyed hashes in place of the birth date and of the images' UIDs."""
        images = tuple(self._keyed_image(image) for image in study.images)
        patient = keyed_patient(self._home, Patient(key_of(study.subject_id), study.sex, study.birth_date))
        birth_key = patient.birth_date or study.birth_key
        return replace(study, images=images, birth_date=None, birth_key=birth_key)

    def _keyed_image(self, image: ImageRef) -> ImageRef:
        if image.instance_uid is None:
            return image
        key = self._home.keyed("instance", image.instance_uid)
        return replace(image, instance_uid=None, instance_key=key)

    def _under_subject(self, study: Study) -> Study:
        key = key_of(study.subject_id)
        studies = self._by_key[key]
        earlier = studies.take(study.study_id)
        patient = Patient(key, study.sex, study.birth_key)
        known = studies.subjects
        # The source saw its studies at once: its subject stands until the index has other records.
        proposed = study.subject_id if study.subject_id not in known else None
        found = compatible_subjects(
            patient, known, before=proposed if earlier is None else earlier.subject_id
        )
        if len(found) > 1:
            return replace(study, subject_id=study.study_id, shared_key=key)
        subject = found[0] if found else separate_subject(key, study.study_id)
        studies.add(SubjectRecord(study.study_id, subject, patient))
        return replace(study, subject_id=subject)

    def _doubt(self, named: Study, settled: Study) -> Problem | None:
        """Return what is to be recorded of a study's subject, if anything."""
        if not _names_patient(named):
            return None
        item_id = f"{settled.study_id}#subject"
        if settled.subject_id == settled.study_id:
            return Problem(item_id, "noted", AMBIGUOUS_ID)
        several = len(self._by_key[key_of(named.subject_id)].subjects) > 1
        return Problem(item_id, "noted", CONTRADICTED_ID) if several else None


def _names_patient(study: Study) -> bool:
    return study.source in PATIENT_SOURCES and study.subject_id != study.study_id


def _is_anothers(study: Study, existing: StudyFiles) -> bool:
    """Return whether the catalog has this study as another patient's, from files that are still there."""
    if {image.location for image in study.images} & existing.files.keys():
        return False  # read anew: the header was corrected
    key, old = key_of(study.subject_id), existing.record.patient.key
    new = Patient(key, study.sex, study.birth_key)
    if _names_patient(study) and existing.record.subject_id != study.study_id and key != old:
        # An index of an earlier version has no issuers.
        others = patient_id_of(key) != patient_id_of(old) or ("::" in key and "::" in old)
    else:
        others = contradict(new, existing.record.patient)
    return others and any(stamp and is_same_file(file, stamp) for file, stamp in existing.files.items())


def _fitting(patient: Patient, records: Collection[Patient]) -> Collection[Patient]:
    """Return the records, or where they contradict each other, those that the patient fits, if any."""
    births = {record.birth_date for record in records} - {None}
    if len(births) <= 1 and not {"F", "M"} <= {record.sex for record in records}:
        return records
    return [record for record in records if not contradict(patient, record)] or records
