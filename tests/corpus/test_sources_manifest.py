"""A user's table: every dialect is read, every bad row is named, no study mixes two subjects."""

import json
import os
import unicodedata
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.demographics import parse_age, parse_modality, parse_sex, parse_view
from corpus.errors import CorpusError
from corpus.findings import Status, status_lists
from corpus.records import Problem, Study
from corpus.sources import open_source
from corpus.tables.dates import parse_date
from corpus.tables.encodings import decode
from corpus.tables.reader import read_table


def read(path: Path, **options: object) -> tuple[dict[str, Study], list[Problem]]:
    problems: list[Problem] = []
    studies = list(open_source(f"manifest:{path}", **options).studies(problems.append))  # type: ignore[arg-type]
    return {study.study_id: study for study in studies}, problems


def csv(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    (folder / "m.csv").write_bytes(text.encode(encoding))
    return folder / "m.csv"


def states(problems: list[Problem]) -> list[tuple[str, str]]:
    return [(problem.item_id, problem.state) for problem in problems]


@pytest.fixture
def folder(tmp_path: Path, png_bytes: bytes) -> Path:
    (tmp_path / "films").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "films" / name).write_bytes(png_bytes)
    return tmp_path


FULL = {
    "study_id": "S1",
    "subject_id": "P1",
    "image": "films/a.png",
    "report": "FINDINGS: Small effusion.",
    "view": "AP supine",
    "modality": "DX",
    "date": "2021-03-04",
    "age": 61,
    "sex": "F",
    "study_uid": "1.2.3",
    "accession": "A1",
    "diagnosis": "Pneumonia",
    "present": "effusion|Lung Mass",
    "absent": "pneumothorax",
    "uncertain": "pneumonia",
    "scanner": "Model 5",
    "dose": 0.25,
}


def write_full(folder: Path, kind: str) -> Path:
    if kind == "csv":
        pl.DataFrame([FULL]).write_csv(folder / "m.csv")
    elif kind == "parquet":
        pl.DataFrame([FULL]).write_parquet(folder / "m.parquet")
    else:
        (folder / "m.jsonl").write_text(json.dumps(FULL | {"present": ["effusion", "Lung Mass"]}) + "\n")
    return folder / f"m.{kind}"


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl"])
def test_every_column_of_the_contract_reaches_the_study_from_every_format(folder: Path, kind: str) -> None:
    studies, problems = read(write_full(folder, kind))
    assert not problems
    study = studies["manifest:S1"]
    assert study.subject_id == "manifest:P1"
    assert study.images[0].item_id == "manifest:S1#a"
    assert study.images[0].location == str(folder / "films" / "a.png")
    assert (study.images[0].view, study.images[0].modality) == ("ap_supine", "DX")
    assert study.report is not None
    assert study.report.section("findings") == "Small effusion."
    assert (study.date, study.age, study.sex) == ("2021-03-04", 61.0, "F")
    assert (study.study_uid, study.accession, study.diagnosis) == ("1.2.3", "A1", "Pneumonia")
    result = status_lists(study.findings)
    assert set(result["present"]) == {"lung_opacity", "lung_lesion", "pleural_effusion", "mass"}
    assert (result["absent"], result["uncertain"]) == (["pneumothorax"], ["pneumonia"])
    assert study.attributes == {"scanner": "Model 5", "dose": 0.25}


def test_rows_of_one_study_id_are_one_study(folder: Path) -> None:
    rows = (
        "study_id,subject_id,image,report,ward\n"
        "S1,P1,films/a.png,,3\nS2,,,Clear.,4\nS1,,films/b.png,Normal.,\n"
    )
    studies, problems = read(csv(folder, rows))
    assert not problems
    assert [len(study.images) for study in studies.values()] == [2, 0]
    assert studies["manifest:S1"].report is not None
    assert studies["manifest:S1"].subject_id == "manifest:P1"
    assert studies["manifest:S2"].subject_id == "manifest:S2"
    assert studies["manifest:S1"].attributes == {"ward": 3}


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "latin-1", "cp1252", "utf-16", "utf-16-le", "utf-16-be"]
)
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_csv_of_any_dialect_and_encoding_reads_the_same(
    folder: Path, separator: str, encoding: str, line_end: str
) -> None:
    quoted = f'"größer, ""breiter""; höher{line_end}und|tiefer"'
    lines = [["study_id", "image", "report"], ["Sä", "films/a.png", quoted], ["S2", "", "Clear."]]
    text = line_end.join(separator.join(line) for line in lines) + line_end
    studies, problems = read(csv(folder, text, encoding))
    assert not problems
    assert list(studies) == ["manifest:Sä", "manifest:S2"]
    assert studies["manifest:Sä"].report is not None
    assert 'größer, "breiter"; höher' in studies["manifest:Sä"].report.text


