"""What the README tells a reader to type works, in its order, as it stands there."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from corpus.settings import Settings
from similarity.cli.main import cli
from tests.end_to_end.conftest import SIMILARITY, runner

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = [block.splitlines() for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL)]
LINES = [line for block in BLOCKS for line in block]
SERVERS = next(block for block in BLOCKS if any(line.startswith("docker") for line in block))
SERVICE = next(block for block in BLOCKS if any(line.startswith("similarity serve") for line in block))
OWN_CASES = next(block for block in BLOCKS if any(line.startswith("similarity train") for line in block))


def test_every_line_is_of_a_kind_that_is_tested_here() -> None:
    tested = {"make", "similarity", "export", "docker"}
    assert {line.split()[0] for line in LINES} <= tested
    ours = {block[0] for block in BLOCKS if block[0].startswith("similarity")}
    assert ours == {OWN_CASES[0], SERVICE[0]}


def test_the_commands_around_the_service_run_in_a_row(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but `serve` itself, which `test_served` runs."""
    monkeypatch.chdir(tmp_path)
    for line in (line for line in SERVICE if not line.startswith("similarity serve")):
        done = CliRunner().invoke(cli, shlex.split(line)[1:])
        assert done.exit_code == 0, f"{line}\n{done.output}\n{done.exception!r}"
    words = shlex.split(next(line for line in SERVICE if line.startswith("similarity serve")))
    shown = CliRunner().invoke(cli, ["serve", "--help"]).stdout
    assert all(word in shown for word in words if word.startswith("--"))


def test_the_commands_for_ones_own_cases_run_in_a_row(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one process: each would spend seconds on loading torch, and `test_whole_line` has them apart."""
    monkeypatch.chdir(tmp_path)
    for line in OWN_CASES:
        program, *words = shlex.split(line)
        assert program == "similarity"
        done = CliRunner().invoke(cli, words)
        assert done.exit_code == 0, f"{line}\n{done.output}\n{done.exception!r}"
        assert done.stdout.strip(), f"{line} says nothing"
    (script,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(compile(script, "README.md", "exec"), {})


def test_a_command_within_the_text_is_one_that_the_program_knows(tmp_path: Path) -> None:
    run = runner(tmp_path / "home", tmp_path)
    inline = set(re.findall(r"`similarity ([a-z]+(?: [a-z]+)*)", README))
    assert inline
    for words in sorted(inline):
        assert "Usage: similarity" in run(*words.split(), "--help").out


@pytest.mark.parametrize("line", sorted({line for line in LINES if line.startswith("make")}))
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
        for place in (word.rpartition(":")[2] for word in words if "/" in word):
            assert (ROOT / place).exists() or place.startswith("runs/"), place


def test_the_lines_for_servers_name_settings_and_services_that_exist() -> None:
    compose = (ROOT / "docker-compose.yml").read_text("utf-8")
    exported = set(re.findall(r"(\w+)=", " ".join(line for line in SERVERS if line.startswith("export"))))
    known = {f"SIMILARITY_{name.upper()}" for name in Settings.model_fields}
    assert {name for name in exported if name.startswith("SIMILARITY_")} <= known
    for name in (name for name in exported if not name.startswith("SIMILARITY_")):
        assert f"${{{name}:?" in compose
    ports = {
        str(port).split(":")[1]
        for s in yaml.safe_load(compose)["services"].values()
        for port in s.get("ports", ())
    }
    assert set(re.findall(r"127\.0\.0\.1:(\d+)", "\n".join(SERVERS))) <= ports
