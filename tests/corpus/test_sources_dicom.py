"""A folder of DICOM files: grouped, gated, joined to reports, and never joined by guess."""

import os
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset

from corpus.errors import CorpusError
from corpus.images.reader import read_image
from corpus.language.deidentify import deidentify
from corpus.records import Problem, Study
from corpus.sources import open_source
from corpus.subjects import key_of


def read(folder: Path, **options: object) -> tuple[dict[str, Study], list[Problem]]:
    problems: list[Problem] = []
    studies = list(open_source(f"dicom:{folder}", **options).studies(problems.append))  # type: ignore[arg-type]
    return {study.study_id: study for study in studies}, problems


def table(folder: Path, text: str) -> Path:
    (folder / "reports.csv").write_text(text, "utf-8")
    return folder / "reports.csv"


@pytest.fixture
def radiographs(tmp_path: Path) -> Path:
    (tmp_path / "films").mkdir()
    return tmp_path / "films"


def test_files_become_studies_by_their_uid_wherever_they_lie(radiographs: Path, make_dicom) -> None:
    header = {"PatientID": "P1", "PatientSex": "F", "PatientAge": "045Y", "StudyDate": "20200131"}
    make_dicom(radiographs / "a" / "1.dcm", StudyInstanceUID="1.2", ViewPosition="PA", **header)
    make_dicom(radiographs / "b" / "c" / "no extension", StudyInstanceUID="1.2", ViewPosition="LL", **header)
    make_dicom(radiographs / "1.2.840.7", StudyInstanceUID="1.9", PatientID="P2", Modality="CR")
    studies, problems = read(radiographs)
    assert not problems
    assert list(studies) == ["dicom:1.2", "dicom:1.9"]
    study = studies["dicom:1.2"]
    assert study.subject_id == "dicom:P1"
    assert [(i.item_id, i.view) for i in study.images] == [
        ("dicom:1.2#1", "pa"),
        ("dicom:1.2#no extension", "lateral"),
    ]
    assert (study.age, study.sex, study.date, study.study_uid) == (45.0, "F", "2020-01-31", "1.2")
    assert studies["dicom:1.9"].images[0].item_id == "dicom:1.9#1.2.840.7", "a UID has dots, no extension"
    assert all(read_image(image.location).shape == (32, 32) for image in study.images)


@pytest.mark.parametrize(
    ("written", "years"),
    [("045Y", 45), ("006M", 0.5), ("012W", 0.23), ("010D", 0.027), ("62", 62), ("", None)],
)
def test_ages_are_years(radiographs: Path, make_dicom, written: str, years: float | None) -> None:
    make_dicom(radiographs / "a.dcm", PatientAge=written or None)
    studies, problems = read(radiographs)
    assert not problems
    assert studies["dicom:1.2.3"].age == (None if years is None else pytest.approx(years, abs=0.005))


def test_an_age_that_is_not_written_follows_from_the_dates(radiographs: Path, make_dicom) -> None:
    make_dicom(radiographs / "a.dcm", PatientBirthDate="19600701", StudyDate="20200701")
    assert read(radiographs)[0]["dicom:1.2.3"].age == pytest.approx(60, abs=0.01)


def test_an_impossible_age_is_recorded_and_the_image_stays(radiographs: Path, make_dicom) -> None:
    make_dicom(radiographs / "a.dcm", PatientAge="411Y")
    studies, problems = read(radiographs)
    assert studies["dicom:1.2.3"].age is None
    assert [(p.item_id, p.state) for p in problems] == [("dicom:1.2.3#age", "noted")]
    assert problems[0].reason == "the age '411Y' is not possible and is not used"


