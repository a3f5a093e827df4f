"""What cannot be judged is unmentioned; what is asked by a sign or weighed against another is uncertain."""

import pytest

from corpus.findings import NO_FINDING, Status
from corpus.language.labeler import label_text
from tests.corpus.statuses import A, P, U, assert_says

PTX, EFF = "pneumothorax", "pleural_effusion"


@pytest.mark.parametrize(
    "template",
    [
        "{x} cannot be assessed.",
        "The {x} can not be evaluated.",
        "{x} could not be assessed on this study.",
        "{x} cannot be adequately assessed.",
        "{x} is not evaluated.",
        "{x} was not assessed.",
        "{x} has not been assessed.",
        "{x} is difficult to assess.",
        "Difficult to assess for {x}.",
        "It is difficult to evaluate {x}.",
        "The study is insensitive for {x}.",
        "Radiography is insensitive to {x}.",
        "Not sensitive for {x}.",
        "Limited evaluation of {x}.",
        "Limited for the evaluation of {x}.",
        "The study is limited for {x}.",
        "Evaluation of {x} is limited.",
        "Assessment for {x} is suboptimal.",
        "{x} is not well assessed.",
        "{x} is poorly evaluated.",
        "{x} is incompletely evaluated.",
        "{x} is obscured.",
        "{x} may be obscured.",
        "{x} is not included in the field.",
        "{x} not included in the field of view.",
        "The film is suboptimal for {x}.",
        "Suboptimal evaluation of {x}.",
        "Inadequate for {x}.",
        "Nondiagnostic for {x}.",
        "Cannot assess for {x}.",
        "Unable to assess {x}.",
        "Unable to evaluate for {x}.",
        "Rotation precludes assessment of {x}.",
        "Rotation limits evaluation of {x}.",
        "No assessment of {x} is possible.",
    ],
)
@pytest.mark.parametrize("finding", ["pneumothorax", "pleural effusion", "rib fracture", "consolidation"])
def test_findings_that_cannot_be_assessed_are_unmentioned(template: str, finding: str) -> None:
    name = {"pleural effusion": EFF, "rib fracture": "fracture"}.get(finding, finding)
    text = template.format(x=finding)
    text = text[:1].upper() + text[1:]
    assert_says(text, {name: None})
    assert NO_FINDING not in label_text(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The heart is obscured by a left effusion.", {EFF: P}),
        ("The left hemidiaphragm is obscured by consolidation.", {"consolidation": P}),
        ("Left effusion obscures the heart.", {EFF: P}),
        ("Effusion is present. Pneumothorax cannot be assessed.", {EFF: P, PTX: None}),
        ("No effusion, pneumothorax cannot be assessed.", {EFF: A, PTX: None}),
        ("The apices are not included in the field. No effusion.", {EFF: A}),
        ("Pneumothorax cannot be excluded.", {PTX: U}),
        ("Heart size cannot be assessed. Right effusion.", {EFF: P, "cardiomegaly": None}),
        ("The cardiac silhouette is difficult to assess, left effusion is seen.", {EFF: P}),
        ("Retrocardiac opacity, partially obscured by the heart", {"lung_opacity": P}),
        ("Left lower lobe consolidation, partially obscured by the heart.", {"consolidation": P}),
        ("Consolidation obscured by effusion", {"consolidation": P, EFF: P}),
        ("A nodule is seen and is incompletely assessed on this single view.", {"nodule": P}),
        ("There is a 6 mm nodule, incompletely evaluated.", {"nodule": P}),
        ("Right basilar opacity is incompletely evaluated", {"lung_opacity": P}),
        ("Focal opacity, not fully evaluated; recommend CT.", {"lung_opacity": P}),
        ("There is left basilar opacity, not well evaluated on this AP film.", {"lung_opacity": P}),
        (
            "There is a 1 cm focal opacity in the right lung apex incompletely evaluated by this exam.",
            {"lung_opacity": P},
        ),
        ("Small effusion, right base not evaluated", {EFF: P}),
        ("Small right effusion, apices cannot be assessed", {EFF: P}),
        ("Left lower lobe consolidation, lateral view cannot be evaluated", {"consolidation": P}),
        ("Left effusion is not well assessed but appears unchanged.", {EFF: P}),
        ("Fracture not well evaluated but is visible", {"fracture": P}),
        (
            "Severe scoliosis and atelectasis make heart size difficult to assess.",
            {"atelectasis": P, "cardiomegaly": None},
        ),
        ("Heart size not evaluated", {"cardiomegaly": None}),
        ("Effusion, not evaluated", {EFF: None}),
        ("The study is insensitive for pneumothorax", {PTX: None}),
        ("Right effusion is present, not evaluated for change.", {EFF: P}),
        ("Opacity is seen at the base but cannot be evaluated", {"lung_opacity": P}),
        ("Effusion and pneumothorax cannot be assessed", {EFF: None, PTX: None}),
        ("The fracture is not well assessed.", {"fracture": P}),
        ("Pneumothorax is not well assessed.", {PTX: None}),
        ("Pneumothorax may be obscured by the tube.", {PTX: None}),
    ],
)
def test_what_stands_beside_it_keeps_its_status(text: str, expected: dict[str, Status | None]) -> None:
    assert_says(text, expected)


