"""Subjects: their keys, placeholder ids, and the separation of patients that share one patient id.

Sources and queries use the same functions, so that a patient has one subject wherever an image comes from.
"""

import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date

from corpus.records import Sex
from corpus.redaction import redacted
from corpus.settings import settings

_PLACEHOLDERS = frozenset({
    "anonymous", "anonymized", "anonymised", "anon", "deidentified", "removed", "redacted", "unknown", "unk",
    "unidentified", "undefined", "unassigned", "none", "null", "nil", "na", "nan", "noid", "noname", "test",
    "testpatient", "patient", "dummy", "default",
    "anonym", "anonymisiert", "unbekannt", "keine", "keiner",
    "anonyme", "anonymise", "inconnu", "inconnue", "aucun", "aucune",
    "anonimo", "anonima", "anonimizado", "anonimizada", "desconocido", "desconocida", "ninguno", "ninguna",
    "anoniem", "geanonimiseerd", "onbekend", "geen",
})  # fmt: skip
"""Placeholder words in the languages of the reports, without accents."""
_NEUTRAL_WORDS = frozenset({
    "id", "no", "name", "number", "subject", "case", "study", "nummer", "patientin", "paciente", "numero",
})  # fmt: skip
"""Words that identify no patient when they stand beside a placeholder."""
_FILLER = re.compile(r"0+|9{4,}|x{2,}")
_SEPARATED = re.compile(r"~[0-9a-f]{8}$")
_UID = re.compile(r"[0-9]+(\.[0-9]+){3,}")
_SIGNS = re.compile(r"[\W_]+")
_NO_BIRTH_DATE = date(1900, 1, 1)
"""Anonymizers write this day or an earlier one for a birth date."""

PATIENT_SOURCES = frozenset({"dicom", "manifest"})
"""Sources with patient ids from a hospital or a table. Published sets are consistent as published."""

MIN_SHARED_PATIENTS = 3
"""An id on every study of a source is treated as a placeholder where at least so many contradicting
patients have it, or two patients in `MIN_SHARED_STUDIES` studies: a folder of two studies of one
patient is common."""
MIN_SHARED_STUDIES = 10
MIN_UNVERIFIED_STUDIES = 4
"""An id on every one of at least so many studies is noted where no demographics confirm one patient."""
_MAX_YEAR_DIFFERENCE = 2.0  # years of birth from ages in whole years on two study dates


@redacted
@dataclass(frozen=True, slots=True)
class Patient:
    """The patient that a record names.

    `key`: `subject_key`, or empty where the id is absent or a placeholder.
    `sex`: None where unknown.
    `birth_date`: ISO 8601, or in the index its keyed hash; it is compared, never shown.
    `birth_year`: study date less age.
    """

    key: str = field(repr=False)
    sex: Sex | None = field(default=None, repr=False)
    birth_date: str | None = field(default=None, repr=False)
    birth_year: float | None = field(default=None, repr=False)


@redacted
@dataclass(frozen=True, slots=True)
class Subject:
    """The subject of a study.

    `subject_id`: its key, or an id of its own.
    `warning`: why the patient id alone did not determine it, as a clause.
    `shared_key`: the key of the patient id, where the study is a subject of its own although it has one.
    """

    subject_id: str
    warning: str | None = None
    shared_key: str | None = field(default=None, repr=False)


PLACEHOLDER_ID = "its patient id is absent or a placeholder: the study is a subject of its own"
UNVERIFIED_ID = (
    "every study has the same patient id, and no sex, birth date or age shows whether it is one patient: all "
    "count as one subject"
)
SHARED_ID = (
    "every study has the same patient id, of patients of different sex or age: each study is a subject of "
    "its own"
)
CONTRADICTED_ID = "a patient of another sex or birth date has its patient id too: they are kept apart"
AMBIGUOUS_ID = (
    "several patients have its patient id, and its record has neither sex nor birth date to choose one: the "
    "study is a subject of its own"
)


def is_placeholder(patient_id: str) -> bool:
    """Return whether a patient id is a placeholder: empty, ANON, UNKNOWN PATIENT, N/A, 000, XXXX, -.

    So are TEST and 9999. A placeholder with a number (ANON001) is an id: anonymizers number patients that
    way.
    """
    words = _SIGNS.sub(" ", _without_accents(patient_id)).split()
    plain = "".join(words)
    if not plain or plain in _PLACEHOLDERS or _FILLER.fullmatch(plain) is not None:
        return True
    named = set(words) - _NEUTRAL_WORDS
    return bool(named) and named <= _PLACEHOLDERS


