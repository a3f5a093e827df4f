"""What spreadsheets and Windows do to tables is seen, named and never mended by a guess."""

from collections.abc import Callable
from pathlib import Path

import pytest

from corpus.notices import Notice
from corpus.records import Problem, Study
from corpus.sources import open_source
from corpus.tables import TableOptions
from corpus.tables.reader import read_table
from corpus.tables.spreadsheet_damage import find_damaged_number, is_rounded


def read(folder: Path, text: str) -> tuple[dict[str, Study], list[tuple[str, str]]]:
    (folder / "m.csv").write_text(text)
    problems: list[Problem] = []
    studies = list(open_source(f"manifest:{folder / 'm.csv'}").studies(problems.append))
    return {study.study_id: study for study in studies}, [(p.item_id, p.state) for p in problems]


def join(folder: Path, make_dicom: Callable[..., Path], films: list[str], reports: str) -> tuple[
    list[Study], list[Problem], list[Notice]
]:  # fmt: skip
    for number, accession in enumerate(films):
        uid = f"1.2.{number}"
        make_dicom(folder / "films" / f"{number}.dcm", AccessionNumber=accession, StudyInstanceUID=uid)
    (folder / "r.csv").write_text(reports)
    problems: list[Problem] = []
    notices: list[Notice] = []
    source = open_source(
        f"dicom:{folder / 'films'}", reports=folder / "r.csv", tables=TableOptions(on_notice=notices.append)
    )
    return list(source.studies(problems.append)), problems, notices


@pytest.mark.parametrize(
    ("written", "meant", "cause"),
    [
        ("12345", "0012345", "leading zeros"),
        ("2.02001E+13", "20200112345678", "rounds long numbers"),
        ("2.02001e+13", "20200057345678", "rounds long numbers"),
        ("2,02E+07", "20200112", "rounds long numbers"),
        ("123456789012345000", "123456789012345678", "keeps 15 digits"),
        ("a-100", "A100", "case, spaces or signs"),
        ('="0012345"', "0012345", "case, spaces or signs"),
        ("12345.0", "12345", "formats numbers"),
        ("12345.0", "0012345", "formats numbers"),
        ("12,345", "0012345", "formats numbers"),
        ("12\u00a0345", "0012345", "formats numbers"),
        ("2.02001E13", "20200112345678", "rounds long numbers"),
    ],
)
def test_where_no_report_joins_the_likely_cause_is_noted_with_a_pair(
    tmp_path: Path, make_dicom: Callable[..., Path], written: str, meant: str, cause: str
) -> None:
    quoted = written.replace('"', '""')
    studies, _, notices = join(
        tmp_path, make_dicom, [meant, "X9"], f'accession,report\n"{quoted}",Clear lungs.\n'
    )
    assert not any(study.report is not None and study.images for study in studies), "nothing joins by a guess"
    (notice,) = notices
    assert notice.kind == "join"
    assert cause in notice.text
    assert notice.examples == (f"{written} in the table, {meant} in the images",)
    assert meant not in notice.text, "an identifier stays out of what can reach a log"


def test_reports_that_join_nothing_for_no_known_reason_are_noted_too(
    tmp_path: Path, make_dicom: Callable[..., Path]
) -> None:
    _, _, notices = join(tmp_path, make_dicom, ["A1"], "accession,report\nZ9,Clear lungs.\n")
    assert ["none of its 1 reports joined" in notice.text for notice in notices] == [True]
    assert not notices[0].examples


def test_reports_that_join_cause_no_notice(tmp_path: Path, make_dicom: Callable[..., Path]) -> None:
    rows = "accession,report\n0012,Clear lungs.\n"
    studies, problems, notices = join(tmp_path, make_dicom, ["0012", "0013"], rows)
    assert len(studies) == 2
    assert not problems
    assert not notices


@pytest.mark.parametrize(
    ("rows", "text", "examples"),
    [
        (
            "0012,,Clear.\nZ9,,Clear heart.\n",
            "1 of its 2 reports joins no image and is indexed as a study without an image: compare its "
            "accession number or study UID",
            ("Z9",),
        ),
        (
            "0012,,Clear.\n0013,,Clear.\nXYZ9,,Clear heart.\n,9.8.7,Clear lungs.\n",
            "2 of its 4 reports join no image and are indexed as studies without an image: compare their "
            "accession numbers or study UIDs",
            ("XYZ9", "9.8.7"),
        ),
        (
            "0012,,Clear.\n" + "".join(f"ZZ{n * 71},,Clear.\n" for n in range(1, 8)),
            "7 of its 8 reports join no image and are indexed as studies without an image: compare their "
            "accession numbers or study UIDs",
            ("ZZ71", "ZZ142", "ZZ213", "ZZ284", "ZZ355", "…"),
        ),
    ],
)
def test_reports_without_an_image_are_counted_where_others_join(
    tmp_path: Path, make_dicom: Callable[..., Path], rows: str, text: str, examples: tuple[str, ...]
) -> None:
    header = "accession,study_uid,report\n"
    _, problems, notices = join(tmp_path, make_dicom, ["0012", "0013"], header + rows)
    assert not problems
    assert [(notice.kind, notice.text, notice.examples) for notice in notices] == [("join", text, examples)]


