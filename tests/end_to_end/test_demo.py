"""`similarity demo` on few phantoms: one page that stands alone, and nothing outside its folder."""

import re
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Run, runner


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    ran = runner(folder / "users-home", folder)("demo", "--out", "out", "--studies", "100", "--epochs", "1")
    shown = Path(ran.out.strip())
    assert shown == folder / "out" / "page.html"
    assert "[4/4]" in ran.err
    assert not (folder / "users-home").exists()
    return shown


def test_the_page_shows_every_kind_of_search_and_the_baselines(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for told in (
        "Image to cases", "Image to reports", "Text to images", "Text to reports", "Case to cases",
        "filtered", "one constant answer", "random", "perfect normal/abnormal", "nDCG@10",
    ):  # fmt: skip
        assert told in text
    assert text.count("data:image/png;base64,") >= 30


def test_the_page_needs_nothing_from_outside(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"(?:src|href)=\"(?!data:|#)", text)
    assert "<script" not in text
    assert "http:" not in text
    assert "https:" not in text


def test_a_folder_that_holds_something_else_is_left_alone(run: Run, folder: Path) -> None:
    (folder / "thesis").mkdir()
    (folder / "thesis" / "chapter.txt").write_text("years of work")
    ran = run("demo", "--out", "thesis", exits=2)
    assert "is not empty" in ran.err
    assert (folder / "thesis" / "chapter.txt").read_text() == "years of work"