def matched_id(patient_id: str) -> str:
    """Return the id under which a patient is matched: as written, or by a setting without leading zeros."""
    padded = settings().match_padded_patient_ids and patient_id.isascii() and patient_id.isdigit()
    return patient_id.lstrip("0") if padded else patient_id


def subject_key(source: str, patient_id: str, issuer: str = "") -> str:
    """Return the key of a patient, unique to it: `<source>:<id>`, or `<source>:<issuer>::<id>`.

    Args:
        source: the kind of source, which stands in for a missing issuer.
        patient_id: DICOM's (0010,0020), no placeholder.
        issuer: DICOM's (0010,0021); empty where absent.
    """
    name = matched_id(patient_id)
    if issuer:
        return f"{source}:{_escaped(issuer, ':')}::{_escaped(name, ':')}"
    # As written, except where it could be mistaken for an issuer, a separation mark or an escape.
    return f"{source}:{_escaped(name, ':') if re.search(r'::|[~%]', name) else name}"


def patient_id_of(subject_id: str) -> str:
    """Return the patient id from which a key was made."""
    name = key_of(subject_id).partition(":")[2]
    return re.sub(r"%(25|3A|7E)", lambda code: chr(int(code[1], 16)), name.rpartition("::")[2])


def without_issuer(key: str) -> str:
    """Return the key of the patient id without its issuer, as in indexes of earlier versions."""
    return subject_key(key.partition(":")[0], patient_id_of(key))


def key_of(subject_id: str) -> str:
    """Return the key of a subject, which separated subjects of one patient id share."""
    return _SEPARATED.sub("", subject_id)


def matching_subjects(subject_id: str) -> set[str]:
    """Return the spellings of a subject id: as given, and as patient ids are matched."""
    source, _, name = subject_id.partition(":")
    issuer, colons, patient_id = name.rpartition("::")
    return {subject_id, f"{source}:{issuer}{colons}{matched_id(patient_id)}"}


def separate_subject(key: str, study_id: str) -> str:
    """Return the id of a subject that is separated from others of its key, by its first study."""
    return f"{key}~{hashlib.sha256(study_id.encode()).hexdigest()[:8]}"


def read_birth_date(written: str, study_date: str | None) -> str | None:
    """Return a birth date (DICOM's DA) in ISO 8601; None where it is absent, a filler or after the study."""
    try:
        born = date.fromisoformat(written)
    except ValueError:
        return None
    if born <= _NO_BIRTH_DATE or born.isoformat() > (study_date or "2100"):
        return None
    return born.isoformat()


def contradict(one: Patient, other: Patient) -> bool:
    """Return whether two records cannot be of one patient: F and M, or two birth dates.

    A missing value contradicts nothing, nor does the sex O: many systems write it for unknown.
    """
    births = {one.birth_date, other.birth_date} - {None}
    return {one.sex, other.sex} == {"F", "M"} or len(births) > 1


def agreement(one: Patient, other: Patient) -> int:
    """Return the evidence for one patient: 2 for an equal birth date, plus 1 for an equal sex."""
    birth = one.birth_date is not None and one.birth_date == other.birth_date
    return 2 * birth + (one.sex is not None and one.sex == other.sex)


def compatible_subjects(
    patient: Patient, known: Mapping[str, Collection[Patient]], *, before: str | None = None
) -> tuple[str, ...]:
    """Return the subjects of a key that a patient can be: without contradiction and with the most evidence.

    Args:
        patient: the patient of a record.
        known: subject → the patients of its other records.
        before: the subject that this record had; it is preferred where its evidence is equal.

    Returns:
        Empty for a new patient, several where the record does not determine one.
    """
    scores = {
        subject: max((agreement(patient, record) for record in records), default=0)
        for subject, records in known.items()
        if not any(contradict(patient, record) for record in records)
    }
    if before is not None and before not in known:
        scores[before] = 0
    best = tuple(subject for subject, score in scores.items() if score == max(scores.values()))
    return (before,) if before is not None and before in best else best


def assign_subjects(patients: Mapping[str, Patient]) -> dict[str, Subject]:
    """Return the subject of each study of a source, independent of their order.

    Args:
        patients: study_id → the patient of its record.
    """
    named: dict[str, list[str]] = defaultdict(list)
    subjects: dict[str, Subject] = {}
    for study_id, patient in patients.items():
        if patient.key:
            named[patient.key].append(study_id)
        else:
            subjects[study_id] = Subject(study_id, PLACEHOLDER_ID)
    for key, study_ids in named.items():
        of_key = {study_id: patients[study_id] for study_id in study_ids}
        if len(named) == 1 and _is_shared(list(of_key.values())):
            subjects |= {study_id: Subject(study_id, SHARED_ID, key) for study_id in study_ids}
        elif len(study_ids) == len(patients) >= MIN_UNVERIFIED_STUDIES and set(of_key.values()) == {
            Patient(key)
        }:
            subjects |= {study_id: Subject(key, UNVERIFIED_ID) for study_id in study_ids}
        else:
            subjects |= _assign(key, of_key)
    return subjects


