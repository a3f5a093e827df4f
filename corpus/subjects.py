"""Who a study is of: the key of a subject, ids that name nobody, and patients who share no more than an id.

A source and a query ask the same functions, so that a patient has one subject wherever an image comes from.
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

_NOBODY = frozenset({
    "anonymous", "anonymized", "anonymised", "anon", "deidentified", "removed", "redacted", "unknown", "unk",
    "unidentified", "undefined", "unassigned", "none", "null", "nil", "na", "nan", "noid", "noname", "test",
    "testpatient", "patient", "dummy", "default",
    "anonym", "anonymisiert", "unbekannt", "keine", "keiner",
    "anonyme", "anonymise", "inconnu", "inconnue", "aucun", "aucune",
    "anonimo", "anonima", "anonimizado", "anonimizada", "desconocido", "desconocida", "ninguno", "ninguna",
    "anoniem", "geanonimiseerd", "onbekend", "geen",
})  # fmt: skip
"""Words of the languages whose reports are read, without their accents."""
_COMPANIONS = frozenset({
    "id", "no", "name", "number", "subject", "case", "study", "nummer", "patientin", "paciente", "numero",
})  # fmt: skip
"""Words that name nobody beside one that does not."""
_FILLER = re.compile(r"0+|9{4,}|x{2,}")
_APART = re.compile(r"~[0-9a-f]{8}$")
_UID = re.compile(r"[0-9]+(\.[0-9]+){3,}")
_SIGNS = re.compile(r"[\W_]+")
_NO_BIRTH_DATE = date(1900, 1, 1)
"""What anonymizers write for a birth date is this day or an earlier one."""

PATIENT_SOURCES = frozenset({"dicom", "manifest"})
"""Sources whose patient ids a hospital or a table gave; those of published sets are their makers' care."""

SHARED_BY = 3
"""An id on every study of a source names nobody where so many patients stand under it who contradict each
other, or two in `SHARED_STUDIES` studies: two studies of one patient are a folder like any other."""
SHARED_STUDIES = 10
DOUBTED_STUDIES = 4
"""An id on every one of so many studies of a source is noted where no demographics could tell whose it is."""
_YEARS_APART = 2.0  # an age is in whole years on two study dates


@redacted
@dataclass(frozen=True, slots=True)
class Patient:
    """Whom a record names, as far as it says.

    `key`: `subject_key`, or empty where the id is absent or a placeholder. `birth_date`: ISO 8601, or in the
    index the keyed hash that stands for it; it is compared, never shown. `birth_year`: study date less age.
    """

    key: str = field(repr=False)
    sex: Sex | None = field(default=None, repr=False)
    birth_date: str | None = field(default=None, repr=False)
    birth_year: float | None = field(default=None, repr=False)


@redacted
@dataclass(frozen=True, slots=True)
class Subject:
    """The subject of a study. `warning`: why the patient id alone did not decide it, in a clause.

    `shared_key`: the key of the patient id, where the study is a subject of its own although it has one.
    """

    subject_id: str
    warning: str | None = None
    shared_key: str | None = field(default=None, repr=False)


NAMES_NOBODY = "its patient id is absent or a placeholder: the study is a subject of its own"
NOTHING_TELLS = (
    "one patient id stands on every study, and no sex, birth date or age tells whether they are one "
    "patient's: all count as one subject's"
)
ON_EVERY_STUDY = (
    "one patient id stands on every study, of patients of different sex or age: each study is a subject of "
    "its own"
)
KEPT_APART = "its patient id is also that of a patient of another sex or birth date: they are kept apart"
UNDECIDED = (
    "its patient id is that of several patients and it has neither sex nor birth date to tell which: "
    "the study is a subject of its own"
)


def names_nobody(patient_id: str) -> bool:
    """Whether a patient id is a placeholder: empty, ANON, UNKNOWN PATIENT, N/A, TEST, 000, 9999, XXXX, -.

    A placeholder with a number (ANON001) is an id: anonymizers count patients so.
    """
    words = _SIGNS.sub(" ", _without_accents(patient_id)).split()
    plain = "".join(words)
    if not plain or plain in _NOBODY or _FILLER.fullmatch(plain) is not None:
        return True
    named = set(words) - _COMPANIONS
    return bool(named) and named <= _NOBODY


