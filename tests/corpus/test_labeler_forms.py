"""A form that was filled in says what its ticks, signs and answers say."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.findings import NO_FINDING, Status
from corpus.language.concepts import concepts
from corpus.language.forms import fill_form
from corpus.language.labeler import label_text
from corpus.language.sections import parse_report, sentences
from tests.corpus.statuses import A, P, U, assert_says

PTX, EFF, CONS = "pneumothorax", "pleural_effusion", "consolidation"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Pleural effusion: [x] present [ ] absent", {EFF: P}),
        ("Pleural effusion: [ ] present [x] absent", {EFF: A}),
        ("Pleural effusion: [X] Yes [ ] No", {EFF: P}),
        ("Pleural effusion: [ ] Yes [X] No", {EFF: A}),
        ("Pleural effusion: [] yes [x] no", {EFF: A}),
        ("Pleural effusion [x] yes [ ] no", {EFF: P}),
        ("Pleural effusion: present [ ] absent [x]", {EFF: A}),
        ("Pleural effusion: present [x] absent [ ]", {EFF: P}),
        ("Pleural effusion  Yes [ ]  No [x]", {EFF: A}),
        ("Pleural effusion: [ ] none [x] small [ ] large", {EFF: P}),
        ("Pleural effusion: [x] none [ ] small [ ] large", {EFF: A}),
        ("Pleural effusion:\n[ ] present\n[x] absent", {EFF: A}),
        ("Pleural effusion: [ ] present [ ] absent", {EFF: None}),
        ("( ) No effusion (x) Effusion", {EFF: P}),
        ("(x) No effusion ( ) Effusion", {EFF: A}),
        ("[ ] No effusion [x] Effusion", {EFF: P}),
        ("[ ] Small effusion [x] Large effusion", {EFF: P}),
        ("[ ] Pneumothorax", {PTX: None}),
        ("[x] Pneumothorax", {PTX: P}),
        ("[x] Effusion [ ] Pneumothorax", {EFF: P, PTX: A}),
        ("[x] Effusion\n[ ] Pneumothorax\n[x] Consolidation", {EFF: P, PTX: A, CONS: P}),
        ("- [x] Effusion\n- [ ] Pneumothorax", {EFF: P, PTX: A}),
        ("Effusion [x]\nPneumothorax [ ]", {EFF: P, PTX: A}),
        ("Effusion [x] Pneumothorax [ ]", {EFF: P, PTX: A}),
        ("☑ Effusion ☐ Pneumothorax", {EFF: P, PTX: A}),
        ("☒ Effusion\n☐ Pneumothorax", {EFF: P, PTX: A}),
        ("■ Effusion □ Pneumothorax", {EFF: P, PTX: A}),
        ("✓ Effusion\n☐ Pneumothorax", {EFF: P, PTX: A}),
        ("Pleural effusion: ☐ Yes ☑ No", {EFF: A}),
        ("Pleural effusion: ☒ Yes ☐ No", {EFF: P}),
        ("Effusion: [x] yes [ ] no, Pneumothorax: [ ] yes [x] no", {EFF: P, PTX: A}),
        ("Effusion: [x] yes [ ] no  Pneumothorax: [ ] yes [x] no", {EFF: P, PTX: A}),
        ("Effusion: No [x] / Yes [ ]", {EFF: A}),
        ("Lungs: [x] clear [ ] consolidation", {"lung_opacity": A, CONS: A}),
    ],
)
def test_a_ticked_box_counts_and_an_empty_one_does_not(text: str, expected: dict[str, Status | None]) -> None:
    assert_says(text, expected)


def test_an_empty_form_has_no_findings() -> None:
    text = "FINDINGS:\n[ ] Effusion\n[ ] Pneumothorax\n[ ] No acute disease\n"
    assert label_text(text) == {}
    assert label_text(text.replace("[ ] Eff", "[x] Eff"))[PTX] is A
    assert NO_FINDING not in label_text(text.replace("[ ] Eff", "[x] Eff"))


def test_words_beside_an_empty_form_are_read() -> None:
    assert_says("[ ] Portable [ ] Upright\nSmall left effusion. No pneumothorax.", {EFF: P, PTX: A})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Pneumothorax (-)", {PTX: A}),
        ("Pneumothorax (+)", {PTX: P}),
        ("Pneumothorax ( - )", {PTX: A}),
        ("Pneumothorax [-]", {PTX: A}),
        ("Pneumothorax(-), effusion(+), consolidation(-)", {PTX: A, EFF: P, CONS: A}),
        ("Pneumothorax (-) effusion (+)", {PTX: A, EFF: P}),
        ("(-) pneumothorax (+) effusion (-) consolidation", {PTX: A, EFF: P, CONS: A}),
        ("(-) pneumothorax, (-) effusion, (+) consolidation", {PTX: A, EFF: A, CONS: P}),
        ("Pneumothorax (\u2212)", {PTX: A}),
        ("Pneumothorax (+/-)", {PTX: U}),
        ("Pneumothorax: -", {PTX: A}),
        ("Pneumothorax: +", {PTX: P}),
        ("Pneumothorax -ve", {PTX: A}),
        ("Pneumothorax: -ve, effusion: +ve", {PTX: A, EFF: P}),
        ("-ve for pneumothorax", {PTX: A}),
        ("PTX: neg", {PTX: A}),
        ("PTX: pos", {PTX: P}),
        ("PTX neg", {PTX: A}),
        ("PTX neg, effusion pos", {PTX: A, EFF: P}),
        ("Neg for PTX or effusion", {PTX: A, EFF: A}),
        ("PTX: negative", {PTX: A}),
        ("PTX: positive", {PTX: P}),
    ],
)
def test_a_sign_is_an_answer(text: str, expected: dict[str, Status | None]) -> None:
    assert_says(text, expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Nil effusion.", {EFF: A}),
        ("Nil pneumothorax or effusion.", {EFF: A, PTX: A}),
        ("Effusion: nil", {EFF: A}),
        ("Effusion nil.", {EFF: A}),
        ("Pneumothorax\tNo", {PTX: A}),
        ("Pneumothorax\tNo\nEffusion\tYes\nConsolidation\tNo", {PTX: A, EFF: P, CONS: A}),
        ("pneumothorax\tno\neffusion\tyes\nconsolidation\tno", {PTX: A, EFF: P, CONS: A}),
        ("Pneumothorax\tNo\tEffusion\tYes", {PTX: A, EFF: P}),
        ("Pneumothorax ... No", {PTX: A}),
        ("Pneumothorax ...... No\nEffusion ........ Yes", {PTX: A, EFF: P}),
        ("Pneumothorax.....No", {PTX: A}),
        ("Pneumothorax ____ No", {PTX: A}),
        ("Pneumothorax     No\nEffusion     Yes", {PTX: A, EFF: P}),
        ("Effusion - none", {EFF: A}),
        ("Effusion \u2013 no", {EFF: A}),
        ("Effusion? No", {EFF: A}),
        ("Effusion? None. Pneumothorax? Yes.", {EFF: A, PTX: P}),
        ("Effusion (no), pneumothorax (yes)", {EFF: A, PTX: P}),
        ("Pneumothorax: No Effusion: Yes Consolidation: No", {PTX: A, EFF: P, CONS: A}),
        ("Pneumothorax: No, Effusion: No, Consolidation: Yes", {PTX: A, EFF: A, CONS: P}),
        ("Pneumothorax: No; Effusion: Yes", {PTX: A, EFF: P}),
        ("pneumothorax: no\neffusion: yes\nconsolidation: no", {PTX: A, EFF: P, CONS: A}),
        ("Pneumothorax: absent Effusion: present", {PTX: A, EFF: P}),
        ("Pneumothorax: None\nEffusion: Small", {PTX: A, EFF: P}),
        ("Effusion, pneumothorax: no", {EFF: A, PTX: A}),
        ("Effusion/pneumothorax: none", {EFF: A, PTX: A}),
        ("Pneumothorax: N\nEffusion: Y", {PTX: A, EFF: P}),
        ("Pneumothorax: Y/N", {PTX: None}),
        ("Pneumothorax: Yes / No", {PTX: None}),
        ("Pneumothorax: N/A", {PTX: None}),
        ("effusion = 0", {EFF: A}),
        ("Effusion: 0", {EFF: A}),
        ("effusion=none", {EFF: A}),
        ("Pneumothorax: not seen", {PTX: A}),
        ("Pneumothorax:\nNone", {PTX: A}),
        ("no:\n- effusion\n- pneumothorax", {EFF: A, PTX: A}),
        ("No:\n- effusion\n- pneumothorax\n\nSmall nodule.", {EFF: A, PTX: A, "nodule": P}),
        (
            "No evidence of:\n\u2022 Effusion\n\u2022 Pneumothorax\n\u2022 Consolidation",
            {EFF: A, PTX: A, CONS: A},
        ),
        ("Negative for:\n1. Effusion\n2. Pneumothorax\n", {EFF: A, PTX: A}),
        ("There is no:\n* effusion\n* pneumothorax\nHeart is enlarged.", {EFF: A, PTX: A, "cardiomegaly": P}),
        ("Without:\neffusion\npneumothorax", {EFF: A, PTX: A}),
        ("No:\n- effusion\n- pneumothorax\nPresent:\n- nodule", {EFF: A, PTX: A, "nodule": P}),
        ("(*) Effusion ( ) Pneumothorax", {EFF: P, PTX: A}),
        ("(•) Effusion ( ) Pneumothorax", {EFF: P, PTX: A}),
        ("+ effusion, - pneumothorax", {EFF: P, PTX: A}),
        ("+effusion -pneumothorax", {EFF: P, PTX: A}),
        ("- effusion\n- pneumothorax", {EFF: P, PTX: P}),
        ("- pneumothorax, + effusion", {EFF: P, PTX: A}),
        ("Cardiomegaly is known.", {"cardiomegaly": P}),
        ("Effusion (Y/N): N", {EFF: A}),
        ("Effusion (yes/no): no", {EFF: A}),
        ("Effusion (yes/no): yes", {EFF: P}),
        ("Effusion [yes/no] no", {EFF: A}),
        ("Effusion ✓ Pneumothorax ✗", {EFF: P, PTX: A}),
        ("Effusion, yes or no? No", {EFF: A}),
        ("Effusion, yes or no? Yes", {EFF: P}),
        ("Effusion: + / Pneumothorax: -", {EFF: P, PTX: A}),
        ("Effusion: +", {EFF: P}),
        ("Effusion: - / Pneumothorax: +", {EFF: A, PTX: P}),
        ("Effusion: Left: small. Right: none.", {EFF: P}),
        ("Pneumothorax (n)", {PTX: A}),
        ("Pneumothorax (y)", {PTX: P}),
        ("Pneumothorax [N]", {PTX: A}),
        ("Pneumothorax [Y]", {PTX: P}),
        ("Pneumothorax,0", {PTX: A}),
        ("Pneumothorax,0\nEffusion,1", {PTX: A, EFF: P}),
        ("Pneumothorax: False", {PTX: A}),
        ("Pneumothorax: Right: No. Left: No.", {PTX: A}),
        ("Pneumothorax: Right: No. Left: Yes.", {PTX: P}),
        ("Pneumothorax: True", {PTX: P}),
        ("Pneumothorax: not known", {PTX: None}),
        ("Pneumothorax: unknown", {PTX: None}),
        ("Pneumothorax;No\nEffusion;Yes", {PTX: A, EFF: P}),
        ("Pneumothorax\t0", {PTX: A}),
        ("Pneumothorax\t0\nEffusion\t1", {PTX: A, EFF: P}),
        ("Pneumothorax\t1", {PTX: P}),
        ("[*] Effusion [ ] Pneumothorax", {EFF: P, PTX: A}),
        ("[✓] Effusion [✗] Pneumothorax", {EFF: P, PTX: A}),
        ("[✗] Effusion [ ] Pneumothorax", {EFF: P, PTX: A}),
        ("• Small effusion.\n• No pneumothorax.", {EFF: P, PTX: A}),
        ("● Effusion ○ Pneumothorax", {EFF: P, PTX: A}),
        ("● Small effusion.\n● No pneumothorax.", {EFF: P, PTX: A}),
        ("✅ Effusion ❌ Pneumothorax", {EFF: P, PTX: A}),
        ("✓ Effusion ✗ Pneumothorax", {EFF: P, PTX: A}),
        ("✔ Effusion\n✘ Pneumothorax", {EFF: P, PTX: A}),
    ],
)
def test_an_answer_speaks_of_its_label(text: str, expected: dict[str, Status | None]) -> None:
    assert_says(text, expected)


@pytest.mark.parametrize(
    "text",
    [
        "Pleural effusions: R: small L: none",
        "Pleural effusions: R small, L none",
        "Pleural effusion: right small, left none",
        "Pleural effusion: left none, right small",
        "Pleural effusions: Right: small; Left: no",
        "Pleural effusions: Lt: nil Rt: small",
        "Pleural effusions:\nR: small\nL: none",
    ],
)
def test_each_side_of_a_form_has_its_own_answer(text: str) -> None:
    assert_says(text, {EFF: P})
    result = {(c.status, c.side, c.degree) for c in concepts(text)}
    assert result == {(P, "right", "small"), (A, "left", None)}


def test_a_form_with_both_sides_empty_denies_the_finding() -> None:
    assert_says("Pleural effusions: R: none L: none", {EFF: A})


@pytest.mark.parametrize(
    "text",
    [
        "The heart (XXXX) is normal, e.g. [1], and no effusion (small or large) is seen.",
        "A 2 x 3 cm nodule (2+).",
        "Effusion - small.",
        "No effusion, no pneumothorax.",
        "Kyphosis - no change.",
    ],
)
def test_prose_is_no_form(text: str) -> None:
    assert fill_form(text) == text


def test_a_sentence_of_a_form_stays_as_it_was_written() -> None:
    report = parse_report("a", "FINDINGS:\n[x] Effusion\n[ ] Pneumothorax\n")
    assert sentences(report) == ["[x] Effusion", "[ ] Pneumothorax"]


@given(st.text(alphabet="[]() xX-+:,.\u2611\u2610ano\t", max_size=120))
@settings(max_examples=300, deadline=None)
def test_any_signs_can_be_read(text: str) -> None:
    assert isinstance(fill_form(text), str)
    label_text(text)