@pytest.mark.parametrize(
    ("elements", "says"),
    [
        ({"Modality": "MR"}, "--admit MR"),
        ({"Modality": "SR"}, "--admit SR"),
        ({"BodyPartExamined": "HAND"}, "its body part is HAND, not the chest"),
    ],
)
def test_an_image_of_another_body_part_is_skipped_unless_admitted(
    radiographs: Path, make_dicom, elements: dict, says: str
) -> None:
    make_dicom(radiographs / "a.dcm", **elements)
    studies, problems = read(radiographs)
    assert not studies
    assert [(p.item_id, p.state) for p in problems] == [("dicom:1.2.3#a", "skipped")]
    assert says in problems[0].reason
    assert read(radiographs, admit=frozenset(elements.values()))[0]["dicom:1.2.3"].images


@pytest.mark.parametrize("part", ["CHEST", "PORT CHEST", "RIBS", "CHEST_TO_ABDOMEN", "THORAX", ""])
def test_a_header_that_contradicts_nothing_is_admitted(radiographs: Path, make_dicom, part: str) -> None:
    make_dicom(radiographs / "a.dcm", BodyPartExamined=part or None)
    make_dicom(radiographs / "b.dcm", Modality=None)
    assert len(read(radiographs)[0]["dicom:1.2.3"].images) == 2


def test_files_that_are_no_dicom_are_recorded_and_the_rest_read(radiographs: Path, make_dicom) -> None:
    make_dicom(radiographs / "good.dcm")
    make_dicom(radiographs / "nameless.dcm", StudyInstanceUID=None)
    (radiographs / "page.dcm").write_text("<html>not found</html>")
    (radiographs / "empty.dcm").write_bytes(b"")
    (radiographs / "README.txt").write_text("read me")
    os.mkfifo(radiographs / "pipe.dcm")
    (radiographs / "loop.dcm").symlink_to(radiographs / "loop.dcm")
    (radiographs / "up").symlink_to(radiographs)
    (radiographs / "bad\nname.dcm").write_bytes(b"x")
    make_dicom(radiographs / "\udcff.dcm")
    studies, problems = read(radiographs)
    assert [i.item_id for i in studies["dicom:1.2.3"].images] == ["dicom:1.2.3#good"]
    result = {p.item_id: (p.state, p.reason) for p in problems}
    assert len(result) == len(problems) == 8
    assert result["dicom:unread#README"][0] == "skipped"
    repr(result).encode()
    for name, reason in {
        "nameless": "no StudyInstanceUID",
        "page": "is no DICOM file",
        "empty": "is empty",
        "pipe": "is a named pipe",
        "loop": "a loop of links",
        "\\udcff": "not UTF-8",
        "bad\nname": r"'bad\nname.dcm' is no DICOM",
    }.items():
        state, reported_reason = result[f"dicom:unread#{name}"]
        assert state == "failed"
        assert reason in reported_reason
        assert "\n" not in reported_reason


def test_broken_pixels_are_found_when_they_are_read_and_not_before(radiographs: Path, make_dicom) -> None:
    make_dicom(radiographs / "a.dcm", np.zeros((32, 32), np.uint16), NumberOfFrames=4)
    assert read(radiographs)[0]["dicom:1.2.3"].images


def test_one_name_in_two_folders_keeps_two_ids(radiographs: Path, make_dicom) -> None:
    make_dicom(radiographs / "s1" / "IM0001.dcm")
    make_dicom(radiographs / "s2" / "IM0001.dcm")
    first, second = (image.item_id for image in read(radiographs)[0]["dicom:1.2.3"].images)
    assert first == "dicom:1.2.3#IM0001"
    assert second.startswith("dicom:1.2.3#IM0001~")
    assert "s2" not in second, "no folder in an id"


def test_a_study_of_two_patients_is_left_out_and_names_neither(radiographs: Path, make_dicom) -> None:
    make_dicom(radiographs / "a.dcm", PatientID="SECRET-A")
    make_dicom(radiographs / "b.dcm", PatientID="SECRET-B")
    studies, problems = read(radiographs)
    assert not studies
    assert [(p.item_id, p.state) for p in problems] == [
        ("dicom:1.2.3#a", "failed"),
        ("dicom:1.2.3#b", "failed"),
    ]
    assert "2 patients" in problems[0].reason
    assert "SECRET" not in "".join(p.item_id + p.reason for p in problems)


