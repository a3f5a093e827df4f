"""The documentation as a site: it builds without a warning, loads nothing from elsewhere, and is complete."""

import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import similarity as sim
from corpus.settings import Settings
from similarity.cli.main import cli
from tests.docs.pages import DOCS, ROOT

CONTRACTS = DOCS / "contracts"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built once as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    return folder


@pytest.fixture(scope="module")
def python_page(site: Path) -> set[str]:
    """The names with an entry on the page of the Python API."""
    page = (site / "reference" / "python.html").read_text("utf-8")
    return set(re.findall(r'id="(similarity\.[\w.]+)"', page))


@pytest.fixture(scope="module")
def command_page(site: Path) -> str:
    return (site / "reference" / "command-line.html").read_text("utf-8")


def test_a_page_loads_nothing_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text("utf-8")
        loaded = re.findall(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"?([^\"\s>]+)", text)
        loaded += re.findall(r"<link\b[^>]*\bhref=\"?([^\"\s>]+)", text)
        assert loaded, page
        assert [address for address in loaded if re.match(r"(https?:)?//", address)] == [], page


@pytest.mark.parametrize("name", [name for name in sim.__all__ if name != "__version__"])
def test_a_public_name_is_on_the_python_page_with_its_methods(python_page: set[str], name: str) -> None:
    assert f"similarity.{name}" in python_page
    value = getattr(sim, name)
    if inspect.isclass(value):
        documented = inspect.isfunction, inspect.ismethod, lambda member: isinstance(member, property)
        methods = {
            member for member, what in inspect.getmembers(value)
            if not member.startswith("_") and any(kind(what) for kind in documented)
        }  # fmt: skip
        own = {member for member in methods if any(member in vars(base) for base in _ours(value))}
        assert {f"similarity.{name}.{member}" for member in own} <= python_page


@pytest.mark.parametrize("name", [name for name in sim.__all__ if name != "__version__"])
def test_a_public_name_has_a_docstring(name: str) -> None:
    value = getattr(sim, name)
    assert inspect.getdoc(value)
    if inspect.isclass(value):
        for member, what in vars(value).items():
            if not member.startswith("_") and (callable(what) or isinstance(what, property | classmethod)):
                assert inspect.getdoc(getattr(value, member)), f"{name}.{member}"


def test_every_command_and_option_is_on_the_command_page(command_page: str) -> None:
    for path, command in _commands(cli, "similarity"):
        heading = path.replace(" ", "-")
        assert f'id="{heading}"' in command_page, path
        section = command_page.partition(f'id="{heading}"')[2].partition("<h2")[0]
        for option in (option for parameter in command.params for option in parameter.opts):
            if option.startswith("-"):
                assert option in section, f"{path} {option}"
    assert "Sentinel" not in command_page


def test_every_setting_is_on_the_settings_page(site: Path) -> None:
    page = (site / "reference" / "settings.html").read_text("utf-8")
    for name, field in Settings.model_fields.items():
        assert f"SIMILARITY_{name.upper()}" in page
        assert field.description


def test_every_route_and_body_is_on_the_http_page(site: Path) -> None:
    page = (site / "reference" / "http.html").read_text("utf-8")
    document = json.loads((CONTRACTS / "openapi.json").read_text("utf-8"))
    for path, methods in document["paths"].items():
        for method in methods:
            assert f"{method.upper()} {path}" in page
    for name in document["components"]["schemas"]:
        assert f'id="{name.lower()}"' in page


def test_every_json_answer_is_on_the_json_page(site: Path) -> None:
    page = (site / "reference" / "json.html").read_text("utf-8")
    for file in CONTRACTS.glob("*.schema.json"):
        assert f'id="{file.name.removesuffix(".schema.json")}"' in page
        for key in json.loads(file.read_text("utf-8")).get("properties", ()):
            assert f"<code>{key}</code>" in page


def _ours(value: type) -> list[type]:
    return [base for base in value.__mro__ if base.__module__.partition(".")[0] in _LAYERS]


_LAYERS = ("similarity", "retrieval", "indexer", "trainer", "corpus")


def _commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from _commands(below, f"{path} {name}")
