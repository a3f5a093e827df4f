"""Subjects: unique keys, placeholder ids, and patients of one id who are separated."""

from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.settings import settings
from corpus.splits import split_of
from corpus.subjects import (
    AMBIGUOUS_ID,
    CONTRADICTED_ID,
    PLACEHOLDER_ID,
    SHARED_ID,
    UNVERIFIED_ID,
    Patient,
    assign_subjects,
    compatible_subjects,
    contradict,
    differ_by_zeros,
    is_placeholder,
    key_of,
    matching_subjects,
    near_equal_ids,
    patient_id_of,
    read_birth_date,
    subject_key,
)

WRITTEN = st.text("a1:~%#\u00e9 ", min_size=1, max_size=6)


@given(WRITTEN, WRITTEN | st.just(""), WRITTEN, WRITTEN | st.just(""))
def test_two_patients_never_have_one_key(one: str, issuer: str, other: str, its_issuer: str) -> None:
    keys = subject_key("dicom", one, issuer), subject_key("dicom", other, its_issuer)
    assert (keys[0] == keys[1]) == ((one, issuer) == (other, its_issuer))
    assert patient_id_of(keys[0]) == one
    assert key_of(keys[0]) == keys[0], "no id looks like the mark of a subject that is kept apart"


@pytest.mark.parametrize("patient_id", ["1001", "A-17/3", "a:b", "P 1", "Größe"])
def test_without_an_issuer_a_subject_is_called_as_ever(patient_id: str) -> None:
    assert subject_key("dicom", patient_id) == f"dicom:{patient_id}"


@pytest.mark.parametrize(
    "written",
    [
        "", " ", "0", "000", "0000000", "9999", "99999999", "XX", "xxxx", "ANON", "Anonymous", "anonymized",
        "UNKNOWN", "unk", "NONE", "N/A", "n.a.", "TEST", "test_patient", "-", "?", "***", "ＡＮＯＮ", "null",
        "De-Identified", "Anonymous^Patient", "UNKNOWN PATIENT", "patient, unknown", "Test_Case",
        "PATIENT ID", "Unbekannt^Patient", "INCONNU", "desconocido", "onbekend", "anoniem",
        "anonyme", "anónimo", "ano\u0301nimo", "Patiënt onbekend",
    ],
)  # fmt: skip
def test_a_placeholder_is_no_id(written: str) -> None:
    assert is_placeholder(written)


@pytest.mark.parametrize(
    "written",
    [
        "1",
        "99",
        "999",
        "1000",
        "ANON1",
        "ANON001",
        "ANON-000",
        "ANONYMOUS-0003",
        "patient1",
        "UNKNOWN 12",
        "X1",
        "TEST7",
        "Nathan",
        "Anonymous^Smith",
        "ID",
        "NO",
        "Case",
        "Größe",
        "10",
        "12345",
    ],
)
def test_an_id_that_may_be_a_patients_is_one(written: str) -> None:
    assert not is_placeholder(written)


@pytest.mark.parametrize(
    ("one", "other", "cannot_be"),
    [
        (Patient("k", "F", "1950-01-02"), Patient("k", "M", "1950-01-02"), True),
        (Patient("k", "F", "1950-01-02"), Patient("k", "F", "1951-01-02"), True),
        (Patient("k", "F", "1950-01-02"), Patient("k", "F", "1950-01-02"), False),
        (Patient("k", "F", None), Patient("k", None, "1950-01-02"), False),
        (Patient("k", "O", None), Patient("k", "M", None), False),
    ],
)
def test_only_f_and_m_and_two_birth_dates_contradict(one: Patient, other: Patient, cannot_be: bool) -> None:
    assert contradict(one, other) is contradict(other, one) is cannot_be


@pytest.mark.parametrize(
    ("written", "study_date", "day"),
    [
        ("19500315", "2020-01-01", "1950-03-15"),
        ("19000101", None, None),
        ("18000101", None, None),
        ("99991231", None, None),
        ("20210101", "2020-01-01", None),
        ("1950", None, None),
        ("", None, None),
    ],
)
def test_a_filler_is_no_birth_date(written: str, study_date: str | None, day: str | None) -> None:
    assert read_birth_date(written, study_date) == day