@pytest.mark.parametrize(
    ("text", "findings"),
    [
        ("? pneumothorax", (PTX,)),
        ("?pneumothorax", (PTX,)),
        ("?? pneumothorax", (PTX,)),
        ("??Pneumothorax", (PTX,)),
        ("Pneumothorax?", (PTX,)),
        ("Pneumothorax ?", (PTX,)),
        ("Pneumothorax??", (PTX,)),
        ("Left base effusion?", (EFF,)),
        ("Left base effusion (?)", (EFF,)),
        ("Left base effusion ?.", (EFF,)),
        ("Small left (?) effusion.", (EFF,)),
        ("Patchy left base ? pneumonia.", ("pneumonia",)),
        ("Left base shadow ?pneumonia ?effusion.", ("pneumonia", EFF)),
        ("Lungs clear. ? small effusion. Heart normal.", (EFF,)),
        ("Lungs clear. Small effusion? Heart normal.", (EFF,)),
        ("- ? effusion\n- ? pneumothorax", (EFF, PTX)),
        ("Query effusion.", (EFF,)),
        ("Either consolidation or atelectasis.", ("consolidation", "atelectasis")),
        ("Left base shadow, either consolidation or atelectasis.", ("consolidation", "atelectasis")),
        ("There is either a small effusion or pleural thickening.", (EFF, "pleural_thickening")),
        ("Either consolidation, atelectasis or effusion.", ("consolidation", "atelectasis", EFF)),
        ("Effusion vs thickening.", (EFF,)),
        ("Effusion vs. pleural thickening.", (EFF, "pleural_thickening")),
        ("Effusion versus pleural thickening.", (EFF, "pleural_thickening")),
    ],
)
def test_a_question_mark_and_an_alternative_are_uncertain(text: str, findings: tuple[str, ...]) -> None:
    assert_says(text, dict.fromkeys(findings, U))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("No effusion on either side, pneumothorax on the right.", {EFF: A}),
        ("No evidence of either effusion or pneumothorax.", {EFF: A, PTX: A}),
        ("No consolidation in either lung or effusion.", {EFF: A, "consolidation": A}),
        ("Is it new? Small effusion.", {EFF: P}),
        ("Effusion? No.", {EFF: A}),
        ("Effusion? Yes.", {EFF: P}),
        ("Is there an effusion? No", {EFF: A}),
        ("What is the cause of the effusion?", {EFF: P}),
        ("Is the effusion larger?", {EFF: P}),
        ("Is the left effusion larger?", {EFF: P}),
        ("Why is the consolidation not clearing?", {"consolidation": P}),
        ("Is there an effusion?", {EFF: U}),
        ("Is there an effusion", {EFF: P}),
        ("Is the opacity pneumonia?", {"lung_opacity": P, "pneumonia": U}),
        ("Is the opacity an effusion?", {EFF: U}),
    ],
)
def test_neither_sign_reaches_over_what_is_answered_or_denied(
    text: str, expected: dict[str, Status | None]
) -> None:
    assert_says(text, expected)