def test_a_study_without_patient_is_its_own_subject(radiographs: Path, make_dicom) -> None:
    make_dicom(radiographs / "a.dcm", PatientID=None)
    assert read(radiographs)[0]["dicom:1.2.3"].subject_id == "dicom:1.2.3"


# the subject of a study


def problem_reasons(problems: list[Problem], name: str) -> dict[str, str]:
    return {p.item_id: p.reason for p in problems if p.item_id.endswith(name)}


def test_two_sites_ids_are_two_subjects_by_their_issuer(radiographs: Path, make_dicom) -> None:
    make_dicom(radiographs / "a.dcm", StudyInstanceUID="1.1", PatientID="1001", IssuerOfPatientID="NORTH")
    make_dicom(radiographs / "b.dcm", StudyInstanceUID="1.2", PatientID="1001", IssuerOfPatientID="SOUTH")
    qualifier = Dataset()
    qualifier.UniversalEntityID, qualifier.UniversalEntityIDType = "1.2.276.7", "ISO"
    make_dicom(
        radiographs / "c.dcm",
        StudyInstanceUID="1.3",
        PatientID="1001",
        IssuerOfPatientIDQualifiersSequence=[qualifier],
    )
    make_dicom(radiographs / "d.dcm", StudyInstanceUID="1.4", PatientID="1001")
    studies, problems = read(radiographs)
    assert [study.subject_id for study in studies.values()] == [
        "dicom:NORTH::1001",
        "dicom:SOUTH::1001",
        "dicom:1.2.276.7::1001",
        "dicom:1001",
    ]
    assert not problems


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"PatientSex": "F"}, {"PatientSex": "M"}),
        ({"PatientBirthDate": "19500102"}, {"PatientBirthDate": "19600102"}),
    ],
)
def test_contradicting_patients_of_one_id_are_separate_subjects_and_recorded(
    radiographs: Path, make_dicom, one: dict, other: dict
) -> None:
    make_dicom(radiographs / "a.dcm", StudyInstanceUID="1.1", PatientID="SECRET", **one)
    make_dicom(radiographs / "b.dcm", StudyInstanceUID="1.2", PatientID="SECRET", **other)
    studies, problems = read(radiographs)
    first, second = (study.subject_id for study in studies.values())
    assert first != second
    assert key_of(first) == key_of(second) == "dicom:SECRET"
    result = problem_reasons(problems, "#subject")
    assert list(result) == ["dicom:1.1#subject", "dicom:1.2#subject"]
    assert all("another sex or birth date" in reason and "SECRET" not in reason for reason in result.values())


def test_a_placeholder_makes_each_study_its_own_subject_with_a_warning(radiographs: Path, make_dicom) -> None:
    for number, name in enumerate(["ANONYMOUS", "ANONYMOUS", "0", None]):
        make_dicom(radiographs / f"{number}.dcm", StudyInstanceUID=f"1.{number}", PatientID=name)
    studies, problems = read(radiographs)
    assert [study.subject_id for study in studies.values()] == list(studies)
    assert len(problem_reasons(problems, "#subject")) == 4


def test_a_study_with_contradicting_files_is_left_out(radiographs: Path, make_dicom) -> None:
    make_dicom(radiographs / "a.dcm", PatientBirthDate="19500102")
    make_dicom(radiographs / "b.dcm", PatientBirthDate="19600102")
    make_dicom(radiographs / "c.dcm", StudyInstanceUID="1.4", IssuerOfPatientID="NORTH")
    make_dicom(radiographs / "d.dcm", StudyInstanceUID="1.4", IssuerOfPatientID="SOUTH")
    make_dicom(radiographs / "e.dcm", StudyInstanceUID="1.5", IssuerOfPatientID="SOUTH")
    make_dicom(radiographs / "f.dcm", StudyInstanceUID="1.5")
    studies, problems = read(radiographs)
    assert list(studies) == ["dicom:1.5"]
    assert studies["dicom:1.5"].subject_id == "dicom:SOUTH::P1", "what a file leaves out contradicts nothing"
    assert [p.state for p in problems] == ["failed"] * 4


