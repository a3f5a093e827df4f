"""How far a denial reaches: over its list, not over the statement after it; no change is a finding."""

import pytest

from corpus.findings import NO_FINDING, Status
from corpus.language.labeler import label_text
from tests.corpus.statuses import A, P, U, assert_says

PTX, EFF, CONS = "pneumothorax", "pleural_effusion", "consolidation"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no pneumothorax right pleural effusion is present", {PTX: A, EFF: P}),
        ("No pneumothorax pleural effusion is present.", {PTX: A, EFF: P}),
        ("no pneumothorax small right effusion noted", {PTX: A, EFF: P}),
        ("no pneumothorax left effusion is seen", {PTX: A, EFF: P}),
        ("no pneumothorax left effusion remains", {PTX: A, EFF: P}),
        ("no pneumothorax the left effusion has increased", {PTX: A, EFF: P}),
        ("no pneumothorax a small effusion", {PTX: A, EFF: P}),
        ("no pneumothorax small left effusion", {PTX: A, EFF: P}),
        ("no pneumothorax stable cardiomegaly", {PTX: A, "cardiomegaly": P}),
        ("no pneumothorax cardiomegaly unchanged", {PTX: A, "cardiomegaly": P}),
        ("without pneumothorax right pleural effusion is present", {PTX: A, EFF: P}),
        ("negative for pneumothorax right pleural effusion persists", {PTX: A, EFF: P}),
        ("no evidence of pneumothorax large right effusion is present", {PTX: A, EFF: P}),
        ("no pneumothorax the heart is enlarged", {PTX: A, "cardiomegaly": P}),
        ("no pneumothorax heart is enlarged", {PTX: A, "cardiomegaly": P}),
        ("no pneumothorax heart size normal lungs clear", {PTX: A, "cardiomegaly": A, "lung_opacity": A}),
        ("no acute osseous abnormality heart size is normal", {"fracture": A, "cardiomegaly": A}),
        ("no effusion or pneumothorax right lower lobe consolidation is noted", {PTX: A, EFF: A, CONS: P}),
        ("no pneumothorax\nright pleural effusion is present", {PTX: A, EFF: P}),
        ("no pneumothorax right pleural effusion has resolved", {PTX: A, EFF: A}),
        ("possible pneumonia right effusion is present", {"pneumonia": U, EFF: P}),
        ("cannot exclude pneumonia the heart is enlarged", {"pneumonia": U, "cardiomegaly": P}),
        ("history of pneumothorax right effusion is present", {PTX: None, EFF: P}),
        ("no pneumothorax pneumonia cannot be excluded", {PTX: A, "pneumonia": U}),
        ("no pneumothorax right effusion is present heart is enlarged", {EFF: P, "cardiomegaly": P}),
        ("right pleural effusion is present no pneumothorax", {PTX: A, EFF: P}),
        (
            "no focal consolidation pleural effusion pneumothorax the heart is normal",
            {CONS: A, EFF: A, PTX: A, "cardiomegaly": A},
        ),
        ("no effusion pneumothorax heart size is normal", {EFF: A, PTX: A, "cardiomegaly": A}),
        ("no effusion pneumothorax bones are intact", {EFF: A, PTX: A, "fracture": A}),
        (
            "no consolidation effusion pneumothorax lungs are clear",
            {CONS: A, EFF: A, PTX: A, "lung_opacity": A},
        ),
        (
            "no consolidation effusion pneumothorax mediastinum is normal",
            {CONS: A, EFF: A, PTX: A, "enlarged_cardiomediastinum": A},
        ),
        (
            "no consolidation pneumothorax effusion cardiomediastinal silhouette is within normal limits",
            {CONS: A, EFF: A, PTX: A, "enlarged_cardiomediastinum": A},
        ),
        (
            "no consolidation effusion pneumothorax the heart is enlarged",
            {CONS: A, EFF: A, PTX: A, "cardiomegaly": P},
        ),
        (
            "no consolidation effusion pneumothorax heart is enlarged",
            {CONS: A, EFF: A, PTX: A, "cardiomegaly": P},
        ),
        ("no consolidation pleural effusion pneumothorax lungs are well expanded", {CONS: A, EFF: A, PTX: A}),
        ("no pleural effusion pneumothorax trachea is midline", {EFF: A, PTX: A}),
        ("No focal consolidation effusion pneumothorax is seen", {CONS: A, EFF: A, PTX: A}),
        ("No pleural effusion focal consolidation pneumothorax is identified", {CONS: A, EFF: A, PTX: A}),
        ("No displaced rib fracture pneumothorax is identified", {"fracture": A, PTX: A}),
        ("no pneumothorax effusion is unchanged", {PTX: A, EFF: P}),
        ("no effusion pneumothorax the lungs are hyperinflated", {EFF: A, PTX: A}),
        ("no effusion pneumothorax the right hilum is enlarged", {EFF: A, PTX: A}),
        ("no pneumothorax effusion has been present for days", {PTX: A, EFF: P}),
        ("no pneumothorax effusion in the right lung is present", {PTX: A, EFF: P}),
        ("no pneumothorax small effusion the heart is normal", {PTX: A, EFF: P, "cardiomegaly": A}),
        ("no pneumothorax interval increase in left pleural effusion", {PTX: A, EFF: P}),
        ("no pneumothorax interval development of right effusion", {PTX: A, EFF: P}),
        ("no pneumothorax redemonstration of left effusion", {PTX: A, EFF: P}),
        ("no pneumothorax worsening of left effusion", {PTX: A, EFF: P}),
        (
            "No pneumothorax new right basilar opacity concerning for pneumonia",
            {PTX: A, "lung_opacity": P, "pneumonia": U},
        ),
        ("no effusion patchy opacity in the right base", {EFF: A, "lung_opacity": P}),
        ("no pneumothorax chest tube in place", {PTX: A, "support_devices": P}),
        ("No interval development of effusion", {EFF: A}),
        ("No interval increase in effusion", {EFF: P}),
        ("No pneumothorax or interval development of effusion", {PTX: A, EFF: A}),
        ("No pneumothorax following development of effusion", {PTX: A}),
        ("No effusion patchy opacity or pneumothorax", {EFF: A, PTX: A, "lung_opacity": A}),
        ("No effusion consolidation or pneumothorax in the right lung", {EFF: A, CONS: A, PTX: A}),
        ("No opacity suspicious for pneumonia", {"lung_opacity": A, "pneumonia": A}),
        ("No consolidation opacity suspicious for pneumonia", {"lung_opacity": A, CONS: A, "pneumonia": A}),
        ("no pneumothorax fracture of the ribs", {PTX: A, "fracture": A}),
    ],
)
def test_the_statement_after_a_denied_finding_stands_by_itself(
    text: str, expected: dict[str, Status | None]
) -> None:
    assert_says(text, expected)


