"""Scores against a truth table are counted as anyone would count them by hand."""

from pathlib import Path

import pytest

from corpus.errors import CorpusError
from corpus.findings import Status, from_sides
from corpus.label_scoring import read_truth, score_labels


def _write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


LABELS = {
    "openi:1": from_sides(present=["nodule"], absent=["edema"]),
    "openi:2": from_sides(present=["nodule", "edema"]),
    "openi:3": from_sides(uncertain=["nodule"], present=["edema"]),
    "openi:4": from_sides(),
    "openi:99": from_sides(present=["nodule"]),
}
TABLE = "filename,Nodule,Edema,normal,remark\nCXR1,1,0,0,x\nCXR2,0,1,0,\nCXR3,1,1,0,\nCXR4,0,0,1,\n"


def test_counts_and_ratios_are_right(tmp_path: Path) -> None:
    score = score_labels(LABELS, _write(tmp_path / "t.csv", TABLE))
    assert score["studies"] == 4
    nodule, edema = score["findings"]["nodule"], score["findings"]["edema"]
    assert (nodule["tp"], nodule["fp"], nodule["fn"], nodule["positives"]) == (1, 1, 1, 2)
    assert (edema["precision"], edema["recall"], edema["f1"]) == (1.0, 1.0, 1.0)
    assert score["micro"]["f1"] == pytest.approx(2 * 3 / (2 * 3 + 1 + 1))
    assert score["macro"]["f1"] == pytest.approx((0.5 + 1.0) / 2)


def test_rare_findings_parents_and_normality_enter_no_average(tmp_path: Path) -> None:
    truth = _write(tmp_path / "t.csv", "study_id,nodule,mass,lung_opacity,normal\na:1,1,0,1,0\na:2,1,1,1,0\n")
    score = score_labels({"a:1": {"nodule": Status.PRESENT}, "a:2": {}}, truth, at_least=2)
    assert score["averaged"] == ["nodule"]
    assert set(score["findings"]) == {"nodule", "mass", "lung_opacity", "no_finding"}


def test_a_study_is_found_under_its_bare_name(tmp_path: Path) -> None:
    truth = _write(tmp_path / "t.csv", "study_id,nodule\n7,1\n")
    assert score_labels({"manifest:7": {"nodule": Status.PRESENT}}, truth)["micro"]["f1"] == 1.0


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ("name,nodule\n1,1\n", "neither a study_id nor a filename"),
        ("study_id,colour\n1,1\n", "no column"),
        ("study_id,nodule\n1,maybe\n", "0 or 1 is needed"),
        ("study_id,nodule\nother,1\n", "names none of the labelled studies"),
        ("", "cannot be read"),
    ],
)
def test_a_table_that_cannot_score_is_refused_by_name(tmp_path: Path, table: str, complaint: str) -> None:
    with pytest.raises(CorpusError, match=complaint):
        score_labels({"a:1": {"nodule": Status.PRESENT}}, _write(tmp_path / "truth.csv", table))


def test_a_missing_table_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"gone\.csv"):
        read_truth(tmp_path / "gone.csv")