def test_bad_rows_are_recorded_and_the_rest_read(folder: Path) -> None:
    rows = (
        "study_id,image,report\n"
        "S1,films/a.png,\n"
        "S2,films/b.png,x,too,many\n"
        ",films/b.png,\n"
        "S4,,\n"
        "S5,films/gone.png,\n"
        "\n"
        "S1,films/a.png,\n"
        "S6\n"
        "S7,,Normal.\n"
    )
    studies, problems = read(csv(folder, rows))
    assert list(studies) == ["manifest:S1", "manifest:S7"]
    assert states(problems) == [
        ("manifest:m.csv@row2", "failed"),
        ("manifest:row2", "failed"),
        ("manifest:S1#a@row5", "skipped"),
        ("manifest:S4", "failed"),
        ("manifest:S5#gone", "missing"),
        ("manifest:S6", "failed"),
    ]


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ("studdy,image", r"no column 'study_id' \(did you mean 'studdy'\?\)"),
        ("study_id,images", r"no column 'image', 'report' or 'report_file' \(did you mean 'images'\?\)"),
        ("study_id,image,image", "the column 'image' twice"),
        ("", "is empty"),
        ("\n\n", "has no header"),
    ],
)
def test_a_table_that_is_no_manifest_is_refused_saying_what_is_wrong(
    folder: Path, header: str, says: str
) -> None:
    with pytest.raises(CorpusError, match=says):
        read(csv(folder, header))


def test_a_table_of_an_unknown_or_broken_format_is_refused(folder: Path) -> None:
    for name, content in {"m.xlsx": b"PK", "m.parquet": b"PAR1 no", "m.jsonl": b"[1, 2]\nno\n"}.items():
        (folder / name).write_bytes(content)
        with pytest.raises(CorpusError, match=name):
            read(folder / name)
    os.mkfifo(folder / "pipe.csv")
    with pytest.raises(CorpusError, match="is a named pipe"):
        read(folder / "pipe.csv")


def test_lines_that_are_no_json_are_recorded(folder: Path) -> None:
    (folder / "m.jsonl").write_text('{"study_id": 7, "report": "Clear."}\n{broken\n[1]\n\n')
    studies, problems = read(folder / "m.jsonl")
    assert list(studies) == ["manifest:7"]
    assert states(problems) == [("manifest:m.jsonl@row2", "failed"), ("manifest:m.jsonl@row3", "failed")]


def test_a_study_of_two_subjects_is_left_out(folder: Path) -> None:
    rows = "study_id,subject_id,image\nS1,SECRET-A,films/a.png\nS1,SECRET-B,films/b.png\nS2,P,films/a.png\n"
    studies, problems = read(csv(folder, rows))
    assert list(studies) == ["manifest:S2"]
    assert states(problems) == [("manifest:S1", "failed")]
    assert "more than one subject" in problems[0].reason
    assert "SECRET" not in problems[0].reason


def test_one_accession_of_two_subjects_is_taken_from_both(folder: Path) -> None:
    rows = "study_id,subject_id,accession,report\nS1,P1,A1,Clear.\nS2,P2,A1,Clear.\nS3,P1,A3,Clear.\n"
    studies, problems = read(csv(folder, rows))
    assert [study.accession for study in studies.values()] == [None, None, "A3"]
    assert states(problems) == [("manifest:S1#accession", "failed"), ("manifest:S2#accession", "failed")]


