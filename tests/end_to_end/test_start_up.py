"""Start-up: the help of a command imports nothing heavy."""

import subprocess
import sys
from pathlib import Path

import pytest

from similarity.cli.main import COMMANDS
from tests.end_to_end.conftest import SIMILARITY

HEAVY = {
    "torch", "numpy", "polars", "sqlalchemy", "open_clip", "timm", "transformers", "qdrant_client",
    "qdrant_edge", "pydicom", "PIL", "rich", "pydantic", "jinja2", "alembic", "safetensors",
}  # fmt: skip
AT_MOST = 450
"""Imported modules, most of them Python's own: help takes a tenth of a second."""


@pytest.mark.parametrize(
    "words", [(), *((name,) for name in COMMANDS)], ids=lambda words: " ".join(words) or "all"
)
def test_help_imports_nothing_heavy(words: tuple[str, ...], tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from similarity.cli.main import cli\n"
        f"try: cli.main([*{words!r}, '--help'], prog_name='similarity')\n"
        "except SystemExit as left: assert not left.code, left.code\n"
        "print(*sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    modules = done.stderr.split()
    assert not HEAVY & {name.partition(".")[0] for name in modules}
    assert len(modules) < AT_MOST


def test_every_command_has_a_line_in_the_help(tmp_path: Path) -> None:
    shown = subprocess.run([SIMILARITY, "--help"], cwd=tmp_path, check=True, capture_output=True, text=True)
    for name, (_, line) in COMMANDS.items():
        assert name in shown.stdout
        assert line.split()[0] in shown.stdout
