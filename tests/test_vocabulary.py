"""The words of the code: the field's own (docs/glossary.md), and none of those that stood for them before."""

import ast
import io
import re
import tokenize
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ("corpus", "trainer", "indexer", "retrieval", "similarity", "benchmarks", "examples", "migrations")

IDENTIFIERS = (
    "alike", "asked", "bury", "cue", "cut", "film", "gate", "held", "judged", "kept", "likeness", "nobody",
    "people", "person", "picture", "place", "said", "somebody", "told", "trunk", "twin", "weak",
    "whereabouts", "whose",
)  # fmt: skip
"""Parts of a name (`film_bytes` has the part `film`), in the singular."""
ALLOWED_PARTS = re.compile(r"held_out|Held_?Out|place_?holder|inplace|person_?name")

PROSE = re.compile(
    r"\b(alike|films?|homeless|likeness|make last|nobody|people|persons?|pictures?|set right|somebody|told"
    r"|trunks?|whereabouts|whose)\b",
    re.IGNORECASE,
)
"""Words that no sentence of ours has: comments, docstrings, messages. Quotations ("…", `…`) are not ours."""

STABLE = {
    # Names that users type or read: keys of TOML and JSON, options, columns. They keep their old words.
    "asked_of_reader", "films", "image_trunk", "people", "per_film", "place", "texts_per_picture", "trunk",
}  # fmt: skip

LANGUAGE_DATA = {
    # Words of reports, not ours.
    "corpus/language/mentions.py",
    "corpus/language/person_names.py",
    "corpus/language/triggers.py",
    "trainer/data/wordings.py",
}

QUOTES = re.compile(r"^\w*(\"\"\"|'''|\"|')|(\"\"\"|'''|\"|')$")
"""Around a string literal."""

QUOTATIONS = re.compile(r"`[^`]*`|\"[^\"]*\"|“[^”]*”|\{[^{}]*\}|--[\w-]+|[\w-]+\.toml")
"""In a sentence: code, words of others, options and files."""

STABLE_SENTENCES = {"wait for pictures"}  # a key of `index add --json`


def _modules() -> list[Path]:
    return sorted(
        file
        for layer in LAYERS
        for file in (ROOT / layer).rglob("*.py")
        if "versions" not in file.parts and str(file.relative_to(ROOT)) not in LANGUAGE_DATA
    )


def _parts(name: str) -> list[str]:
    separated = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", ALLOWED_PARTS.sub("", name))
    return [part.lower() for part in separated.split("_") if part]


def _singular(part: str) -> str:
    return part[:-1] if part.endswith("s") and part[:-1] in IDENTIFIERS else part


def names_of(source: str) -> set[str]:
    """The names that a module gives: its definitions, parameters, fields and variables."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
    return names


def _prose(source: str) -> list[tuple[int, str]]:
    """Comments, and string literals with a blank: sentences, not keys."""
    found = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        text = token.string
        if token.type == tokenize.COMMENT or (token.type == tokenize.STRING and " " in text):
            inner = text if token.type == tokenize.COMMENT else QUOTES.sub("", text)
            inner = QUOTATIONS.sub(lambda match: re.sub(r"[^\n]", "_", match.group()), inner)
            found += [(token.start[0] + row, line) for row, line in enumerate(inner.split("\n"))]
    return found


def wrong_names(source: str) -> list[str]:
    """Return the names of a module that do not keep to the vocabulary."""
    return [
        f"name {name}"
        for name in sorted(names_of(source) - STABLE)
        if any(_singular(part) in IDENTIFIERS for part in _parts(name))
    ]


def wrong_words(lines: Iterable[tuple[int, str]]) -> list[str]:
    """Return the words that no sentence of ours has, each with its line.

    Args:
        lines: number and text of each.
    """
    return [
        f"line {row}: {match.group()!r} in {line.strip()[:90]}"
        for row, line in lines
        if line not in STABLE_SENTENCES
        for match in PROSE.finditer(line)
    ]


def _name(file: Path) -> str:
    return str(file.relative_to(ROOT))


@pytest.mark.parametrize("file", _modules(), ids=_name)
def test_names_and_sentences_use_the_words_of_the_field(file: Path) -> None:
    source = file.read_text(encoding="utf-8")
    assert wrong_names(source) + wrong_words(_prose(source)) == []


@pytest.mark.parametrize("file", sorted((ROOT / "tests").rglob("*.py")), ids=_name)
def test_names_in_tests_use_the_words_of_the_field(file: Path) -> None:
    """Their strings are data: words of reports, keys and messages."""
    assert wrong_names(file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("file", sorted((ROOT / "trainer/recipes").glob("*.toml")), ids=_name)
def test_comments_of_recipes_use_the_words_of_the_field(file: Path) -> None:
    comments = (
        (row, QUOTATIONS.sub("_", line.partition("#")[2]))
        for row, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
    )
    assert wrong_words(comments) == []
