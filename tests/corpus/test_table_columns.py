"""Columns are found by any of their usual names; renamed and nearly matching ones are reported."""

from pathlib import Path

import pytest

from corpus.errors import CorpusError
from corpus.notices import Notice
from corpus.records import Problem, Study
from corpus.sources import open_source
from corpus.tables import TableOptions


def read(folder: Path, text: str) -> tuple[list[Study], list[Notice]]:
    (folder / "m.csv").write_text(text)
    notices: list[Notice] = []
    source = open_source(f"manifest:{folder / 'm.csv'}", tables=TableOptions(on_notice=notices.append))
    return list(source.studies(lambda problem: None)), notices


@pytest.mark.parametrize(
    "header",
    [
        "study_id,subject_id,age,sex,date,study_uid,accession,report",
        "Study_ID,Subject_ID,Age,Sex,Date,Study_UID,Accession,Report",
        "StudyId,PatientID,PatientAge,PatientSex,StudyDate,StudyInstanceUID,AccessionNumber,ReportText",
        "study id,patient_id,Patient's Age,Gender,study-date,STUDY INSTANCE UID,accession no,report text",
        "exam id,MRN,age (years),patient_gender,Exam Date,studyInstanceUid,accession_number,text",
        "study,pid,age,sex,date,study_uid,accession,report",
        "Study,Person_ID,age,sex,date,study_uid,accession,report",
    ],
)
def test_a_manifest_is_read_under_any_usual_names(tmp_path: Path, header: str) -> None:
    studies, notices = read(tmp_path, f"{header}\nS1,P1,50,F,2019-06-05,1.2.3,A1,Clear lungs.\n")
    study = studies[0]
    assert (study.study_id, study.subject_id) == ("manifest:S1", "manifest:P1")
    assert (study.age, study.sex, study.date) == (50, "F", "2019-06-05")
    assert (study.study_uid, study.accession) == ("1.2.3", "A1")
    assert study.report is not None
    assert not study.attributes
    known = {"study_id", "subject_id", "age", "sex", "date", "study_uid", "accession", "report"}
    renamed = set(header.split(",")) - known
    assert {name for name in renamed for notice in notices if repr(name) in notice.text} == renamed
    assert len(notices) == len(renamed)


@pytest.mark.parametrize("name", ["ImagePath", "file", "filename", "FilePath", "path", "image_file"])
def test_the_column_of_images_is_found(tmp_path: Path, png_bytes: bytes, name: str) -> None:
    (tmp_path / "a.png").write_bytes(png_bytes)
    studies, _ = read(tmp_path, f"study_id,{name},ViewPosition\nS1,a.png,PA\n")
    assert [(image.item_id, image.view) for image in studies[0].images] == [("manifest:S1#a", "pa")]


@pytest.mark.parametrize(
    ("header", "both"),
    [
        ("study_id,report,PatientID,MRN", "'PatientID' and 'MRN'"),
        ("study_id,report,subject_id,Subject ID", "'subject_id' and 'Subject ID'"),
    ],
)
def test_two_columns_for_one_are_refused_naming_both(tmp_path: Path, header: str, both: str) -> None:
    with pytest.raises(CorpusError, match=f"two columns for subject_id: {both}"):
        read(tmp_path, f"{header}\nS1,Clear.,P1,P2\n")


def test_a_column_of_the_known_name_wins_over_another_name_which_stays(tmp_path: Path) -> None:
    studies, notices = read(tmp_path, "study_id,subject_id,report,text\nS1,P1,Clear.,marker L\n")
    assert studies[0].report is not None
    assert studies[0].report.text == "Clear."
    assert studies[0].attributes == {"text": "marker L"}
    assert [notice.kind for notice in notices] == ["column"]


@pytest.mark.parametrize(
    ("written", "meant"),
    [("subjct_id", "subject_id"), ("Patient_IDs", "subject_id"), ("acession", "accession"),
     ("imgae", "image"), ("StudyDat", "date"), ("ages", "age")],
)  # fmt: skip
def test_a_near_miss_is_reported_with_both_names(tmp_path: Path, written: str, meant: str) -> None:
    _, notices = read(tmp_path, f"study_id,report,{written}\nS1,Clear.,x\n")
    assert [f"{written!r} is not read as {meant}" in notice.text for notice in notices] == [True]


def test_columns_of_ones_own_are_no_near_misses(tmp_path: Path) -> None:
    header = "study_id,subject_id,report,image,patientname,ward,scanner,dose,stage,page,report_date,images"
    _, notices = read(tmp_path, f"{header}\nS1,P1,Clear.,,x,x,x,x,x,x,x,x\n")
    assert not notices


def test_a_manifest_without_subjects_gets_a_notice_of_the_consequence(tmp_path: Path) -> None:
    studies, notices = read(tmp_path, "study_id,report\nS1,Clear.\nS2,Clear.\n")
    assert [study.subject_id for study in studies] == ["manifest:S1", "manifest:S2"]
    assert [notice.kind for notice in notices] == ["subject"]
    assert "both sides of a split" in notices[0].text
    assert not read(tmp_path, "study_id,report\nS1,Clear.\nS1,\n")[1], "one study is one subject"


def test_sections_in_separate_columns_are_noted(tmp_path: Path, png_bytes: bytes) -> None:
    (tmp_path / "a.png").write_bytes(png_bytes)
    _, notices = read(tmp_path, "study_id,image,Findings\nS1,a.png,Clear.\n")
    assert ["'Findings' is not read as a report" in notice.text for notice in notices] == [True]


def test_notices_of_a_source_are_sent_once_when_it_is_opened(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("StudyID,report\nS1,Clear.\nS2,Clear.\n")
    notices: list[Notice] = []
    source = open_source(f"manifest:{tmp_path / 'm.csv'}", tables=TableOptions(on_notice=notices.append))
    for _ in range(2):
        assert len(list(source.studies(lambda problem: None))) == 2
    assert sorted(notice.kind for notice in notices) == ["column", "subject"]


def test_a_table_of_reports_is_read_under_any_usual_names(tmp_path: Path, make_dicom) -> None:  # type: ignore[no-untyped-def]
    make_dicom(tmp_path / "films" / "a.dcm", AccessionNumber="A1")
    (tmp_path / "r.csv").write_text("Accession Number,Report_Text,PatientID\nA1,Clear lungs.,P1\n")
    notices: list[Notice] = []
    problems: list[Problem] = []
    tables = TableOptions(on_notice=notices.append)
    source = open_source(f"dicom:{tmp_path / 'films'}", reports=tmp_path / "r.csv", tables=tables)
    (study,) = source.studies(problems.append)
    assert study.report is not None
    assert study.images
    assert not problems
    assert [notice.kind for notice in notices] == ["column"] * 3


def test_a_missing_column_is_reported_with_the_tables_own_names(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"no column 'study_id'.*it has MRN, ReportText"):
        read(tmp_path, "MRN,ReportText\nP1,Clear.\n")


def test_reports_in_section_columns_are_noted_before_the_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("study_id,findings,impression\nS1,Clear.,Normal.\n")
    notices: list[Notice] = []
    with pytest.raises(CorpusError, match="no column 'image', 'report'"):
        open_source(f"manifest:{tmp_path / 'm.csv'}", tables=TableOptions(on_notice=notices.append))
    assert ["'findings' is not read as a report" in notice.text for notice in notices] == [True]
