"""Reports come apart at their headings and at their sentences, whatever wrote them."""

import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.language.sections import parse_report, sentences, split_sentences
from corpus.records import Report, Section


def _sections(text: str) -> dict[str, str]:
    return {s.name: s.text for s in parse_report("openi:1", text).sections}


@pytest.mark.parametrize(
    "text",
    [
        "INDICATION: Cough.\nFINDINGS: Lungs are clear.\nIMPRESSION: Normal chest.",
        "Indication: Cough. Findings: Lungs are clear. Impression: Normal chest.",
        "INDICATION\nCough.\nFINDINGS\nLungs are clear.\nIMPRESSION\nNormal chest.",
        "INDICATION: Cough.\r\n\r\nFINDINGS:\r\nLungs are clear.\r\n\r\nIMPRESSION:\r\nNormal chest.",
        "REASON FOR EXAM : Cough. FINDINGS : Lungs are clear. CONCLUSION : Normal chest.",
        "clinical indication: Cough.\nfindings: Lungs are clear.\nconclusion: Normal chest.",
        "<p><b>INDICATION:</b> Cough.</p><p>FINDINGS: Lungs are clear.<br/>IMPRESSION: Normal chest.</p>",
        "INDICATION:\u00a0Cough.\nFINDINGS:\u00a0Lungs\u00a0are clear.\nIMPRESSION: Normal\u2009chest.",
    ],
)
def test_headings_of_every_style_give_the_same_sections(text: str) -> None:
    assert _sections(text) == {
        "indication": "Cough.",
        "findings": "Lungs are clear.",
        "impression": "Normal chest.",
    }


def test_a_mimic_report_keeps_its_letterhead_out_and_its_sections_apart() -> None:
    text = (
        "                                 FINAL REPORT\n EXAMINATION:  CHEST (PA AND LAT)\n\n"
        " INDICATION:  ___-year-old woman with cough // eval for pneumonia\n\n COMPARISON:  ___\n\n"
        " FINDINGS: \n \n The heart is enlarged. There is no\n pneumothorax.\n\n IMPRESSION: \n\n"
        " 1. No pneumonia.\n 2. Cardiomegaly.\n"
    )
    report = parse_report("mimic-cxr:1", text)
    assert [s.name for s in report.sections] == [
        "examination",
        "indication",
        "comparison",
        "findings",
        "impression",
    ]
    assert sentences(report) == [
        "The heart is enlarged.",
        "There is no pneumothorax.",
        "No pneumonia.",
        "Cardiomegaly.",
    ]


def test_a_description_under_no_heading_is_found_below_the_comparison() -> None:
    sections = _sections("COMPARISON: None.\n\nThe lungs are clear.\n\nIMPRESSION: No acute disease.")
    assert sections == {
        "comparison": "None.",
        "body": "The lungs are clear.",
        "impression": "No acute disease.",
    }


def test_without_headings_the_text_is_one_body() -> None:
    assert _sections("Small left effusion. No pneumothorax.") == {
        "body": "Small left effusion. No pneumothorax."
    }


def test_a_word_that_is_no_heading_stays_in_its_sentence() -> None:
    text = "The findings are stable and the impression is unchanged. LUNGS: clear. HEART: normal."
    assert _sections(text) == {"body": text}


@pytest.mark.parametrize("text", ["", "  \r\n \u00a0 ", "\ufeff", "<br><br>"])
def test_an_empty_report_has_no_sections(text: str) -> None:
    assert parse_report("a", text) == Report("a#report", ())


