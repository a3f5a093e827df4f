"""The documentation as text: its pages, their code blocks, and the commands that these name."""

import re
import shlex
from pathlib import Path

import click

from similarity.cli.main import cli

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
GUIDES = ("tutorial", *(f"how-to/{name}" for name in (
    "own-data", "deidentification", "search", "localization", "drafts", "encoders", "training", "operations",
)))  # fmt: skip
"""The pages with commands that run, in an order in which each finds what it needs."""


def pages() -> list[Path]:
    """Return every page of documentation."""
    return [
        README,
        *(ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md")),
        *sorted(DOCS.rglob("*.md")),
    ]


def blocks(page: Path, language: str) -> list[str]:
    """Return the code blocks of a page in one language: `console` runs in the tests, `bash` is checked."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)


def lines(page: Path, language: str) -> list[str]:
    """Return the command lines of a page's blocks."""
    return [line for block in blocks(page, language) for line in block.splitlines() if line.strip()]


def unknown_parts(line: str) -> list[str]:
    """Return the words of a `similarity …` line that no command or option has."""
    words = shlex.split(line.partition(" > ")[0])
    words = words[words.index("similarity") + 1 :]
    command: click.Command = cli
    context = click.Context(cli)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        if found is None:
            return [words[0]]
        command, words = found, words[1:]
    known = {option for parameter in command.params for option in parameter.opts} | {"--help", "--version"}
    return [word for word in words if word.startswith("-") and len(word) > 1 and word not in known]