@pytest.mark.parametrize(
    "text",
    [
        "No focal consolidation large pleural effusion or pneumothorax",
        "No focal consolidation large pleural effusion or pneumothorax is seen.",
        "No consolidation pleural effusion or pneumothorax is seen.",
        "No consolidation pleural effusion pneumothorax.",
        "No consolidation, effusion or pneumothorax is seen.",
        "No consolidation in the right lung, effusion or pneumothorax is present.",
        "No consolidation of the lung or pneumothorax or effusion is present.",
        "No consolidation / effusion / pneumothorax.",
        "There is no consolidation, pneumothorax or large right effusion.",
        "The chest is negative for pneumothorax, effusion, consolidation",
        "The chest is negative for pneumothorax, effusion or consolidation.",
        "The chest is negative for pneumothorax, effusion and consolidation.",
        "The chest is negative for pneumothorax/effusion/consolidation.",
        "The lungs are negative for consolidation or pneumothorax or effusion.",
        "Negative for pneumothorax; effusion; consolidation.",
        "Negative for pneumothorax, effusion, or consolidation.",
        "The film is negative for: pneumothorax, effusion, consolidation.",
        "The lungs are free of consolidation, effusion, pneumothorax.",
        "The lungs remain free from consolidation, effusion, pneumothorax.",
        "The lungs are clear of consolidation, effusion or pneumothorax.",
        "The chest is without evidence of pneumothorax, effusion, consolidation.",
        "The radiograph shows no pneumothorax, effusion, consolidation.",
        "The chest was negative for pneumothorax, effusion, consolidation.",
        "Chest appears negative for pneumothorax, effusion, consolidation.",
        "Study has been negative for pneumothorax, effusion, consolidation.",
        "Lungs are devoid of consolidation, pneumothorax and effusion.",
    ],
)
def test_a_denied_list_is_denied_whole(text: str) -> None:
    assert_says(text, {PTX: A, EFF: A, CONS: A})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Negative for pneumothorax; small effusion.", {PTX: A, EFF: P}),
        ("Negative for pneumothorax; effusion is present.", {PTX: A, EFF: P}),
        ("The chest is negative for pneumothorax, small effusion.", {PTX: A, EFF: P}),
        ("The chest is negative for pneumothorax, but there is an effusion.", {PTX: A, EFF: P}),
        ("Pneumothorax is negative.", {PTX: A}),
        ("No pneumothorax following removal of the chest tube.", {PTX: A}),
        ("No effusion in the left lung is seen.", {EFF: A}),
        ("No fracture of the ribs is present.", {"fracture": A}),
        ("negative for acute disease; cardiomegaly", {"cardiomegaly": P}),
        ("The chest is negative for acute cardiopulmonary disease; small effusion", {EFF: P}),
        ("Negative for acute abnormality; emphysema.", {"emphysema": P}),
        ("No drainage of the effusion", {EFF: P}),
        ("No evacuation of pneumothorax", {PTX: P}),
        ("Never resolved effusion", {EFF: P}),
        ("No longer improving effusion", {EFF: P}),
        ("no improving consolidation", {CONS: P}),
        ("No resolving effusion", {EFF: P}),
        ("No interval removal of the chest tube", {"support_devices": P}),
        ("No removal of the chest tube", {"support_devices": P}),
        ("No drainage tube.", {"support_devices": A}),
        ("Removal of the chest tube.", {"support_devices": A}),
        ("No longer seen is the effusion.", {EFF: A}),
        ("No new or worsening effusion", {EFF: A}),
        ("The effusion never resolved.", {EFF: P}),
        ("The effusion never cleared.", {EFF: P}),
        ("No pneumothorax and no drainage of the effusion", {PTX: A, EFF: P}),
    ],
)
def test_a_denial_keeps_to_its_own_side_of_the_sentence(
    text: str, expected: dict[str, Status | None]
) -> None:
    assert_says(text, expected)