def test_an_accession_of_two_sites_is_never_joined(radiographs: Path, tmp_path: Path, make_dicom) -> None:
    for uid, issuer in (("1.1", "NORTH"), ("1.2", "SOUTH")):
        make_dicom(
            radiographs / f"{uid}.dcm", StudyInstanceUID=uid, AccessionNumber="A1", IssuerOfPatientID=issuer
        )
    studies, problems = read(
        radiographs, reports=table(tmp_path, "accession,subject_id,report\nA1,P1,Which patient?\n")
    )
    assert all(study.report is None for study in studies.values())
    assert {p.state for p in problems} == {"failed"}


# elements of several values


@pytest.mark.parametrize("listed", ["A100", "A101", "A100\\A101", "A7\\A101"])
def test_a_report_joins_on_any_of_the_accessions(
    radiographs: Path, tmp_path: Path, make_dicom, listed: str
) -> None:
    make_dicom(radiographs / "a.dcm", AccessionNumber=["A100", "A101"])
    studies, problems = read(radiographs, reports=table(tmp_path, f"accession,report\n{listed},Joined.\n"))
    assert list(studies) == ["dicom:1.2.3"]
    assert studies["dicom:1.2.3"].report.described == "Joined."  # type: ignore[union-attr]
    assert studies["dicom:1.2.3"].accession == "A100"
    assert not problems


def test_two_reports_of_two_accessions_are_recorded_as_those_of_one(
    radiographs: Path, tmp_path: Path, make_dicom
) -> None:
    make_dicom(radiographs / "a.dcm", AccessionNumber=["A100", "A101"])
    studies, problems = read(
        radiographs, reports=table(tmp_path, "accession,report\nA100,One.\nA101,Two.\nA101,One.\n")
    )
    assert studies["dicom:1.2.3"].report.described == "One."  # type: ignore[union-attr]
    assert [(p.item_id, p.state) for p in problems] == [("dicom:1.2.3#report~2", "failed")]


def test_an_element_of_one_value_gives_its_first_and_the_rest_is_recorded(
    radiographs: Path, make_dicom
) -> None:
    make_dicom(
        radiographs / "a.dcm",
        PatientID=["P2", "OLD7"],
        PatientAge=["045Y", "046Y"],
        PatientSex=["F", "F"],
        StudyDate=["20200131", "20200201"],
        Modality=["DX", "CR"],
        BodyPartExamined=["CHEST", "RIB"],
        ViewPosition=["PA", "LL"],
    )
    studies, problems = read(radiographs)
    study = studies["dicom:1.2.3"]
    assert (study.subject_id, study.age, study.sex, study.date) == ("dicom:P2", 45.0, "F", "2020-01-31")
    assert (study.images[0].view, study.images[0].modality) == ("pa", "DX")
    assert {p.item_id.partition("#")[2] for p in problems} == {
        "PatientID", "PatientAge", "PatientSex", "StudyDate", "Modality", "BodyPartExamined", "ViewPosition",
    }  # fmt: skip
    assert all("several values" in p.reason and "OLD7" not in p.reason for p in problems)
    assert deidentify("Seen as OLD7 and P2XY before.", study.identifiers) == "Seen as XXXX and P2XY before."


def test_two_study_uids_are_none(radiographs: Path, make_dicom) -> None:
    make_dicom(radiographs / "a.dcm", StudyInstanceUID=["1.2", "1.3"])
    studies, problems = read(radiographs)
    assert not studies
    assert "malformed StudyInstanceUID" in problems[0].reason