def test_reports_of_one_rounded_accession_are_not_one_study(
    tmp_path: Path, make_dicom: Callable[..., Path]
) -> None:
    rows = "accession,report\n2.02001E+13,Clear lungs.\n2.02001E+13,Pneumothorax.\n"
    studies, problems, _ = join(tmp_path, make_dicom, ["20200112345678"], rows)
    assert [study.report for study in studies] == [None]
    assert [problem.state for problem in problems] == ["failed", "failed"]


def test_ids_that_were_rounded_make_no_study_and_no_subject(tmp_path: Path) -> None:
    rows = (
        "study_id,subject_id,accession,report\n2.02001E+13,P1,,Clear.\n2.02001E+13,P2,,Pneumothorax.\n"
        "S3,1.00001E+11,,Clear.\nS4,P4,2.02001E+13,Clear.\n"
    )
    studies, problems = read(tmp_path, rows)
    assert list(studies) == ["manifest:S4"]
    assert studies["manifest:S4"].accession is None
    assert problems == [
        ("manifest:row1", "failed"),
        ("manifest:row2", "failed"),
        ("manifest:row3", "failed"),
        ("manifest:S4#accession", "noted"),
    ]


@pytest.mark.parametrize(
    ("name", "rounded"),
    [("2.02001E+13", True), ("2E+10", True), ("1E5", False), ("2E12", False), ("A1", False)],
)
def test_only_what_a_spreadsheet_writes_counts_as_rounded(name: str, rounded: bool) -> None:
    assert is_rounded(name) is rounded


def test_different_numbers_are_no_damaged_ones() -> None:
    assert (
        find_damaged_number(["12346", "2.02101E+13", "B1", ""], {"0012345", "20200112345678", "A1"}) is None
    )


@pytest.mark.parametrize("first", ["sep=;", '"sep=;"', "SEP=;", "\ufeffsep=;"])
def test_a_first_line_that_names_the_separator_is_honoured(tmp_path: Path, first: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f'{first}\r\na;b,c\r\n1;"x;y"\r\n', newline="")
    assert read_table(path).frame.rows(named=True) == [{"a": "1", "b,c": "x;y"}]


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("sep=;\na,b\n1,2\n", ["a", "b"]),
        ("sep=;;\na;b\n1;2\n", ["a", "b"]),
        ("sep=,\n\na,b\n1,2\n", ["a", "b"]),
        ("sep=;\nreport\nx,y\n", ["report"]),
    ],
)
def test_a_separator_that_the_header_does_not_use_is_passed_over(
    tmp_path: Path, text: str, header: list[str]
) -> None:
    (tmp_path / "t.csv").write_text(text)
    assert read_table(tmp_path / "t.csv").frame.columns == header


def test_cells_of_any_length_are_read_also_beside_bad_rows(tmp_path: Path) -> None:
    report = "clear lungs " * 20_000
    path = tmp_path / "t.csv"
    path.write_text(f'n,report\n1,"{report}\n"\n2,x,too,many\n3,"{report}"\n')
    read = read_table(path)
    assert [len(row[1]) for row in read.frame.rows()] == [len(report)]
    assert [row.number for row in read.bad_rows] == [1, 2]
    path.write_text(f'n,report\n1,x,too,many\n2,"{report}\n"\n')
    assert [len(row[1]) for row in read_table(path).frame.rows()] == [len(report) + 1]


def test_lines_that_end_with_a_carriage_return_alone_are_lines(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b'a,b\r1,"x, y"\r2,z\r')
    assert read_table(path).frame.rows() == [("1", "x, y"), ("2", "z")]


@pytest.mark.parametrize("written", [r"images\a.png", r".\images\a.png", "images/a.png", r"images\\a.png"])
def test_paths_as_windows_writes_them_are_found(tmp_path: Path, png_bytes: bytes, written: str) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(png_bytes)
    studies, problems = read(tmp_path, f"study_id,image\nS1,{written}\n")
    assert not problems
    (image,) = studies["manifest:S1"].images
    assert (image.item_id, Path(image.location)) == ("manifest:S1#a", tmp_path / "images" / "a.png")


def test_a_file_with_a_backslash_in_its_name_comes_first(tmp_path: Path, png_bytes: bytes) -> None:
    (tmp_path / "images").mkdir()
    for name in ("images/a.png", "images\\a.png"):
        (tmp_path / name).write_bytes(png_bytes)
    studies, _ = read(tmp_path, "study_id,image\nS1,images\\a.png\n")
    assert studies["manifest:S1"].images[0].location == str(tmp_path / "images\\a.png")


@pytest.mark.parametrize("written", [r"C:\films\b.png", r"\\server\films\b.png"])
def test_a_path_on_a_windows_machine_is_missing_with_its_reason(tmp_path: Path, written: str) -> None:
    problems: list[Problem] = []
    (tmp_path / "m.csv").write_text(f"study_id,image\nS1,{written}\n")
    list(open_source(f"manifest:{tmp_path / 'm.csv'}").studies(problems.append))
    (problem,) = problems
    assert (problem.item_id, problem.state) == ("manifest:S1#b", "missing")
    assert "Windows" in problem.reason


def test_report_files_are_found_by_a_windows_path_and_by_decomposed_names(tmp_path: Path) -> None:
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "a\u0308.txt").write_text("Clear lungs.")
    studies, problems = read(tmp_path, "study_id,report_file\nS1,reports\\\u00e4.txt\n")
    assert not problems
    assert studies["manifest:S1"].report is not None