def test_impossible_values_are_recorded_and_the_study_stays_without_them(folder: Path) -> None:
    rows = (
        "study_id,report,age,sex,date,present,absent\n"
        "S1,Clear.,411,X,yesterday,edema|gout,edema\n"
        "S2,Clear.,40,F,2020-01-01,,\n"
        "S2,,41,,,,\n"
    )
    studies, problems = read(csv(folder, rows))
    first = studies["manifest:S1"]
    assert (first.age, first.sex, first.date, dict(first.findings)) == (None, None, None, {})
    assert sorted(states(problems)) == sorted(
        [
            ("manifest:S1#findings", "noted"),
            ("manifest:S1#findings", "noted"),
            ("manifest:S1#age", "noted"),
            ("manifest:S1#sex", "noted"),
            ("manifest:S1#date", "noted"),
            ("manifest:S2#age", "noted"),
        ]
    )
    assert studies["manifest:S2"].age == 40
    assert any("unknown finding 'gout'" in p.reason for p in problems)
    assert any("edema has two statuses" in p.reason for p in problems)


def test_other_modalities_are_skipped_by_column_and_by_header(folder: Path, make_dicom) -> None:
    make_dicom(folder / "films" / "mr.png", Modality="MR")  # judged by content, not by name
    rows = "study_id,image,modality\nS1,films/a.png,CT\nS2,films/mr.png,\nS3,films/b.png,x-ray\n"
    path = csv(folder, rows)
    studies, problems = read(path)
    assert list(studies) == ["manifest:S3"]
    assert states(problems) == [("manifest:S1#a", "skipped"), ("manifest:S2#mr", "skipped")]
    assert list(read(path, admit=frozenset({"CT", "MR"}))[0]) == ["manifest:S1", "manifest:S2", "manifest:S3"]


def test_names_of_images_with_line_breaks_and_absolute_paths_are_found(
    folder: Path, png_bytes: bytes
) -> None:
    (folder / "odd\nname.png").write_bytes(png_bytes)
    rows = f'study_id,image\nS1,"odd\nname.png"\nS2,{folder}/films/a.png\nS3,loop.png\n'
    (folder / "loop.png").symlink_to(folder / "loop.png")
    studies, problems = read(csv(folder, rows))
    assert not problems, "whoever reads the loop says what it is"
    assert studies["manifest:S1"].images[0].item_id == "manifest:S1#odd\nname"
    assert len(studies) == 3


def test_other_columns_keep_their_type(folder: Path) -> None:
    rows = (
        "study_id,report,count,dose,urgent,ward,empty,\n"
        "S1,Clear.,3,0.5,yes,B2,,x\n"
        "S2,Clear.,-4,7,no,17,,\n"
        "S3,Clear.,,,,,,\n"
    )
    studies, _ = read(csv(folder, rows))
    assert studies["manifest:S1"].attributes == {"count": 3, "dose": 0.5, "urgent": True, "ward": "B2"}
    assert studies["manifest:S2"].attributes == {"count": -4, "dose": 7.0, "urgent": False, "ward": "17"}
    assert studies["manifest:S3"].attributes == {}


def test_a_source_can_be_read_again(folder: Path) -> None:
    source = open_source(f"manifest:{write_full(folder, 'csv')}")
    assert list(source.studies(lambda p: None)) == list(source.studies(lambda p: None))


@given(st.binary(min_size=1, max_size=300))
def test_any_bytes_decode_to_some_text(content: bytes) -> None:
    assert isinstance(decode(content).text, str)


@given(
    st.lists(
        st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8), min_size=3, max_size=3),
        max_size=8,
    )
)
def test_a_written_csv_is_read_back(tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]]) -> None:
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    columns = {name: [row[position] for row in rows] for position, name in enumerate("xyz")}
    frame = pl.DataFrame(columns, schema=dict.fromkeys("xyz", pl.String))
    frame.write_csv(path)
    composed = [[unicodedata.normalize("NFC", cell) for cell in row] for row in rows]
    expected = [tuple(cell or None for cell in row) for row in composed if any(row)]
    assert read_table(path).frame.rows() == expected


