"""Ids of items survive being written and read, and show no patient data in a `repr`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.records import ItemId, ItemKind, study_of


@pytest.mark.parametrize(
    ("text", "item"),
    [
        ("openi:1000#CXR1_1_IM-0001", ItemId.image("openi:1000", "CXR1_1_IM-0001")),
        ("openi:1000#report", ItemId.report("openi:1000")),
        ("openi:1000#report.2", ItemId.sentence("openi:1000", 2)),
        ("manifest:a#b#report", ItemId.report("manifest:a#b")),
        ("openi:1000#report.007", ItemId.image("openi:1000", "report.007")),
        ("openi:1000#report.dcm", ItemId.image("openi:1000", "report.dcm")),
    ],
)
def test_an_item_id_is_read_as_it_is_written(text: str, item: ItemId) -> None:
    assert ItemId.parse(text) == item
    assert item.text == text


@given(st.text(), st.text())
def test_reading_an_item_id_loses_nothing(study_id: str, item: str) -> None:
    assert ItemId.parse(f"{study_id}#{item}").text == f"{study_id}#{item}"


def test_a_text_without_an_item_is_no_item_id() -> None:
    with pytest.raises(ValueError, match="is no item id"):
        ItemId.parse("openi:1000")


@given(st.text(), st.text().filter(lambda item: "#" not in item))
def test_an_item_belongs_to_the_study_of_its_id(study_id: str, item: str) -> None:
    if study_id:
        assert study_of(f"{study_id}#{item}") == study_id


def test_an_id_without_an_item_is_a_study_id() -> None:
    assert study_of("manifest:table.csv@row3") == "manifest:table.csv@row3"


def test_the_repr_of_an_item_id_shows_no_study() -> None:
    assert "1000" not in repr(ItemId.sentence("openi:1000", 2))


def test_item_kinds_have_their_stored_values() -> None:
    assert [str(kind) for kind in ItemKind] == ["image", "report", "sentence", "term", "patch"]
