"""What the README tells a reader to type works, in its order, as it stands there."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from similarity.cli.main import cli
from tests.docs.pages import README, ROOT, blocks, lines
from tests.end_to_end.conftest import SIMILARITY

LINES = lines(README, "console")
MAKE = [line for line in LINES if line.startswith("make")]
COMMANDS = [line for line in LINES if line.startswith("similarity")]


def test_every_line_is_of_a_kind_that_is_tested_here() -> None:
    assert {line.split()[0] for line in LINES} == {"make", "similarity"}


def test_the_commands_and_the_python_run_in_their_order(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one process: each would spend seconds on importing torch, and `test_whole_line` has them apart."""
    monkeypatch.chdir(tmp_path)
    for line in COMMANDS:
        result = CliRunner().invoke(cli, shlex.split(line)[1:])
        assert result.exit_code == 0, f"{line}\n{result.output}\n{result.exception!r}"
        assert result.stdout.strip(), f"{line} prints nothing"
    (script,) = blocks(README, "python")
    exec(compile(script, "README.md", "exec"), {})


@pytest.mark.parametrize("line", [*MAKE, "make test-fast", "make docs", "make encoder"])
def test_make_knows_its_targets(line: str) -> None:
    """What they run is tested elsewhere: the suite itself, `test_demo`, and the recipe's own commands."""
    plan = subprocess.run(
        [*shlex.split(line), "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert plan.stdout.strip()


@pytest.mark.real_data
def test_the_commands_behind_make_encoder_name_options_and_files_that_are_there(data: Path) -> None:
    """Training takes minutes; that its command line is accepted shows in what `--help` and the files say."""
    plan = subprocess.run(
        ["make", "--dry-run", "encoder", f"DATA={data}"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.replace("\\\n", " ")
    commands = [shlex.split(line) for line in plan.splitlines() if "bin/similarity" in line]
    assert [command[1] for command in commands] == ["train", "evaluate"]
    for _, name, *words in commands:
        shown = subprocess.run(
            [SIMILARITY, name, "--help"], capture_output=True, text=True, check=True
        ).stdout
        assert all(word in shown for word in words if word.startswith("--"))
        for path in (word.rpartition(":")[2] for word in words if "/" in word):
            assert (ROOT / path).exists() or path.startswith("runs/"), path


def test_links_within_the_repository_lead_to_files() -> None:
    for address in re.findall(r"\]\(([^)#]+)", README.read_text("utf-8")):
        assert (ROOT / address).exists(), address
