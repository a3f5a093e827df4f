"""The tree of findings."""

import pytest

from corpus.findings import VOCABULARY


@pytest.mark.parametrize(
    ("name", "ancestors"),
    [
        ("nodule", ("lung_lesion", "lung_opacity")),
        ("edema", ("lung_opacity",)),
        ("lung_opacity", ()),
        ("no_finding", ()),
    ],
)
def test_ancestors_go_from_the_parent_to_the_top(name: str, ancestors: tuple[str, ...]) -> None:
    assert VOCABULARY.ancestors(name) == ancestors


def test_descendants_are_children_and_their_children() -> None:
    assert VOCABULARY.descendants("lung_lesion") == ("nodule", "mass")
    assert set(VOCABULARY.descendants("lung_opacity")) == {
        *VOCABULARY.children("lung_opacity"),
        "nodule",
        "mass",
    }
    assert VOCABULARY.descendants("fracture") == ()


@pytest.mark.parametrize("name", VOCABULARY.names)
def test_a_finding_descends_from_each_of_its_ancestors(name: str) -> None:
    assert {above for above in VOCABULARY.names if name in VOCABULARY.descendants(above)} == set(
        VOCABULARY.ancestors(name)
    )