def matched_id(patient_id: str) -> str:
    """Return the id by which a patient is found: as written, or by a setting without leading zeros."""
    padded = settings().match_padded_patient_ids and patient_id.isascii() and patient_id.isdigit()
    return patient_id.lstrip("0") if padded else patient_id


def subject_key(source: str, patient_id: str, issuer: str = "") -> str:
    """Return the key of a patient: `<source>:<id>`, or `<source>:<issuer>::<id>`; no two patients have one.

    Args:
        source: the kind of source; where nobody is named as issuer it stands for one.
        patient_id: DICOM's (0010,0020), no placeholder.
        issuer: DICOM's (0010,0021); empty where absent.
    """
    name = matched_id(patient_id)
    if issuer:
        return f"{source}:{_escaped(issuer, ':')}::{_escaped(name, ':')}"
    # As written wherever nothing could be mistaken for an issuer, for a mark of ours or for an escape.
    return f"{source}:{_escaped(name, ':') if re.search(r'::|[~%]', name) else name}"


def patient_id_of(subject_id: str) -> str:
    """Return the patient id that a key was made of."""
    name = key_of(subject_id).partition(":")[2]
    return re.sub(r"%(25|3A|7E)", lambda code: chr(int(code[1], 16)), name.rpartition("::")[2])


def without_issuer(key: str) -> str:
    """Return the key that the patient id has where no issuer is named: that of every earlier index."""
    return subject_key(key.partition(":")[0], patient_id_of(key))


def key_of(subject_id: str) -> str:
    """Return the key that a subject shares with those who are kept apart from it."""
    return _APART.sub("", subject_id)


def matching_subjects(subject_id: str) -> set[str]:
    """The ids that mean a subject: as named, and as patient ids are matched."""
    source, _, name = subject_id.partition(":")
    issuer, colons, patient_id = name.rpartition("::")
    return {subject_id, f"{source}:{issuer}{colons}{matched_id(patient_id)}"}


def apart(key: str, study_id: str) -> str:
    """Return the id of a subject that is kept apart from others of its key, by its first study."""
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
    """Whether two records cannot be of one patient: F and M, or two birth dates.

    What is missing contradicts nothing, nor does the sex O: it is what many systems write for unknown.
    """
    births = {one.birth_date, other.birth_date} - {None}
    return {one.sex, other.sex} == {"F", "M"} or len(births) > 1


def agreement(one: Patient, other: Patient) -> int:
    """How much speaks for one patient: 2 for a birth date, 1 for a sex."""
    birth = one.birth_date is not None and one.birth_date == other.birth_date
    return 2 * birth + (one.sex is not None and one.sex == other.sex)


def pick(
    patient: Patient, known: Mapping[str, Collection[Patient]], *, before: str | None = None
) -> tuple[str, ...]:
    """Return which subjects of a key a patient can be: those that nothing contradicts and most speaks for.

    Args:
        patient: whom a record names.
        known: subject → the patients of its other records.
        before: the subject that this record had; it stays where as much speaks for it.

    Returns:
        None for a patient who is new, several where the record does not say enough.
    """
    speaks = {
        subject: max((agreement(patient, record) for record in records), default=0)
        for subject, records in known.items()
        if not any(contradict(patient, record) for record in records)
    }
    if before is not None and before not in known:
        speaks[before] = 0
    best = tuple(subject for subject, much in speaks.items() if much == max(speaks.values()))
    return (before,) if before is not None and before in best else best


def assign_subjects(patients: Mapping[str, Patient]) -> dict[str, Subject]:
    """Return the subject of each study of a source, independent of their order.

    Args:
        patients: study_id → whom it names.
    """
    named: dict[str, list[str]] = defaultdict(list)
    subjects: dict[str, Subject] = {}
    for study_id, patient in patients.items():
        if patient.key:
            named[patient.key].append(study_id)
        else:
            subjects[study_id] = Subject(study_id, NAMES_NOBODY)
    for key, study_ids in named.items():
        of_key = {study_id: patients[study_id] for study_id in study_ids}
        if len(named) == 1 and _is_shared(list(of_key.values())):
            subjects |= {study_id: Subject(study_id, ON_EVERY_STUDY, key) for study_id in study_ids}
        elif len(study_ids) == len(patients) >= DOUBTED_STUDIES and set(of_key.values()) == {Patient(key)}:
            subjects |= {study_id: Subject(key, NOTHING_TELLS) for study_id in study_ids}
        else:
            subjects |= _assign(key, of_key)
    return subjects