MALE, FEMALE = Patient("dicom:1001", "M", "1950-01-02"), Patient("dicom:1001", "F", "1960-01-02")


def test_patients_of_one_id_are_separated_whatever_the_order() -> None:
    patients = {
        "a": MALE,
        "b": FEMALE,
        "c": Patient("dicom:1001", "M"),
        "d": Patient("dicom:1001", None, "1960-01-02"),
        "e": Patient("dicom:1001"),
    }
    found = [assign_subjects({name: patients[name] for name in order}) for order in permutations(patients)]
    assert all(subjects == found[0] for subjects in found)
    subjects = {name: subject.subject_id for name, subject in found[0].items()}
    assert subjects["a"] == subjects["c"] == "dicom:1001"
    assert subjects["b"] == subjects["d"] != subjects["a"]
    assert key_of(subjects["b"]) == "dicom:1001"
    assert subjects["e"] == "e", "nothing tells which of the two it is"
    assert [found[0][name].warning for name in "abe"] == [CONTRADICTED_ID, CONTRADICTED_ID, AMBIGUOUS_ID]


def test_what_is_missing_contradicts_nothing() -> None:
    patients = {"a": MALE, "b": Patient("dicom:1001"), "c": Patient("dicom:1001", "M")}
    assert {subject.subject_id for subject in assign_subjects(patients).values()} == {"dicom:1001"}
    assert not any(subject.warning for subject in assign_subjects(patients).values())


def test_placeholders_make_each_study_a_subject_with_a_warning() -> None:
    subjects = assign_subjects({"a": Patient(""), "b": Patient("")})
    assert {name: (s.subject_id, s.warning) for name, s in subjects.items()} == {
        "a": ("a", PLACEHOLDER_ID),
        "b": ("b", PLACEHOLDER_ID),
    }


def test_an_id_on_every_study_is_a_placeholder_only_where_patients_contradict() -> None:
    one = {f"s{n}": Patient("dicom:7", "F", None, 1950.0 + n % 2) for n in range(30)}
    assert {s.subject_id for s in assign_subjects(one).values()} == {"dicom:7"}, "a patient with 30 studies"
    ages = {f"s{n}": Patient("dicom:7", "F", None, 1950.0 + 5 * n) for n in range(3)}
    assert {name: s.subject_id for name, s in assign_subjects(ages).items()} == {n: n for n in ages}
    assert {s.warning for s in assign_subjects(ages).values()} == {SHARED_ID}
    sexes = {f"s{n}": Patient("dicom:7", "FM"[n % 2]) for n in range(10)}  # type: ignore[arg-type]
    assert len({s.subject_id for s in assign_subjects(sexes).values()}) == 10
    slip = {f"s{n}": Patient("dicom:7", "F" if n else "M") for n in range(4)}
    assert len({s.subject_id for s in assign_subjects(slip).values()}) == 2, (
        "a slip in a folder of one patient"
    )
    beside = ages | {"other": Patient("dicom:8")}
    assert {s.subject_id for s in assign_subjects(beside).values()} == {"dicom:7", "dicom:8"}


def test_an_id_on_every_study_is_noted_where_nothing_confirms_one_patient() -> None:
    silent = {f"s{n}": Patient("dicom:ID1") for n in range(4)}
    assert {(s.subject_id, s.warning) for s in assign_subjects(silent).values()} == {
        ("dicom:ID1", UNVERIFIED_ID)
    }
    for other in (
        {name: Patient("dicom:ID1", "F") for name in silent},
        silent | {"s3": Patient("dicom:ID1", None, None, 1950.0)},
        silent | {"s3": Patient("dicom:ID2")},
        silent | {"s3": Patient("")},
        {name: silent[name] for name in ("s0", "s1", "s2")},
    ):
        subjects = assign_subjects(other)
        assert not any(subjects[name].warning for name in ("s0", "s1", "s2"))