@pytest.mark.parametrize(
    ("written", "years"),
    [
        ("045Y", 45),
        ("006M", 0.5),
        ("058Y", 58),
        (61.5, 61.5),
        ("0", 0),
        ("72 years", 72),
        ("", None),
        ("NaN", None),
    ],
)
def test_ages(written: str | float, years: float | None) -> None:
    assert parse_age(written) == years


@pytest.mark.parametrize("written", ["411", "-3", "old", "045Q", "1e3", "121"])
def test_impossible_ages_are_quoted(written: str) -> None:
    with pytest.raises(ValueError, match="is not possible"):
        parse_age(written)


@pytest.mark.parametrize(
    ("written", "iso"),
    [
        ("2020-01-05", "2020-01-05"),
        ("20200105", "2020-01-05"),
        ("2020-01-05T10:30:00", "2020-01-05T10:30:00"),
        ("January 22, 2020", "2020-01-22"),
        ("Mar 3, 2020", "2020-03-03"),
        ("12 March 2020", "2020-03-12"),
        ("2/29/2020", "2020-02-29"),
        ("03/31/20", "2020-03-31"),
        ("2020", None),
        ("March 2003", None),
        ("January 20", None),
        ("", None),
    ],
)
def test_dates_are_days_or_none(written: str, iso: str | None) -> None:
    assert parse_date(written) == iso


@pytest.mark.parametrize("written", ["31/31/2020", "0020-01-01", "soon", "2020-13-45"])
def test_what_is_no_date_is_quoted(written: str) -> None:
    with pytest.raises(ValueError, match="the date"):
        parse_date(written)


def test_views_modalities_and_sexes_have_one_name_each() -> None:
    assert [parse_view(v) for v in ("PA", "AP Supine", "L", "LL", "LATERAL", "Frontal", "Coronal", "")] == [
        "pa", "ap_supine", "lateral", "lateral", "lateral", None, "other", None,
    ]  # fmt: skip
    assert [parse_modality(m) for m in ("X-ray", "CXR", "dx", "CT", None)] == ["XR", "XR", "DX", "CT", None]
    assert [parse_sex(s) for s in ("F", "male", "O", "U", None)] == ["F", "M", "O", None, None]
    assert Status("present") is Status.PRESENT


def test_placeholders_and_contradicting_sexes_never_merge_two_patients(tmp_path: Path) -> None:
    rows = (
        "study_id,subject_id,sex,report\n"
        "a,unknown,F,Clear.\nb,unknown,F,Clear.\nc,0,F,Clear.\nd,p1,F,Clear.\ne,p1,M,Clear.\nf,p1,,Clear.\n"
        "g,p2,F,Clear.\nh,p2,O,Clear.\ni,,F,Clear.\n"
    )
    (tmp_path / "m.csv").write_text(rows)
    problems: list[Problem] = []
    source = open_source(f"manifest:{tmp_path / 'm.csv'}")
    subjects = {s.study_id[-1]: s.subject_id for s in source.studies(problems.append)}
    assert [subjects[name] for name in "abc"] == ["manifest:a", "manifest:b", "manifest:c"]
    assert subjects["d"] == "manifest:p1"
    assert subjects["e"].startswith("manifest:p1~")
    assert subjects["f"] == "manifest:f", "nothing tells which of the two it is"
    assert subjects["g"] == subjects["h"] == "manifest:p2"
    assert {p.item_id[9] for p in problems} == set("abcdef"), "an empty cell is no placeholder"


def test_a_table_may_count_its_subjects_from_0(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("study_id,subject_id,report\na,0,Clear.\nb,0,Clear.\nc,1,Clear.\n")
    source = open_source(f"manifest:{tmp_path / 'm.csv'}")
    assert [study.subject_id for study in source.studies([].append)] == [
        "manifest:0",
        "manifest:0",
        "manifest:1",
    ]


def test_a_subject_may_have_the_name_of_its_study(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("study_id,subject_id,report\n1,1,No effusion.\n2,2,Edema.\n")
    problems: list[Problem] = []
    studies = list(open_source(f"manifest:{tmp_path / 'm.csv'}").studies(problems.append))
    assert [study.subject_id for study in studies] == ["manifest:1", "manifest:2"]
    assert problems == []
