"""The language of the documentation: the field's terms, and numbers as the field writes them."""

import re
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, README, ROOT, pages

WORDS = re.compile(
    r"\b(pictures?|films?|likeness|alike|told|whose|somebody|nobody|people|persons?|whereabouts|trunks?)\b",
    re.IGNORECASE,
)


def _prose(page: Path) -> str:
    """Return a page without its code, links and names of files."""
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    return re.sub(r"`[^`]*`|\]\([^)]*\)|“[^”]*”", "", text)


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_prose_uses_the_terms_of_the_field(page: Path) -> None:
    assert WORDS.findall(_prose(page)) == []


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_decimals_have_a_leading_zero_and_intervals_no_ellipsis(page: Path) -> None:
    assert re.findall(r"(?<![\w.])\.\d", _prose(page)) == []
    assert re.findall(r"\d … [−\d]", _prose(page)) == []


def test_the_readme_is_one_page() -> None:
    assert len(README.read_text("utf-8").split()) <= 1_300


def test_every_image_is_shown_with_a_description() -> None:
    shown: set[str] = set()
    for page in pages():
        for description, address in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", page.read_text("utf-8")):
            file = (page.parent / address).resolve()
            assert file.is_file(), address
            assert len(description) > 20, f"{address}: {description!r}"
            shown.add(file.name)
    files = {file.name for file in DOCS.iterdir() if file.suffix in (".png", ".svg")}
    assert files - shown == set()