def test_one_id_on_every_study_is_noted_where_no_header_confirms_one_patient(
    radiographs: Path, make_dicom
) -> None:
    for number in range(4):
        make_dicom(radiographs / f"{number}.dcm", StudyInstanceUID=f"1.{number}", PatientID="ID1")
    studies, problems = read(radiographs)
    assert {study.subject_id for study in studies.values()} == {"dicom:ID1"}
    assert [(p.item_id, p.state) for p in problems] == [(f"dicom:1.{n}#subject", "noted") for n in range(4)]
    make_dicom(radiographs / "0.dcm", StudyInstanceUID="1.0", PatientID="ID1", PatientSex="F")
    assert read(radiographs)[1] == []


# views


def test_a_view_code_stands_in_for_an_empty_position(radiographs: Path, make_dicom) -> None:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "R-10206", "SRT", "antero-posterior"
    make_dicom(radiographs / "a.dcm", ViewCodeSequence=[code], ViewPosition="")
    make_dicom(radiographs / "b.dcm", ViewCodeSequence=[code], ViewPosition="PA")
    studies, problems = read(radiographs)
    assert [image.view for image in studies["dicom:1.2.3"].images] == ["ap", "pa"]
    assert [(p.item_id, p.state) for p in problems] == [("dicom:1.2.3#b@view", "noted")]


# one SOPInstanceUID twice

OTHER = np.zeros((32, 32), np.uint16)


def test_a_copy_of_a_file_is_one_image(radiographs: Path, make_dicom) -> None:
    make_dicom(radiographs / "a.dcm", SOPInstanceUID="1.9")
    make_dicom(radiographs / "b.dcm", SOPInstanceUID="1.9", SeriesDescription="sent again")
    studies, problems = read(radiographs)
    assert [image.item_id for image in studies["dicom:1.2.3"].images] == ["dicom:1.2.3#a"]
    assert [(p.item_id, p.state) for p in problems] == [("dicom:1.2.3#b", "skipped")]


@pytest.mark.parametrize("study_uid", ["1.2.3", "1.2.4"])
def test_other_pixels_under_one_uid_are_a_conflict(radiographs: Path, make_dicom, study_uid: str) -> None:
    make_dicom(radiographs / "a.dcm", SOPInstanceUID="1.9")
    make_dicom(radiographs / "b.dcm", OTHER, SOPInstanceUID="1.9", StudyInstanceUID=study_uid)
    make_dicom(radiographs / "c.dcm", OTHER, StudyInstanceUID=study_uid)
    studies, problems = read(radiographs)
    ids = {image.item_id for study in studies.values() for image in study.images}
    assert ids == {"dicom:1.2.3#a", f"dicom:{study_uid}#b", f"dicom:{study_uid}#c"}, "both are kept"
    assert [(p.item_id, p.state) for p in problems] == [(f"dicom:{study_uid}#b@uid", "noted")]
    assert "other pixels" in problems[0].reason


def test_one_image_of_two_patients_is_a_conflict_though_its_pixels_are_equal(
    radiographs: Path, make_dicom
) -> None:
    make_dicom(radiographs / "a.dcm", SOPInstanceUID="1.9", PatientID="P1")
    make_dicom(radiographs / "b.dcm", SOPInstanceUID="1.9", PatientID="SECRET", StudyInstanceUID="1.2.4")
    studies, problems = read(radiographs)
    assert list(studies) == ["dicom:1.2.3"]
    assert [(p.item_id, p.state) for p in problems] == [("dicom:1.2.4#b", "failed")]
    assert "another patient" in problems[0].reason
    assert "SECRET" not in problems[0].reason


