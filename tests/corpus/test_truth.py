from pathlib import Path

import pytest

from corpus.errors import CorpusError, UsageError
from corpus.findings import Status, is_normal, present_leaves
from corpus.truth import read_truth


def write(folder: Path, text: str, name: str = "truth.csv") -> Path:
    file = folder / name
    file.write_bytes(text.encode("utf-8"))
    return file


def test_the_open_i_gold_names_reports_by_cxr_and_uid_and_normal_by_its_alias(tmp_path: Path) -> None:
    truth = read_truth(
        write(tmp_path, "filename,Effusion,Pleural_Thickening,normal\nCXR1,0,0,1\nCXR22,1,0,0\n")
    )
    assert set(truth.statuses) == {"openi:1", "openi:22"}
    assert is_normal(truth.of("openi:1"))
    assert present_leaves(truth.of("openi:22")) == {"pleural_effusion"}
    assert truth.findings == ("pleural_effusion", "pleural_thickening", "no_finding")


def test_a_row_of_zeros_that_is_not_called_normal_knows_no_finding(tmp_path: Path) -> None:
    result = read_truth(write(tmp_path, "study_id,edema,normal\nmanifest:a,0,0\n")).of("manifest:a")
    assert result["edema"] is Status.ABSENT
    assert not is_normal(result)
    assert not present_leaves(result)


def test_a_blank_cell_says_nothing_and_a_study_without_a_row_has_nothing_known(tmp_path: Path) -> None:
    truth = read_truth(write(tmp_path, "study_id,edema,mass\na,,1\n"))
    assert "edema" not in truth.of("a")
    assert truth.of("b") == {}


def test_a_study_called_normal_with_a_finding_is_not_normal_but_a_device_may_stay(tmp_path: Path) -> None:
    truth = read_truth(write(tmp_path, "study_id,edema,support devices,normal\na,1,0,1\nb,0,1,1\n"))
    assert not is_normal(truth.of("a"))
    assert is_normal(truth.of("b"))


def test_a_present_child_carries_its_parent(tmp_path: Path) -> None:
    assert read_truth(write(tmp_path, "study_id,nodule\na,1\n")).of("a")["lung_lesion"] is Status.PRESENT


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("bom.csv", "\ufeffstudy_id;Edema\na;1\nb;0\n"),
        ("floats.csv", "study_id,Edema\na,1.0\nb,0.0\n"),
        ("words.tsv", "study_id\tEdema\na\tTrue\nb\tfalse\n"),
        ("lines.jsonl", '{"study_id": "a", "edema": 1}\n{"study_id": "b", "edema": 0}\n'),
    ],
)
def test_tables_of_every_format_read_equally(tmp_path: Path, name: str, text: str) -> None:
    truth = read_truth(write(tmp_path, text, name))
    assert {study: truth.of(study)["edema"] for study in "ab"} == {"a": Status.PRESENT, "b": Status.ABSENT}


def test_a_bad_row_is_set_aside_by_number_and_the_rest_is_read(tmp_path: Path) -> None:
    truth = read_truth(write(tmp_path, "study_id,edema\na,1\nb,perhaps\na,0\n,1\nc,0\n"))
    assert set(truth.statuses) == {"a", "c"}
    assert truth.of("a")["edema"] is Status.PRESENT
    assert [line.split()[1] for line in truth.bad_rows] == ["2", "3", "4"]
    assert "'perhaps'" in truth.bad_rows[0]


def test_a_column_that_names_no_finding_is_ignored_by_name(tmp_path: Path) -> None:
    assert read_truth(write(tmp_path, "study_id,edema,reader\na,1,me\n")).ignored == ("reader",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("studyid,edema\na,1\n", "did you mean 'studyid'"),
        ("study_id,reader\na,1\n", "names a finding"),
        ("study_id,Effusion,Pleural Effusion\na,1,1\n", "two columns of pleural_effusion"),
        ("study_id,edema\na,perhaps\n", "no row that can be used: row 1"),
        ("study_id,edema\n", "no row that can be used"),
    ],
)
def test_a_table_that_cannot_score_is_refused_with_its_reason(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        read_truth(write(tmp_path, text))


def test_a_table_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"gone\.csv.*is not there"):
        read_truth(tmp_path / "gone.csv")


@pytest.mark.real_data
def test_every_row_of_the_open_i_gold_is_read(data: Path) -> None:
    truth = read_truth(data / "openi-truth" / "openi_gold_std14.csv")
    assert len(truth.statuses) == 3160
    assert truth.bad_rows == ()
    assert sum(is_normal(result) for result in truth.statuses.values()) == 1137