def test_a_record_stays_with_the_subject_that_it_had_while_as_much_speaks_for_it() -> None:
    known = {"dicom:1001": [MALE], "dicom:1001~0": [FEMALE]}
    assert compatible_subjects(Patient("dicom:1001"), known, before="dicom:1001~0") == ("dicom:1001~0",)
    assert compatible_subjects(MALE, known, before="dicom:1001~0") == ("dicom:1001",), "it was corrected"
    assert compatible_subjects(Patient("dicom:1001", "M", "1970-01-01"), known) == (), "a third one"


def test_padded_ids_match_only_where_a_setting_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert subject_key("dicom", "0003003") != subject_key("dicom", "3003")
    monkeypatch.setenv("SIMILARITY_MATCH_PADDED_PATIENT_IDS", "true")
    settings.cache_clear()
    try:
        assert subject_key("dicom", "0003003") == subject_key("dicom", "3003") == "dicom:3003"
        assert subject_key("dicom", "0003003", "A") == subject_key("dicom", "3003", "A") == "dicom:A::3003"
        assert subject_key("dicom", "00A3") == "dicom:00A3"
        assert matching_subjects("dicom:A::0003") == {"dicom:A::0003", "dicom:A::3"}
    finally:
        monkeypatch.undo()
        settings.cache_clear()


def test_near_equal_ids_are_found_by_zeros_case_blanks_and_signs() -> None:
    ids = ["0003003", "3003", "A-17", "a17", "a 17", "B1", "B2", "1.2.840.1", "1.2.84.01"]
    assert near_equal_ids(f"dicom:{name}" for name in ids) == [
        ["dicom:0003003", "dicom:3003"],
        ["dicom:A-17", "dicom:a 17", "dicom:a17"],
    ]
    assert near_equal_ids(["dicom:A::1001", "dicom:B::1001", "manifest:1001"]) == []
    assert near_equal_ids(["dicom:1001~01234567", "dicom:1001", "manifest:1001"]) == []


def test_near_equal_ids_are_found_whatever_is_written_of_the_issuer() -> None:
    ids = ["777", "HOSP::777", "hosp::777", "B::88", "b ::088", "C::88", "1.2::5", "12::5", "A::6", "B::6"]
    ids += ["9", "A::9", "B::9", "A::1.2.840.1", "1.2.840.1", "1.2.84.01"]
    assert near_equal_ids(f"dicom:{name}" for name in ids) == [
        ["dicom:1.2.840.1", "dicom:A::1.2.840.1"],
        ["dicom:1.2::5", "dicom:12::5"],
        ["dicom:777", "dicom:HOSP::777", "dicom:hosp::777"],
        ["dicom:9", "dicom:A::9"],
        ["dicom:9", "dicom:B::9"],
        ["dicom:B::88", "dicom:b ::088"],
    ]


@pytest.mark.parametrize(
    ("group", "by_zeros"),
    [
        (["dicom:0777", "dicom:777"], True),
        (["dicom:H::0777", "dicom:H::777"], True),
        (["dicom:777", "dicom:H::0777"], False),
        (["dicom:777", "dicom:H::777"], False),
        (["dicom:0A7", "dicom:A7"], False),
        (["dicom:A-7", "dicom:a7"], False),
    ],
)
def test_only_ids_that_differ_by_leading_zeros_are_counted_as_such(group: list[str], by_zeros: bool) -> None:
    assert differ_by_zeros(group) is by_zeros


def test_patients_of_one_id_train_or_test_together() -> None:
    subjects = [f"dicom:1001~{n:08x}" for n in range(40)]
    assert {split_of(subject) for subject in subjects} == {split_of("dicom:1001")}


def test_a_repr_shows_no_patient_data() -> None:
    shown = repr(replace(MALE, birth_year=1950.0))
    assert not any(part in shown for part in (MALE.key, str(MALE.birth_date), "1950"))
