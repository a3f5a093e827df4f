"""The labeler's promises beyond single patterns: anatomy, sections, tables, agreement with annotators."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.labeler import (
    HALVES,
    count_errors,
    error_kind,
    half,
    label_naively,
    read_reports,
    score_half,
)
from corpus.findings import NO_FINDING, VOCABULARY, Status, Statuses, make_statuses
from corpus.language.labeler import label_report, label_sentence, label_study, label_text
from corpus.records import Report, Section, Study

P, A, U = Status.PRESENT, Status.ABSENT, Status.UNCERTAIN


def _report(**sections: str) -> Report:
    return Report("a#report", tuple(Section(name, text) for name, text in sections.items()))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The lungs are clear.", {"lung_opacity": A, "consolidation": A, "nodule": A, "pneumothorax": None}),
        ("Clear lungs.", {"lung_opacity": A}),
        ("The lungs are not clear.", {"lung_opacity": None}),
        ("Heart size is normal.", {"cardiomegaly": A}),
        ("Normal heart size and mediastinal contours.", {"cardiomegaly": A, "enlarged_cardiomediastinum": A}),
        ("The heart is mildly enlarged.", {"cardiomegaly": P}),
        ("The heart is not enlarged.", {"cardiomegaly": A}),
        ("Enlarged cardiac silhouette.", {"cardiomegaly": P}),
        ("Heart size is at the upper limits of normal.", {"cardiomegaly": A}),
        ("The mediastinum is widened.", {"enlarged_cardiomediastinum": P}),
        ("The cardiomediastinal silhouette is unremarkable.", {"cardiomegaly": A}),
        ("Pleural spaces are clear.", {"pleural_effusion": A, "pneumothorax": A}),
        ("Costophrenic angles are sharp.", {"pleural_effusion": A}),
        ("Blunting of the left costophrenic angle.", {"pleural_effusion": U}),
        ("No blunting of the costophrenic angles.", {"pleural_effusion": A}),
        ("The bones are intact.", {"fracture": A}),
        ("No acute bony abnormality.", {"fracture": A}),
        ("Osseous structures are without acute abnormality.", {"fracture": A}),
        ("The heart is enlarged and the lungs are clear.", {"cardiomegaly": P, "lung_opacity": A}),
        ("Stable heart size, moderately enlarged and tortuous aorta.", {"cardiomegaly": None}),
        ("Heart size stable, enlarged.", {"cardiomegaly": P}),
        ("Marked interval increase in heart size.", {"cardiomegaly": P}),
        ("Right apical pleural air collection.", {"pneumothorax": P}),
        ("Heart normal, lungs clear, no effusion.", {"cardiomegaly": A, "pleural_effusion": A}),
        ("Left chest tube and PICC line in place.", {"support_devices": P}),
        ("The endotracheal tube has been removed.", {"support_devices": A}),
        ("Pericardial effusion.", {"pleural_effusion": None}),
        ("Subcutaneous emphysema.", {"emphysema": None}),
        ("Soft tissue edema.", {"edema": None}),
        ("Findings of cystic fibrosis.", {"fibrosis": None}),
        ("Hydropneumothorax.", {"pneumothorax": P, "pleural_effusion": P}),
        ("Effusion: none.", {"pleural_effusion": A}),
        ("Pneumothorax: No.", {"pneumothorax": A}),
        ("Ground glass opacities in both lungs.", {"ground_glass": P, "lung_opacity": P}),
    ],
)
def test_statements_on_anatomy_become_findings(text: str, expected: dict[str, Status | None]) -> None:
    statuses = label_text(text)
    assert {f: statuses.get(f) for f in expected} == expected


def test_the_status_of_the_impression_wins() -> None:
    assert (
        label_report(_report(findings="Possible effusion.", impression="No effusion."))["pleural_effusion"]
        is A
    )
    assert (
        label_report(_report(findings="No effusion.", impression="Small effusion."))["pleural_effusion"] is P
    )


def test_within_a_section_the_strongest_status_wins() -> None:
    text = "No effusion on the left. Possible effusion on the right."
    assert label_report(_report(findings=text))["pleural_effusion"] is U
    assert label_report(_report(findings=f"{text} Effusion."))["pleural_effusion"] is P


@pytest.mark.parametrize("section", ["indication", "history", "comparison", "technique", "examination"])
def test_text_that_does_not_describe_the_image_is_not_labelled(section: str) -> None:
    report = _report(**{section: "Pneumonia and effusion.", "findings": "No fracture."})
    assert set(label_report(report)) == {NO_FINDING, "fracture"}


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("No acute cardiopulmonary process.", True),
        ("Normal chest.", True),
        ("The lungs are clear. No effusion.", True),
        ("The lungs are clear. Central line in place.", True),
        ("The lungs are clear. Cardiomegaly.", False),
        ("No effusion. Pneumonia cannot be excluded.", False),
        ("Central line in place.", False),
        ("Two views of the chest.", False),
        ("", False),
    ],
)
def test_an_image_is_normal_with_devices_alone_and_something_called_normal(text: str, normal: bool) -> None:
    assert (label_text(text).get(NO_FINDING) is P) is normal


def test_a_present_finding_makes_its_parents_present() -> None:
    statuses = label_text("The lungs are clear except for a nodule.")
    assert statuses["nodule"] is statuses["lung_lesion"] is statuses["lung_opacity"] is P
    assert statuses["consolidation"] is A


def test_the_patients_story_in_a_note_is_not_the_image() -> None:
    note = (
        "A 65-year-old man presented with fever and was diagnosed with pneumonia. He had a pneumothorax two "
        "weeks before admission. Chest radiograph shows consolidation in the right lung and no effusion."
    )
    statuses = label_text(note)
    assert statuses["consolidation"] is P
    assert statuses["pleural_effusion"] is A
    assert "pneumonia" not in statuses
    assert "pneumothorax" not in statuses


def _study(findings: Statuses, text: str | None) -> Study:
    report = None if text is None else _report(findings=text)
    return Study("a", "b", "manifest", report=report, findings=findings)


def test_the_table_wins_and_the_report_fills_what_it_leaves_unmentioned() -> None:
    study = label_study(_study(make_statuses(present=["nodule"]), "No nodule. Small effusion. No fracture."))
    assert study.findings["nodule"] is P
    assert study.findings["pleural_effusion"] is P
    assert study.findings["fracture"] is A


def test_a_table_with_a_finding_keeps_the_report_from_calling_the_image_normal() -> None:
    study = label_study(_study(make_statuses(present=["nodule"]), "No effusion."))
    assert NO_FINDING not in study.findings


def test_a_table_that_says_normal_takes_no_findings_from_the_report() -> None:
    study = label_study(_study(make_statuses(present=["no_finding"]), "Possible effusion. No fracture."))
    assert study.findings == make_statuses(present=["no_finding"], absent=["fracture"])


def test_a_study_without_a_report_stays_as_it_is() -> None:
    study = _study(make_statuses(present=["nodule"]), None)
    assert label_study(study) == study


def test_labels_name_only_the_vocabulary() -> None:
    assert set(label_text("Everything: nodule, mass, edema, no effusion.")) <= set(VOCABULARY.names)


HOSTILE: dict[str, Callable[[int], str]] = {
    "commas": lambda n: "," * n,
    "a list of ten thousand": lambda n: "no effusion, nodule" + ", nodule" * (n // 8),
    "denials": lambda n: "no " * (n // 3),
    "turned cues": lambda n: "lungs " + "but resolved " * (n // 13),
    "backward cues": lambda n: "effusion " * (n // 18) + "resolved " * (n // 18),
    "structures and diseases": lambda n: "no " + "lungs acute disease " * (n // 20),
    "enlargements": lambda n: "heart enlarged " * (n // 15),
    "versus": lambda n: "effusion versus " * (n // 16),
    "half phrases": lambda n: "no significant interval change " * (n // 31),
    "run-on statements": lambda n: "no effusion heart is enlarged " * (n // 30),
    "run-on modifiers": lambda n: "no effusion " + "small left " * (n // 11) + "mass is seen",
    "renewed findings": lambda n: "no effusion interval increase in left mass " * (n // 43),
    "answers": lambda n: "effusion: no " * (n // 13),
    "a label of many": lambda n: "effusion, " * (n // 10) + "mass: no",
    "semicolons": lambda n: "negative for effusion" + "; mass" * (n // 6),
    "boxes": lambda n: "[x] effusion [ ] mass " * (n // 22),
    "empty boxes": lambda n: "[ ]( )" * (n // 6),
    "signs": lambda n: "effusion (-) " * (n // 13),
    "judgments": lambda n: "effusion, " + "seen cannot be assessed not well assessed " * (n // 42),
    "judgments behind joints": lambda n: "effusion " + "and seen , " * (n // 11) + "cannot be assessed",
    "question marks": lambda n: "? " * (n // 2) + "effusion",
    "asked findings": lambda n: "?effusion " * (n // 10),
    "either": lambda n: "either " * (n // 7) + "effusion",
    "normality": lambda n: "heart and lungs " * (n // 30) + "normal " * (n // 14),
}


def _least_time(work: Callable[[], object]) -> float:
    times = []
    for _ in range(3):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times)


@pytest.mark.parametrize("kind", HOSTILE)
def test_time_grows_with_the_length_and_not_faster(kind: str) -> None:
    short, long = (HOSTILE[kind](n) for n in (12_500, 100_000))
    ratio = _least_time(lambda: label_text(long)) / max(_least_time(lambda: label_text(short)), 1e-3)
    assert ratio < 28  # eight times the text; quadratic would be sixty-four


@pytest.mark.real_data
def test_the_labeler_agrees_with_annotators_on_held_out_reports(data: Path) -> None:
    reports = read_reports(data / "openi")
    truth = data / "openi-truth" / "openi_gold_std14.csv"
    ours = score_half(reports, truth, "held-out", label_report)
    naive = score_half(reports, truth, "held-out", label_naively)
    assert ours["micro"]["f1"] >= 0.91
    assert ours["micro"]["f1"] > naive["micro"]["f1"] + 0.1


@pytest.mark.parametrize(
    ("text", "status", "positive", "kind"),
    [
        ("Effusion.", P, True, None),
        ("Effusion.", A, False, None),
        ("Effusion.", U, False, None),
        ("Effusion.", A, True, "missed: called absent"),
        ("Effusion.", U, True, "missed: called uncertain"),
        ("Effusion.", Status.UNMENTIONED, True, "missed: named, and not read"),
        ("Blunted angle.", Status.UNMENTIONED, True, "missed: said in other words"),
        ("Blunted angle.", P, False, "over-called: said in other words"),
        ("No effusion.", P, False, "over-called: only beside a denial"),
        ("May be an effusion.", P, False, "over-called: only beside a doubt"),
        ("Effusion. No effusion on the left.", P, False, "over-called: named plainly"),
    ],
)
def test_an_error_of_the_labeler_has_one_kind(
    text: str, status: Status, positive: bool, kind: str | None
) -> None:
    assert error_kind(_report(findings=text), "pleural_effusion", status, positive) == kind


@pytest.mark.real_data
def test_every_error_that_is_scored_is_counted_in_one_kind(data: Path) -> None:
    reports = read_reports(data / "openi")
    truth = data / "openi-truth" / "openi_gold_std14.csv"
    scored = score_half(reports, truth, "tuning", label_report)
    errors = count_errors(reports, truth, "tuning", scored["averaged"])
    wrong = sum(scored["findings"][name][side] for name in scored["averaged"] for side in ("fp", "fn"))
    assert errors.total() == wrong > 0


@pytest.mark.real_data
def test_the_halves_part_the_reports_about_evenly(data: Path) -> None:
    sides = [half(study.partition(":")[2]) for study in read_reports(data / "openi")]
    assert all(0.45 < sides.count(side) / len(sides) < 0.55 for side in HALVES)


def test_a_sentence_that_denies_one_thing_does_not_call_the_image_normal() -> None:
    assert NO_FINDING not in label_sentence("No pneumothorax.")
    assert label_sentence("Large left pleural effusion.")["pleural_effusion"] is Status.PRESENT