def test_nothing_but_blanks_of_deidentification_has_no_sentences() -> None:
    report = parse_report("a", "XXXX XXXX. XXXX, XXXX.\nXXXX")
    assert report.sections
    assert sentences(report) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A 1.5 cm nodule. No effusion.", ["A 1.5 cm nodule.", "No effusion."]),
        ("Discussed with Dr. Smith. Stable.", ["Discussed with Dr. Smith.", "Stable."]),
        ("Devices, e.g. a tube, are seen. Clear.", ["Devices, e.g. a tube, are seen.", "Clear."]),
        ("Clear lung.There is no effusion.", ["Clear lung.", "There is no effusion."]),
        ("No effusion.no pneumothorax", ["No effusion.", "no pneumothorax"]),
        ("1. No effusion. 2. Mild edema.", ["No effusion.", "Mild edema."]),
        ("1. No effusion 2. Mild edema 3. Stable", ["No effusion", "Mild edema", "Stable"]),
        ("1) No effusion.\n2) Mild edema.", ["No effusion.", "Mild edema."]),
        ("- No effusion\n- Mild edema", ["No effusion", "Mild edema"]),
        ("Lungs clear\nHeart normal", ["Lungs clear", "Heart normal"]),
        (
            "There is a small effusion at the left base that was seen before and\nis stable.",
            ["There is a small effusion at the left base that was seen before and is stable."],
        ),
        ("The XXXX XXXX are clear. XXXX.", ["The XXXX XXXX are clear.", "XXXX."]),
        ("Fracture of T12. Stable.", ["Fracture of T12.", "Stable."]),
        ("It measures 2.0 cm. Stable.", ["It measures 2.0 cm.", "Stable."]),
        ("Effusion vs. thickening. Stable.", ["Effusion vs. thickening.", "Stable."]),
        ("Is it new? Yes!! (Compare.) Done", ["Is it new?", "Yes!!", "(Compare.)", "Done"]),
        ("... . ;", []),
        ("", []),
    ],
)
def test_sentences_end_where_a_reader_ends_them(text: str, expected: list[str]) -> None:
    assert split_sentences(text) == expected


@given(st.text(alphabet='aB1 .,:;\n-?!()"X\t<&\u00a0', max_size=200))
@settings(max_examples=300, deadline=None)
def test_splitting_loses_no_word(text: str) -> None:
    def letters(s: str) -> str:
        return "".join(c for c in s if c.isalpha())

    parts = split_sentences(text)
    assert letters("".join(parts)) == letters(text)
    assert all(p.strip() == p and p for p in parts)


@given(st.text(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_text_is_a_report(text: str) -> None:
    report = parse_report("a", text)
    assert all(s.text.strip() for s in report.sections)
    assert all(sentences(report))


def test_sentences_are_those_that_describe_the_image() -> None:
    report = Report(
        "a#report",
        (
            Section("indication", "Cough."),
            Section("findings", "Clear. No effusion."),
            Section("impression", "Normal."),
        ),
    )
    assert sentences(report) == ["Clear.", "No effusion.", "Normal."]


HOSTILE: dict[str, Callable[[int], str]] = {
    "stops": lambda n: ". " * (n // 2),
    "words without blanks": lambda n: "a." * (n // 2),
    "list marks": lambda n: "1. " * (n // 3),
    "headings": lambda n: "FINDINGS:" * (n // 9),
    "heading words": lambda n: "findings " * (n // 9),
    "blank lines": lambda n: " \n" * (n // 2) + "x",
    "commas": lambda n: "lung, " * (n // 6),
    "open tags": lambda n: "<" * n,
    "half tags": lambda n: "<br" * (n // 3),
    "ampersands": lambda n: "&" * n,
    "brackets": lambda n: "(" * n,
    "one long word": lambda n: "x" * n,
    "digits": lambda n: "1" * n,
    "leaders": lambda n: "effusion" + "." * n,
    "tabs": lambda n: "effusion\t" * (n // 9),
    "rows below a denial": lambda n: "no:\n" + "- effusion\n" * (n // 11),
    "question marks": lambda n: "? " * (n // 2) + "effusion",
}


def least_time(work: Callable[[], object]) -> float:
    """The least processor time of three runs, in seconds."""
    times = []
    for _ in range(3):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times)


@pytest.mark.parametrize("kind", HOSTILE)
def test_time_grows_with_the_length_and_not_faster(kind: str) -> None:
    short, long = (HOSTILE[kind](n) for n in (12_500, 100_000))
    ratio = least_time(lambda: sentences(parse_report("a", long))) / max(
        least_time(lambda: sentences(parse_report("a", short))), 1e-3
    )
    assert ratio < 28  # eight times the text; quadratic would be sixty-four
