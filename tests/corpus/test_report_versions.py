"""A question is not the reading, a preliminary reading yields to the final one, and an addendum to none."""

from collections.abc import Callable

import pytest

from corpus.findings import NO_FINDING, Status
from corpus.language.concepts import report_concepts
from corpus.language.labeler import label_report, label_text
from corpus.language.sections import parse_report, sentences
from corpus.records import Report
from tests.corpus.statuses import A, P, U

PTX, EFF = "pneumothorax", "pleural_effusion"


def _report(text: str) -> Report:
    return parse_report("a", text)


QUESTIONS = """CLINICAL DETAILS;CLINICAL DATA;CLINICAL CONTEXT;CLINICAL NOTES;CLINICAL NOTE;REQUEST;REFERRAL
QUESTION;ADMITTING DIAGNOSIS;ORDERING DIAGNOSIS;REFERRING DIAGNOSIS;WORKING DIAGNOSIS
PROVISIONAL DIAGNOSIS;DIAGNOSIS;DX;HX;REASON FOR REFERRAL;EXAM REASON;SYMPTOMS
INDICATIONS/CLINICAL HISTORY;CLINICAL BACKGROUND;CLINICAL PROBLEM;CLINICAL DIAGNOSIS
ADMISSION DIAGNOSIS;CHIEF COMPLAINT;PRESENTING COMPLAINT;SIGNS AND SYMPTOMS;RELEVANT HISTORY
CLINICAL QUERY;REASON FOR REQUEST;REFERRAL DETAILS;REQUEST DETAILS;INDICATION/HISTORY
PRE-OP DIAGNOSIS;CLINICAL HISTORY AND INDICATION;REASON FOR EXAM/INDICATION
BRIEF CLINICAL HISTORY;DISCHARGE DIAGNOSIS;BACKGROUND;DATA;CONTEXT;NOTES;CLINICAL;QUERY;PROBLEM
SUSPECTED DIAGNOSIS;CLINICAL IMPRESSION"""


@pytest.mark.parametrize("heading", QUESTIONS.replace("\n", ";").split(";"))
@pytest.mark.parametrize("style", ["capitals", "title", "alone", "inline"])
def test_an_indication_is_no_finding(heading: str, style: str) -> None:
    name = heading if style == "capitals" else heading.capitalize()
    requested = (
        f"{name}\nPneumothorax, pneumonia." if style == "alone" else f"{name}: Pneumothorax, pneumonia."
    )
    between = " " if style == "inline" else "\n"
    statuses = label_text(f"{requested}{between}FINDINGS: Small left effusion.")
    assert statuses[EFF] is P
    assert PTX not in statuses
    assert "pneumonia" not in statuses


@pytest.mark.parametrize("heading", ["REPORT", "Report", "RESULT", "Results", "DESCRIPTION"])
def test_the_reading_below_a_question_is_found(heading: str) -> None:
    statuses = label_text(f"CLINICAL DETAILS: ? pneumothorax\n{heading}: Small left effusion.")
    assert statuses[EFF] is P
    assert PTX not in statuses


@pytest.mark.parametrize(
    "heading",
    ["FINAL DIAGNOSIS", "RADIOLOGICAL DIAGNOSIS", "Radiologic diagnosis", "IMAGING DIAGNOSIS", "DIAGNOSIS"],
)
def test_a_diagnosis_that_closes_the_reading_is_its_impression(heading: str) -> None:
    report = _report(f"FINDINGS: Possible pneumothorax.\n{heading}: No pneumothorax.")
    assert [s.name for s in report.sections] == ["findings", "impression"]
    assert label_report(report)[PTX] is A


@pytest.mark.parametrize(
    "text",
    [
        "DIAGNOSIS: Pneumothorax.\nFINDINGS: Clear lungs.\nIMPRESSION: No acute disease.",
        "CHEST TWO VIEWS\nDIAGNOSIS: Pneumothorax.\nFINDINGS: Clear lungs.",
        "FINDINGS: Clear lungs.\nIMPRESSION: No acute disease.\nDIAGNOSIS: Pneumothorax.",
    ],
)
def test_a_diagnosis_before_the_reading_or_beside_an_impression_is_the_orders(text: str) -> None:
    report = _report(text)
    assert "Pneumothorax." not in sentences(report)
    assert PTX not in label_report(report)


PRELIMINARY = (
    "WET READ;Wet read;PRELIMINARY READ;PRELIMINARY READING;PRELIMINARY IMPRESSION;PRELIMINARY REPORT"
)
PRELIMINARY += ";PRELIM;WET READING (Dr. XXXX);WET READ VERSION 1;RESIDENT READ;OVERNIGHT READ;INITIAL READ"