def near_equal_ids(subject_ids: Iterable[str]) -> list[list[str]]:
    """Return groups of subjects with nearly equal patient ids.

    They differ only by leading zeros, case, blanks or punctuation. Their issuers may differ in the same way.
    A subject without an issuer is in the group of each issuer.
    """
    groups_by_id: dict[tuple[str, str], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for key in {key_of(subject_id) for subject_id in subject_ids}:
        source, _, name = key.partition(":")
        issuer, patient_id = _folded(name.rpartition("::")[0]), _folded(patient_id_of(key))
        if not _UID.fullmatch(patient_id):
            patient_id = patient_id.lstrip("0")
        if patient_id:
            groups_by_id[source, patient_id][issuer].add(key)
    groups = []
    for of_issuers in groups_by_id.values():
        unissued = of_issuers.pop("", set())
        groups += [keys | unissued for keys in of_issuers.values()] or [unissued]
    return sorted(sorted(keys) for keys in groups if len(keys) > 1)


def differ_by_zeros(subject_ids: Iterable[str]) -> bool:
    """Return whether some of these were one subject if patient ids were matched without leading zeros."""
    names = [key.rpartition(":") for key in subject_ids]
    padded = {(of, name.lstrip("0") if name.isascii() and name.isdigit() else name) for of, _, name in names}
    return len(padded) < len(names)


def _assign(key: str, patients: Mapping[str, Patient]) -> dict[str, Subject]:
    """Assign the studies of one key, those with the most demographics first, then in order of id."""
    known: dict[str, set[Patient]] = {}  # sets, since most records of a patient are equal
    found: dict[str, str] = {}
    undecided: dict[str, Subject] = {}
    ordered = sorted(patients, key=lambda name: (-agreement(patients[name], patients[name]), name))
    for study_id in ordered:
        fitting = compatible_subjects(patients[study_id], known)
        if len(fitting) > 1:
            undecided[study_id] = Subject(study_id, AMBIGUOUS_ID, key)
            continue
        subject = fitting[0] if fitting else separate_subject(key, study_id) if known else key
        known.setdefault(subject, set()).add(replace(patients[study_id], birth_year=None))
        found[study_id] = subject
    warning = CONTRADICTED_ID if len(known) > 1 else None
    return {study_id: Subject(subject, warning) for study_id, subject in found.items()} | undecided


def _is_shared(patients: Sequence[Patient]) -> bool:
    """Return whether a patient id on every study of a source is a placeholder."""
    patients_found: list[list[Patient]] = []
    distinct = {replace(p, birth_year=p.birth_year and float(round(p.birth_year))) for p in patients}
    for patient in sorted(
        distinct, key=lambda p: (-agreement(p, p), p.sex or "", p.birth_date or "", p.birth_year or 0.0)
    ):
        fitting = (known for known in patients_found if not any(_differ(patient, other) for other in known))
        match = next(fitting, None)
        if match is None:
            patients_found.append([patient])
        else:
            match.append(patient)
        if len(patients_found) >= MIN_SHARED_PATIENTS:
            return True
    return len(patients_found) > 1 and len(patients) >= MIN_SHARED_STUDIES


def _differ(one: Patient, other: Patient) -> bool:
    years = (one.birth_year, other.birth_year)
    return contradict(one, other) or (
        years[0] is not None and years[1] is not None and abs(years[0] - years[1]) > _MAX_YEAR_DIFFERENCE
    )


def _folded(text: str) -> str:
    """Return the text without case, blanks and punctuation; the dots of a UID stay."""
    folded = unicodedata.normalize("NFKC", text).casefold().strip()
    return folded if _UID.fullmatch(folded) else _SIGNS.sub("", folded)


def _without_accents(text: str) -> str:
    """Return the text in lower case without diacritics."""
    letters = unicodedata.normalize("NFKD", text.casefold())
    return "".join(letter for letter in letters if not unicodedata.combining(letter)).casefold()


def _escaped(text: str, signs: str) -> str:
    for sign in ("%", "~", *signs):
        text = text.replace(sign, f"%{ord(sign):02X}")
    return text
