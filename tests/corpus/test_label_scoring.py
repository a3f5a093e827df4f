"""Scores against a truth table are counted as anyone would count them by hand."""

from pathlib import Path

import pytest

from corpus.errors import CorpusError
from corpus.findings import Status, make_statuses
from corpus.truth import Truth, read_truth, score_labels


def _write(path: Path, text: str) -> Truth:
    path.write_text(text)
    return read_truth(path)


LABELS = {
    "openi:1": make_statuses(present=["nodule"], absent=["edema"]),
    "openi:2": make_statuses(present=["nodule", "edema"]),
    "openi:3": make_statuses(uncertain=["nodule"], present=["edema"]),
    "openi:4": make_statuses(),
    "openi:99": make_statuses(present=["nodule"]),
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


def test_a_table_of_other_studies_is_refused(tmp_path: Path) -> None:
    truth = _write(tmp_path / "truth.csv", "study_id,nodule\nother,1\n")
    with pytest.raises(CorpusError, match="names none of the labelled studies"):
        score_labels({"a:1": {"nodule": Status.PRESENT}}, truth)