@pytest.mark.parametrize("heading", PRELIMINARY.split(";"))
@pytest.mark.parametrize(
    "frame",
    [
        "{h}: Small left pneumothorax.\nFINDINGS: No effusion. No pneumothorax.\nIMPRESSION: Clear.",
        "FINDINGS: No effusion. No pneumothorax.\nIMPRESSION: Clear.\n{h}: Small left pneumothorax.",
        "{h}: Small left pneumothorax.\n\nFINAL REPORT\nINDICATION: Fall.\n\nNo effusion. No pneumothorax.",
        "{h}: Small left pneumothorax.\n________\n FINAL REPORT\nNo effusion. No pneumothorax.\n",
    ],
)
def test_a_preliminary_reading_never_overrules_the_final_one(heading: str, frame: str) -> None:
    report = _report(frame.format(h=heading))
    statuses = label_report(report)
    assert (statuses[PTX], statuses[EFF]) == (A, A)
    assert all("Small left" not in sentence for sentence in sentences(report))
    assert "Small left" not in report.described
    assert "Small left pneumothorax" in report.text
    assert {c.status for c in report_concepts(report) if c.finding == PTX} == {A}


def test_the_sections_of_a_preliminary_report_yield_to_those_of_the_final_one() -> None:
    report = _report(
        "PRELIMINARY REPORT\nFINDINGS: Pneumothorax.\nIMPRESSION: Pneumothorax.\n"
        "FINAL REPORT\nFINDINGS: Skin fold. No pneumothorax.\nIMPRESSION: Clear."
    )
    assert label_report(report)[PTX] is A
    assert sentences(report) == ["Skin fold.", "No pneumothorax.", "Clear."]


@pytest.mark.parametrize(
    "text",
    [
        "WET READ: Small left pneumothorax.",
        "PRELIMINARY REPORT\nFINDINGS: Small left pneumothorax.",
        "INDICATION: Fall.\nPRELIMINARY IMPRESSION: Small left pneumothorax.",
        "WET READ: Small left pneumothorax.\nFINAL REPORT\nFINDINGS:\n",
    ],
)
def test_a_preliminary_reading_counts_where_there_is_no_other(text: str) -> None:
    report = _report(text)
    assert label_report(report)[PTX] is P
    assert sentences(report) == ["Small left pneumothorax."]


ORIGINAL = "FINDINGS: Possible effusion. No pneumothorax.\nIMPRESSION: No pneumothorax."


@pytest.mark.parametrize(
    "heading",
    [
        "ADDENDUM",
        "Addendum",
        "ADDENDUM 1",
        "ADDENDUM #1",
        "ADDENDUM (Dr. XXXX)",
        "ADDENDUM TO REPORT",
        "AMENDMENT",
        "ADDENDUM 03/04/2012 10:30 AM",
        "*** ADDENDUM ***\n",
        "CORRECTION",
        "CORRECTED REPORT",
        "AMENDED REPORT",
    ],
)
def test_an_addendum_overrules_findings_and_impression(heading: str) -> None:
    colon = "" if heading.endswith("\n") else ":"
    report = _report(f"{ORIGINAL}\n{heading}{colon} There is a small left apical pneumothorax. No effusion.")
    statuses = label_report(report)
    assert (statuses[PTX], statuses[EFF]) == (P, A)
    assert [s.name for s in report.sections][-1] == "addendum"
    assert "There is a small left apical pneumothorax." in sentences(report)
    assert "small left apical pneumothorax" in report.described
    assert {c.status for c in report_concepts(report) if c.finding == PTX} == {P}


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (f"{ORIGINAL}\nADDENDUM: Small pneumothorax.\nADDENDUM: No pneumothorax, a skin fold.", A),
        (f"{ORIGINAL}\nADDENDUM 1: No pneumothorax.\nADDENDUM 2: Small pneumothorax.", P),
        (f"{ORIGINAL}\nADDENDUM 2: Small pneumothorax.\nADDENDUM 1: No pneumothorax.", P),
        (f"ADDENDUM: Small pneumothorax.\n{ORIGINAL}", P),
        (f"ADDENDUM: Small pneumothorax.\nORIGINAL REPORT:\n{ORIGINAL}", P),
        (f"ADDENDUM\nSmall pneumothorax.\nEND OF ADDENDUM\n{ORIGINAL}", P),
        (f"{ORIGINAL}\nADDENDUM:\nIMPRESSION: Small pneumothorax.", P),
        (f"{ORIGINAL}\nADDENDUM:\nFINDINGS: Small pneumothorax.\nIMPRESSION: Possible pneumothorax.", U),
        (f"{ORIGINAL}\nADDENDUM: Discussed with the clinic.", A),
        (f"WET READ: Pneumothorax.\n{ORIGINAL}\nADDENDUM: Comparison was made with a CT.", A),
        ("FINDINGS: Pneumothorax.\nADDENDUM: No pneumothorax.", A),
        ("The lungs are clear. No pneumothorax.\nADDENDUM: Small pneumothorax.", P),
    ],
)
def test_the_last_addendum_has_the_last_word(text: str, status: Status) -> None:
    assert label_text(text)[PTX] is status