def near_equal_ids(subject_ids: Iterable[str]) -> list[list[str]]:
    """The subjects whose patient ids differ only by leading zeros, case, blanks or signs, grouped.

    So may their issuers, or one names none: it is in the group of each issuer.
    """
    alike: dict[tuple[str, str], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for key in {key_of(subject_id) for subject_id in subject_ids}:
        source, _, name = key.partition(":")
        issuer, patient_id = _folded(name.rpartition("::")[0]), _folded(patient_id_of(key))
        if not _UID.fullmatch(patient_id):
            patient_id = patient_id.lstrip("0")
        if patient_id:
            alike[source, patient_id][issuer].add(key)
    groups = []
    for of_issuers in alike.values():
        unissued = of_issuers.pop("", set())
        groups += [keys | unissued for keys in of_issuers.values()] or [unissued]
    return sorted(sorted(keys) for keys in groups if len(keys) > 1)


def differ_by_zeros(subject_ids: Iterable[str]) -> bool:
    """Whether some of these would be one subject if patient ids were matched without leading zeros."""
    names = [key.rpartition(":") for key in subject_ids]
    padded = {(of, name.lstrip("0") if name.isascii() and name.isdigit() else name) for of, _, name in names}
    return len(padded) < len(names)


def _assign(key: str, patients: Mapping[str, Patient]) -> dict[str, Subject]:
    """Those who say most come first, so that what they say decides; then by study."""
    known: dict[str, set[Patient]] = {}  # of many studies few say different things
    found: dict[str, str] = {}
    undecided: dict[str, Subject] = {}
    ordered = sorted(patients, key=lambda name: (-agreement(patients[name], patients[name]), name))
    for study_id in ordered:
        fitting = pick(patients[study_id], known)
        if len(fitting) > 1:
            undecided[study_id] = Subject(study_id, UNDECIDED, key)
            continue
        subject = fitting[0] if fitting else apart(key, study_id) if known else key
        known.setdefault(subject, set()).add(replace(patients[study_id], birth_year=None))
        found[study_id] = subject
    warning = KEPT_APART if len(known) > 1 else None
    return {study_id: Subject(subject, warning) for study_id, subject in found.items()} | undecided


def _is_shared(patients: Sequence[Patient]) -> bool:
    """Whether an id that stands on every study of a source is nobody's."""
    people: list[list[Patient]] = []
    distinct = {replace(p, birth_year=p.birth_year and float(round(p.birth_year))) for p in patients}
    for patient in sorted(
        distinct, key=lambda p: (-agreement(p, p), p.sex or "", p.birth_date or "", p.birth_year or 0.0)
    ):
        fitting = (known for known in people if not any(_differ(patient, other) for other in known))
        of_one = next(fitting, None)
        if of_one is None:
            people.append([patient])
        else:
            of_one.append(patient)
        if len(people) >= SHARED_BY:
            return True
    return len(people) > 1 and len(patients) >= SHARED_STUDIES


def _differ(one: Patient, other: Patient) -> bool:
    years = (one.birth_year, other.birth_year)
    return contradict(one, other) or (
        years[0] is not None and years[1] is not None and abs(years[0] - years[1]) > _YEARS_APART
    )


def _folded(text: str) -> str:
    """The text without case, blanks and signs; the dots of a UID are no separators."""
    folded = unicodedata.normalize("NFKC", text).casefold().strip()
    return folded if _UID.fullmatch(folded) else _SIGNS.sub("", folded)


def _without_accents(text: str) -> str:
    """The text folded in case, without the marks of its letters."""
    letters = unicodedata.normalize("NFKD", text.casefold())
    return "".join(letter for letter in letters if not unicodedata.combining(letter)).casefold()


def _escaped(text: str, signs: str) -> str:
    for sign in ("%", "~", *signs):
        text = text.replace(sign, f"%{ord(sign):02X}")
    return text
