"""The command is there at once: help imports nothing that takes time."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from retrieval.cli import COMMANDS
from tests.end_to_end.conftest import SIMILARITY

HEAVY = {
    "torch", "numpy", "polars", "sqlalchemy", "open_clip", "timm", "transformers", "qdrant_client",
    "qdrant_edge", "pydicom", "PIL", "rich", "pydantic", "jinja2", "alembic", "safetensors",
}  # fmt: skip
AT_MOST = 0.5  # seconds


@pytest.mark.parametrize("words", [("--help",), ("search", "--help")], ids=" ".join)
def test_help_answers_within_half_a_second(words: tuple[str, ...], tmp_path: Path) -> None:
    def seconds() -> float:
        """What the command needs of one core: waiting for other programs is not its own."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([SIMILARITY, *words], cwd=tmp_path, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime

    assert min(seconds() for _ in range(5)) < AT_MOST


@pytest.mark.parametrize(
    "words", [(), *((name,) for name in COMMANDS)], ids=lambda words: " ".join(words) or "all"
)
def test_help_imports_nothing_heavy(words: tuple[str, ...], tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from retrieval.cli import cli\n"
        f"try: cli.main([*{words!r}, '--help'], prog_name='similarity')\n"
        "except SystemExit as left: assert not left.code, left.code\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert not HEAVY & set(done.stderr.split())


def test_every_command_has_a_line_in_the_help(tmp_path: Path) -> None:
    shown = subprocess.run([SIMILARITY, "--help"], cwd=tmp_path, check=True, capture_output=True, text=True)
    for name, (_, line) in COMMANDS.items():
        assert name in shown.stdout
        assert line.split()[0] in shown.stdout
