"""`similarity demo`: one page that stands alone and shows the whole mission, and nothing outside its folder.

The command runs on few phantoms here, too few to learn from. `python -m benchmarks.demo` checks what the full
demonstration promises.
"""

import json
import re
from pathlib import Path
from typing import Any

import click
import pytest

from retrieval.demo.run import OWN_COMMANDS, OWN_PYTHON
from similarity import __all__ as public_names
from similarity.cli.main import cli
from tests.end_to_end.conftest import Run, runner

MISSION = (
    "From an image to similar cases",
    "Where the finding is",
    "What corresponds in the most similar case",
    "A draft of the report",
    "Image to reports",
    "Text to images",
    "Text to reports",
    "Case to cases",
    "Image to cases, filtered",
    "Evaluation: image to report",
    "Evaluation: image to image",
    "The same with your own folder",
)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    ran = runner(folder / "users-home", folder)("demo", "--out", "out", "--studies", "100", "--epochs", "1")
    shown = Path(ran.out.strip())
    assert shown == folder / "out" / "page.html"
    assert "[5/5]" in ran.err
    assert not (folder / "users-home").exists()
    return shown


@pytest.fixture(scope="module")
def summary(page: Path) -> Any:
    return json.loads((page.parent / "summary.json").read_text())


def test_the_page_shows_the_mission_in_its_order(page: Path) -> None:
    headings = re.findall(r"<h2[^>]*>([^<]*)</h2>", page.read_text(encoding="utf-8"))
    assert headings == list(MISSION)


def test_the_page_shows_the_evaluation_beside_its_baselines(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for column in ("one constant answer", "random", "perfect normal/abnormal", "P@1", "lift@5", "nDCG@10"):
        assert column in text
    assert text.count("data:image/png;base64,") >= 35


def test_a_mask_is_shown_only_under_a_calibration(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert re.search(r"\d+% of the findings that are present got a mask", text)
    assert "not calibrated" not in text
    assert "Ground truth" in text
    assert re.search("Absent finding: “[a-z ]+”", text)


def test_the_draft_stands_beside_the_report_it_never_saw(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "DRAFT" in text
    if "votes: " in text:
        assert "Not assessed: " in text
        assert re.search(r"\d+ of \d+ neighbours, estimated probability \d+%", text)
    assert "The query&#39;s own report" in text or "The query's own report" in text


def test_the_summary_has_what_the_page_shows(page: Path, summary: Any) -> None:
    agree = summary["first_hits_agree"]
    assert f"{sum(agree)} of {len(agree)} searches" in page.read_text(encoding="utf-8")
    for direction in ("image_to_report", "image_to_image"):
        assert set(summary[direction]["baselines"]) == {"random", "constant", "normal_abnormal"}
        low, high = summary[direction]["ci95"]["precision_at"]["1"]
        assert low <= summary[direction]["precision_at"]["1"] <= high


def test_the_page_needs_nothing_from_outside(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"(?:src|href)=\"(?!data:|#)", text)
    assert "<script" not in text
    assert "http:" not in text
    assert "https:" not in text


def test_the_next_steps_use_commands_options_and_names_that_exist() -> None:
    for line in OWN_COMMANDS:
        words = line.partition("#")[0].split()
        assert words.pop(0) == "similarity"
        command: Any = cli
        while isinstance(command, click.Group):
            name = words.pop(0)
            command = command.get_command(click.Context(command), name) or pytest.fail(f"no command {name}")
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("-")} <= options, line
    compile(OWN_PYTHON, "page", "exec")
    assert len(OWN_PYTHON.splitlines()) == 5
    assert set(re.findall(r"\bsim\.(\w+)", OWN_PYTHON)) <= set(public_names)


def test_a_folder_with_other_content_is_left_alone(run: Run, folder: Path) -> None:
    (folder / "thesis").mkdir()
    (folder / "thesis" / "chapter.txt").write_text("years of work")
    ran = run("demo", "--out", "thesis", exits=2)
    assert "is not empty" in ran.err
    assert (folder / "thesis" / "chapter.txt").read_text() == "years of work"