def test_one_image_in_two_studies_of_a_patient_stays_in_both(radiographs: Path, make_dicom) -> None:
    make_dicom(radiographs / "a.dcm", SOPInstanceUID="1.9")
    make_dicom(radiographs / "b.dcm", SOPInstanceUID="1.9", StudyInstanceUID="1.2.4")
    studies, problems = read(radiographs)
    assert len(studies) == 2
    assert not problems


# reports beside the images


def test_reports_join_on_accession_then_on_study_uid_and_singles_stay(
    radiographs: Path, tmp_path: Path, make_dicom
) -> None:
    make_dicom(radiographs / "a.dcm", StudyInstanceUID="1.1", AccessionNumber="A1")
    make_dicom(radiographs / "b.dcm", StudyInstanceUID="1.2")
    make_dicom(radiographs / "c.dcm", StudyInstanceUID="1.3", AccessionNumber="A3")
    rows = (
        "accession,study_uid,report\n"
        "A1,,By accession.\nA9,1.2,By study.\nA7,,FINDINGS: Alone.\n,1.77,Lonely.\n"
    )
    studies, problems = read(radiographs, reports=table(tmp_path, rows))
    assert not problems
    result = {name: study.report.described if study.report else None for name, study in studies.items()}
    assert result == {
        "dicom:1.1": "By accession.",
        "dicom:1.2": "By study.",
        "dicom:1.3": None,
        "dicom:A7": "Alone.",
        "dicom:1.77": "Lonely.",
    }
    assert studies["dicom:A7"].images == ()
    assert studies["dicom:A7"].subject_id == "dicom:A7"


def test_an_accession_of_two_patients_is_never_joined(radiographs: Path, tmp_path: Path, make_dicom) -> None:
    make_dicom(radiographs / "a.dcm", StudyInstanceUID="1.1", AccessionNumber="A1", PatientID="SECRET-A")
    make_dicom(radiographs / "b.dcm", StudyInstanceUID="1.2", AccessionNumber="A1", PatientID="SECRET-B")
    rows = "accession,study_uid,report\nA1,1.1,Which patient?\nA1,,Which other?\n"
    studies, problems = read(radiographs, reports=table(tmp_path, rows))
    assert list(studies) == ["dicom:1.1", "dicom:1.2"]
    assert all(study.report is None for study in studies.values())
    assert {p.state for p in problems} == {"failed"}
    assert {p.item_id for p in problems} == {"dicom:1.1#report", "dicom:1.2#report"}
    assert all("more than one subject" in p.reason and "SECRET" not in p.reason for p in problems)


def test_an_accession_of_two_subjects_in_the_table_is_never_joined(
    radiographs: Path, tmp_path: Path, make_dicom
) -> None:
    make_dicom(radiographs / "a.dcm", AccessionNumber="A1", PatientID="P1")
    rows = "accession,subject_id,report\nA1,P1,Mine.\nA1,P2,Another's.\n"
    studies, problems = read(radiographs, reports=table(tmp_path, rows))
    assert studies["dicom:1.2.3"].report is None
    assert {(p.item_id, p.state) for p in problems} == {("dicom:1.2.3#report", "failed")}


def test_a_report_of_another_patient_is_not_joined_by_study_uid(
    radiographs: Path, tmp_path: Path, make_dicom
) -> None:
    make_dicom(radiographs / "a.dcm", PatientID="P1")
    studies, problems = read(
        radiographs, reports=table(tmp_path, "study_uid,subject_id,report\n1.2.3,P2,Not mine.\n")
    )
    assert studies["dicom:1.2.3"].report is None
    assert [p.state for p in problems] == ["failed"]


def test_two_studies_of_one_order_share_its_report_unless_it_names_one(
    radiographs: Path, tmp_path: Path, make_dicom
) -> None:
    for uid in ("1.1", "1.2"):
        make_dicom(radiographs / f"{uid}.dcm", StudyInstanceUID=uid, AccessionNumber="A1")
        make_dicom(radiographs / f"{uid}x.dcm", StudyInstanceUID=f"{uid}.5", AccessionNumber="A2")
    rows = "accession,study_uid,report\nA1,,Both.\nA2,1.1.5,One.\n"
    studies, _ = read(radiographs, reports=table(tmp_path, rows))
    result = {name: study.report.described if study.report else None for name, study in studies.items()}
    assert result == {"dicom:1.1": "Both.", "dicom:1.2": "Both.", "dicom:1.1.5": "One.", "dicom:1.2.5": None}


