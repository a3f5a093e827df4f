"""The notebooks of `examples/` run from their first cell to their last, one of them as a notebook."""

import runpy
from collections.abc import Iterator
from pathlib import Path

import jupytext
import pytest
from nbclient import NotebookClient

from corpus.settings import settings
from tests.waiting import DEADLINE_SECONDS

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory and a home, shared: the first notebook trains the encoder that the others load."""
    folder = tmp_path_factory.mktemp("examples")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIMILARITY_HOME", str(folder / "similarity-home"))
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("MPLBACKEND", "agg")
        patch.chdir(folder)
        settings.cache_clear()
        yield folder
    settings.cache_clear()


@pytest.mark.parametrize("name", ["train_and_evaluate", "localize_and_draft"])
def test_a_notebook_runs_as_a_script(folder: Path, name: str) -> None:
    assert runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")


def test_a_notebook_runs_as_a_notebook_and_shows_images(folder: Path) -> None:
    notebook = jupytext.read(EXAMPLES / "search.py")
    client = NotebookClient(
        notebook, timeout=int(DEADLINE_SECONDS), resources={"metadata": {"path": str(folder)}}
    )
    client.execute()
    shown = [
        output["data"].get("text/html", "")
        for cell in notebook.cells if cell.cell_type == "code"
        for output in cell.outputs if "data" in output
    ]  # fmt: skip
    assert any("<img" in html for html in shown)
    assert not any("<script" in html for html in shown)


def test_every_notebook_is_run_here() -> None:
    assert {file.stem for file in EXAMPLES.glob("*.py")} == {
        "search",
        "train_and_evaluate",
        "localize_and_draft",
    }


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.py")), ids=lambda file: file.stem)
def test_a_notebook_begins_with_what_it_shows_and_holds_no_output(file: Path) -> None:
    notebook = jupytext.read(file)
    assert notebook.cells[0].cell_type == "markdown"
    assert notebook.cells[0].source.startswith("# ")
    assert any(cell.cell_type == "code" for cell in notebook.cells)
