"""Only what a report affirms is among its words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.language.labeler import affirmed_text, label_text
from corpus.language.phrases import words
from corpus.language.sections import parse_report


@pytest.mark.parametrize(
    ("report", "left"),
    [
        ("No effusion.", ""),
        ("Small right effusion.", "small right effusion"),
        ("Consolidation without effusion.", "consolidation"),
        ("There is a small nodule and no effusion.", "there is a small nodule"),
        ("Right effusion but no left effusion.", "right effusion"),
        ("Pneumothorax: no. Sternotomy wires.", "sternotomy wires"),
        ("Possible pneumonia.", "possible pneumonia"),
        ("INDICATION: edema? FINDINGS: Nodule. IMPRESSION: No edema.", "nodule"),
        ("Comparison with the last film.", "comparison with the last film"),
        ("", ""),
    ],
)
def test_what_is_denied_is_left_out(report: str, left: str) -> None:
    assert affirmed_text(parse_report("r", report)) == left


SENTENCES = st.sampled_from(
    ["No effusion.", "Small nodule.", "The lungs are clear.", "Edema, no mass.", "Hernia.", "No change."]
)


@given(st.lists(SENTENCES, max_size=8))
def test_the_words_are_the_reports_own_in_their_order(result: list[str]) -> None:
    text = " ".join(result)
    left = affirmed_text(parse_report("r", text)).split()
    remaining = iter(words(text))
    assert all(word in remaining for word in left)
    assert label_text(" ".join(left)).get("pleural_effusion") is None