def test_a_joined_report_says_what_it_was_called_while_it_was_alone(
    radiographs: Path, tmp_path: Path, make_dicom
) -> None:
    make_dicom(radiographs / "a.dcm", AccessionNumber="A1\\A2")
    rows = (
        "accession,study_uid,report\nA2,,Clear.\nA1,1.7,Clear.\nA2,1.2.3,Clear.\nA1,1.8,Clear.\n,1.8,Alone.\n"
    )
    studies, _ = read(radiographs, reports=table(tmp_path, rows))
    assert studies["dicom:1.2.3"].replaces == ("dicom:A2", "dicom:1.7")
    assert set(studies) == {"dicom:1.2.3", "dicom:1.8"}


def test_a_second_different_report_is_recorded(radiographs: Path, tmp_path: Path, make_dicom) -> None:
    make_dicom(radiographs / "a.dcm", AccessionNumber="A1")
    rows = "accession,report\nA1,First.\nA1,First.\nA1,Second.\n"
    studies, problems = read(radiographs, reports=table(tmp_path, rows))
    assert studies["dicom:1.2.3"].report.described == "First."  # type: ignore[union-attr]
    assert [(p.item_id, p.state) for p in problems] == [("dicom:1.2.3#report~2", "failed")]


def test_reports_in_files_of_any_encoding_are_read(radiographs: Path, tmp_path: Path, make_dicom) -> None:
    text = "FINDINGS: Größe normal, no effusion."
    rows = "accession,report_file\n"
    for number, encoding in enumerate(["utf-8", "utf-8-sig", "latin-1", "cp1252", "utf-16", "utf-16-le"]):
        ids = {"StudyInstanceUID": f"1.{number}", "AccessionNumber": f"A{number}", "PatientID": f"P{number}"}
        make_dicom(radiographs / f"{number}.dcm", **ids)
        (tmp_path / f"{number}.txt").write_bytes(text.encode(encoding))
        rows += f"A{number},{number}.txt\n"
    rows += "A9,gone.txt\nA8,pipe.txt\n"
    os.mkfifo(tmp_path / "pipe.txt")
    studies, problems = read(radiographs, reports=table(tmp_path, rows))
    assert len(studies) == 6
    assert all(s.report and s.report.described == "Größe normal, no effusion." for s in studies.values())
    assert [(p.item_id, p.state) for p in problems] == [
        ("dicom:A9#report", "missing"),
        ("dicom:A8#report", "failed"),
    ]


@pytest.mark.parametrize(
    ("header", "says"),
    [("accession,words\n", "'report' or 'report_file'"), ("acession,report\n", "did you mean 'acession'")],
)
def test_a_table_of_reports_that_cannot_be_joined_is_refused(
    radiographs: Path, tmp_path: Path, make_dicom, header: str, says: str
) -> None:
    make_dicom(radiographs / "a.dcm")
    with pytest.raises(CorpusError, match=says):
        read(radiographs, reports=table(tmp_path, header + "A1,x\n"))


def test_wordless_reports_are_recorded(radiographs: Path, tmp_path: Path, make_dicom) -> None:
    make_dicom(radiographs / "a.dcm", AccessionNumber="A1")
    studies, problems = read(radiographs, reports=table(tmp_path, "accession,report\nA1,XXXX XXXX. XXXX\n"))
    assert studies["dicom:1.2.3"].report is None
    assert [(p.item_id, p.state) for p in problems] == [("dicom:1.2.3#report", "skipped")]
