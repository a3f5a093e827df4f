"""Texts and numbers as a terminal shows them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.notices import format_bytes, format_duration, one_line


@given(st.text())
def test_any_text_becomes_one_line_of_printable_signs(text: str) -> None:
    shown = one_line(text)
    assert shown.isprintable()
    assert shown == text or not text.isprintable()


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 B"), (999, "999 B"), (5_285_524, "5.3 MB"), (1_364_493_824, "1.4 GB"), (999_999_999, "1.0 GB"),
     (123_456_789, "123 MB"), (4 * 10**12, "4.0 TB"), (2500 * 10**12, "2500 TB")],
)  # fmt: skip
def test_bytes_are_formatted_in_the_unit_with_fewest_digits(count: int, shown: str) -> None:
    assert format_bytes(count) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.2, "1 s"), (89, "89 s"), (720, "12 min"), (12_600, "3.5 h")]
)
def test_durations_are_formatted_in_seconds_minutes_or_hours(seconds: float, shown: str) -> None:
    assert format_duration(seconds) == shown