@pytest.mark.parametrize("finding", ["pleural effusion", "pneumothorax", "consolidation", "pulmonary edema"])
@pytest.mark.parametrize(
    "template",
    [
        "No interval resolution of the {x}.",
        "No resolution of the {x}.",
        "Without clearing of the {x}.",
        "Without interval clearing of the {x}.",
        "No regression of the {x}.",
        "No significant regression of the {x}.",
        "No evidence of resolution of the {x}.",
        "No evidence of clearing of {x}.",
        "The {x} is not yet resolved.",
        "The {x} has not yet cleared.",
        "No improvement in the {x}.",
        "No interval improvement of the right {x}.",
        "Failure of resolution of the {x}.",
        "Failure of the {x} to resolve.",
        "The {x} has failed to resolve.",
        "The {x} fails to clear.",
        "No decrease in size of the {x}.",
        "No decrease in the size of the {x}.",
        "No reduction in {x}.",
        "The {x} has not cleared.",
        "The {x} has not resolved.",
        "The {x} has not regressed.",
        "The {x} has not completely resolved.",
        "The {x} is without interval resolution.",
        "{x} without regression.",
        "{x} with no interval clearing.",
        "The {x} shows no resolution.",
        "Without interval improvement of {x}.",
        "There has been no clearing of the {x}.",
        "There has been no interval resolution or improvement of the {x}.",
        "No complete resolution of the {x}.",
        "Neither resolution nor regression of the {x}.",
        "Persistence of the {x}.",
        "Almost completely resolved {x}.",
        "The {x} does not appear to have resolved.",
    ],
)
def test_a_denied_change_leaves_the_finding_there(template: str, finding: str) -> None:
    name = {"pleural effusion": EFF, "pulmonary edema": "edema"}.get(finding, finding)
    text = template.format(x=finding)
    assert_says(text[:1].upper() + text[1:], {name: P})


@pytest.mark.parametrize(
    "text",
    [
        "Interval resolution of the effusion.",
        "Resolution of the effusion.",
        "Clearing of the effusion.",
        "No recurrence of the effusion.",
        "No reaccumulation of the effusion.",
        "The effusion has resolved without recurrence.",
        "No effusion, with resolution of the previous one.",
    ],
)
def test_a_change_that_is_not_denied_takes_the_finding_away(text: str) -> None:
    assert_says(text, {EFF: A})


def test_a_denied_improvement_beside_another_denial_denies_only_that_one() -> None:
    assert_says("No pneumothorax and no interval resolution of the effusion.", {PTX: A, EFF: P})
    assert_says("No regression of the effusion, no pneumothorax.", {PTX: A, EFF: P})
    assert NO_FINDING not in label_text("No interval resolution of the effusion.")