def test_an_addendum_that_denies_the_only_finding_leaves_the_image_normal() -> None:
    assert label_text("FINDINGS: Pneumothorax.\nADDENDUM: No pneumothorax.")[NO_FINDING] is P
    assert NO_FINDING not in label_text("IMPRESSION: Normal chest.\nADDENDUM: Small effusion.")


@pytest.mark.parametrize(
    "text",
    [
        "The wet read was discussed. An addendum will follow: none was made.",
        "The request, the question and the diagnosis are unclear. Small effusion.",
        "Preliminary results were called. Small effusion.",
    ],
)
def test_words_of_headings_stay_in_their_sentence(text: str) -> None:
    assert [s.name for s in _report(text).sections] == ["body"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "FINDINGS: Right opacity. Background: emphysema. No effusion.",
            {"lung_opacity": P, EFF: A, "emphysema": None},
        ),
        ("FINDINGS: Opacity. Symptoms: cough. Effusion is present.", {"lung_opacity": P, EFF: P}),
        (
            "FINDINGS: Opacity.\nHISTORY: pneumothorax. Effusion was drained.\nIMPRESSION: Opacity.",
            {"lung_opacity": P, PTX: None, EFF: None},
        ),
        ("DIAGNOSIS: Pneumonia", {"pneumonia": P}),
        ("Dx: Pneumonia", {"pneumonia": P}),
        ("DIAGNOSIS: Pneumonia\nFINDINGS: No effusion.", {"pneumonia": None, EFF: A}),
        ("CHEST TWO VIEWS\nDIAGNOSIS: Pneumothorax.\nFINDINGS: Clear lungs.", {PTX: None}),
        ("Dx: Pneumonia\nSmall effusion.", {"pneumonia": P, EFF: P}),
        ("CLINICAL DETAILS - pneumothorax\nFINDINGS: Small effusion.", {PTX: None, EFF: P}),
        ("Wet read - pneumothorax.\nFinal report - no pneumothorax", {PTX: A}),
        ("FINDINGS: Possible effusion.\nADDENDUM - no effusion", {EFF: A}),
        ("WET READ\npneumothorax\nFINAL\nno pneumothorax", {PTX: A}),
        ("*** WET READ ***\npneumothorax\n*** FINAL ***\nno pneumothorax", {PTX: A}),
        (
            "PRELIMINARY REPORT\nFINDINGS: Pneumothorax.\n\nFINDINGS: No effusion, no pneumothorax.",
            {PTX: A},
        ),
        ("PRELIMINARY REPORT\nFINDINGS: Pneumothorax.\nIMPRESSION: Pneumothorax.", {PTX: P}),
        ("FINDINGS: Effusion.\nLate addendum: No effusion.", {EFF: A}),
        ("FINDINGS: Effusion.\nAddendum. No effusion.", {EFF: A}),
        ("FINDINGS: Effusion.\nCORRECTED: No effusion.", {EFF: A}),
        ("FINDINGS: Effusion.\nErratum: No effusion.", {EFF: A}),
        ("FINDINGS: Left effusion.\nThe final - and only - report.", {EFF: P}),
        ("FINDINGS: No effusion. Impression - clear.", {EFF: A}),
        ("FINDINGS - No effusion.\nIMPRESSION - Clear lungs.", {EFF: A, "lung_opacity": A}),
        ("Result - small effusion", {EFF: P}),
        ("FINDINGS: No effusion.\nIMPRESSION: No effusion.", {EFF: A}),
        ("Study - pneumothorax series. Small effusion.", {EFF: P}),
    ],
)
def test_every_way_to_write_a_heading_gives_each_reading_its_words(
    text: str, expected: dict[str, Status | None]
) -> None:
    statuses = label_text(text)
    assert {finding: statuses.get(finding) for finding in expected} == expected


@pytest.mark.parametrize(
    "text",
    ["Corrected age: 2 weeks. Small effusion.", "Small effusion. Final tube position: carina. No change."],
)
def test_a_word_of_an_opening_before_another_label_opens_no_reading(text: str) -> None:
    assert [section.name for section in _report(text).sections] == ["body"]


HOSTILE: dict[str, Callable[[int], str]] = {
    "addenda": lambda n: "ADDENDUM: no effusion.\n" * (n // 23),
    "openers without colon": lambda n: "addendum " * (n // 9),
    "lines of openers": lambda n: "ADDENDUM 1\n" * (n // 11),
    "readings": lambda n: "WET READ: x.\nFINAL REPORT\n" * (n // 26),
    "signs": lambda n: "*_=-" * (n // 4),
    "headings within a line": lambda n: "Findings: x. Background: y. " * (n // 28),
    "dashes": lambda n: "Addendum - x\nFinal - y\n" * (n // 23),
    "cells": lambda n: "effusion" + "\t" * (n // 2) + ";" * (n // 2) + "no",
    "diagnoses": lambda n: "DIAGNOSIS: x.\n" * (n // 14),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_text_of_headings_is_split_in_one_pass(kind: str) -> None:
    # What grows faster than the text would take minutes here.
    report = _report(HOSTILE[kind](200_000))
    assert len(report.text) <= 500_000
