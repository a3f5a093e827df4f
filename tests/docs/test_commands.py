"""The commands of the documentation: `console` blocks run, `bash` blocks name what exists."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from corpus.settings import Settings, settings
from similarity.cli.main import cli
from tests.docs.dicom_export import write_export
from tests.docs.pages import DOCS, GUIDES, ROOT, blocks, lines, pages, unknown_parts
from tests.indexer.qdrant import API_KEY_VARIABLE

MAY_PRINT_NOTHING = {"similarity index status --failed", "similarity audit -n 20"}
"""Lists that are empty here: nothing failed, and no service ran."""
SERVERS = lines(DOCS / "how-to" / "servers.md", "bash")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory with a DICOM export, and a home of its own, shared by all pages."""
    folder = tmp_path_factory.mktemp("reader")
    write_export(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIMILARITY_HOME", str(folder / "similarity-home"))
        patch.chdir(folder)
        settings.cache_clear()
        yield folder
    settings.cache_clear()


@pytest.mark.parametrize("page", GUIDES)
def test_the_commands_of_a_page_run_in_their_order(folder: Path, page: str) -> None:
    """In one process: each would spend seconds on importing torch."""
    for line in lines(DOCS / f"{page}.md", "console"):
        program, *words = shlex.split(line)
        assert program == "similarity"
        result = CliRunner().invoke(cli, words)
        assert result.exit_code == 0, f"{line}\n{result.output}\n{result.exception!r}"
        assert result.output.strip() or line in MAY_PRINT_NOTHING, line


@pytest.mark.parametrize("page", ["tutorial", "how-to/search"])
def test_the_python_of_a_page_runs(folder: Path, page: str) -> None:
    (script,) = blocks(DOCS / f"{page}.md", "python")
    exec(compile(script, page, "exec"), {})


def test_every_page_with_commands_that_run_is_run_here() -> None:
    with_commands = {
        str(page.relative_to(DOCS).with_suffix("")) for page in DOCS.rglob("*.md") if blocks(page, "console")
    }
    assert with_commands == set(GUIDES)


@pytest.mark.parametrize(
    "page", [page for page in pages() if blocks(page, "bash")], ids=lambda page: page.stem
)
def test_commands_that_do_not_run_here_name_commands_options_and_recipes_that_exist(page: Path) -> None:
    for line in lines(page, "bash"):
        if re.search(r"(^|\s)similarity\s", line):
            assert unknown_parts(line) == [], line
        for recipe in re.findall(r"trainer/recipes/[\w-]+\.toml", line):
            assert (ROOT / recipe).is_file()
        if line.startswith("make "):
            assert re.search(rf"^{line.split()[1]}: ", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_a_command_within_the_text_is_one_that_exists(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    for code in re.findall(r"`(similarity(?: [a-z][a-z-]*)+)", " ".join(text.split())):
        assert unknown_parts(code) == [], code


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_a_setting_that_is_named_exists(page: Path) -> None:
    known = {f"SIMILARITY_{name.upper()}" for name in Settings.model_fields} | {API_KEY_VARIABLE}
    assert set(re.findall(r"SIMILARITY_[A-Z_]*[A-Z]", page.read_text("utf-8"))) <= known


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_a_benchmark_or_recipe_that_is_named_exists(page: Path) -> None:
    assert missing_files(page.read_text("utf-8")) == []


@pytest.mark.parametrize("benchmark", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda file: file.stem)
def test_a_file_that_a_benchmark_names_exists(benchmark: Path) -> None:
    text = benchmark.read_text("utf-8")
    recipes = {file.name for file in (ROOT / "trainer" / "recipes").glob("*.toml")}
    assert missing_files(text) == []
    assert set(re.findall(r"[\w-]+\.toml", text)) <= recipes


def missing_files(text: str) -> list[str]:
    """Return the benchmarks and recipes that a text names and that do not exist."""
    named = [f"benchmarks/{module}.py" for module in re.findall(r"\bbenchmarks\.(\w+)", text)]
    named += re.findall(r"trainer/recipes/[\w-]+\.toml", text)
    return [name for name in named if not (ROOT / name).is_file()]


def test_the_lines_for_servers_name_services_and_ports_of_the_compose_file() -> None:
    compose = (ROOT / "docker-compose.yml").read_text("utf-8")
    exported = set(re.findall(r"(\w+)=", " ".join(line for line in SERVERS if line.startswith("export"))))
    assert {"POSTGRES_PASSWORD", "QDRANT_API_KEY"} <= exported
    for name in (name for name in exported if not name.startswith("SIMILARITY_")):
        assert f"${{{name}:?" in compose
    ports = {
        str(port).split(":")[1]
        for service in yaml.safe_load(compose)["services"].values()
        for port in service.get("ports", ())
    }
    assert set(re.findall(r"127\.0\.0\.1:(\d+)", "\n".join(SERVERS))) <= ports
