"""`index remove` shows what it is about to erase and erases nothing that nobody agreed to."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner, Result

from corpus.sources import open_source
from indexer.index import Index
from indexer.pipeline import add_source
from retrieval.cli import cli, main
from tests.indexer.cases import cohort
from trainer.encoder import Encoder

SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "contracts" / "index-remove.schema.json"
REMOVE = ("index", "remove", "--subject", "manifest:p1")


@pytest.fixture
def filled(home: Path, tmp_path: Path, encoder: Encoder) -> Path:
    source = open_source(cohort(tmp_path / "cases", 6))
    with Index.open(read_only=False) as index:
        add_source(index, source, encoder, origin="x", folder="anywhere", workers=1)
    return home


def study_ids() -> list[str]:
    with Index.open() as index:
        return list(index.catalog.study_ids())


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, words)


def answer(text: str) -> tuple[int, str, str]:
    """Run the command where somebody types; its exit code, stdout and stderr."""
    ours, theirs = pty.openpty()
    program = f"from retrieval.cli import main; main({list(REMOVE)!r})"
    try:
        os.write(ours, text.encode())
        done = subprocess.run(
            [sys.executable, "-c", program], stdin=theirs, capture_output=True, text=True, check=False
        )
    finally:
        os.close(ours)
        os.close(theirs)
    return done.returncode, done.stdout, done.stderr


def test_where_nobody_can_be_asked_nothing_is_erased(
    filled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = study_ids()
    with pytest.raises(SystemExit) as left:
        main(list(REMOVE))
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert "2 studies, 2 images, 2 reports" in said
    assert "--yes" in said
    assert "manifest:p1" not in said
    assert study_ids() == before


def test_what_is_listed_is_erased_when_somebody_agrees(filled: Path) -> None:
    code, _, shown = answer("n\n")
    assert code == 1
    assert "nothing was erased" in shown
    assert len(study_ids()) == 6
    code, out, shown = answer("y\n")
    assert code == 0, shown
    listed = [line.split("  ") for line in shown.splitlines() if line.startswith("manifest:")]
    assert listed == [
        ["manifest:s3", "2020-04-03", "1 image, 1 report"],
        ["manifest:s2", "2020-03-03", "1 image, 1 report"],
    ]
    assert "Erase 2 studies, 2 images, 2 reports for good?" in shown
    assert "manifest:s2; manifest:s3" in out
    assert not {"manifest:s2", "manifest:s3"} & set(study_ids())


def test_a_script_says_yes(filled: Path) -> None:
    refused = run(*REMOVE, "--json")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "--yes" in refused.stderr
    removed = json.loads(run(*REMOVE, "--json", "--yes").stdout)
    jsonschema.validate(removed, json.loads(SCHEMA.read_text()))
    assert removed["studies"] == ["manifest:s2", "manifest:s3"]


def test_there_is_nothing_to_ask_where_nothing_is_found(filled: Path) -> None:
    done = run("index", "remove", "--study", "manifest:none")
    assert done.exit_code == 0
    assert "vectors: 0" in done.stdout
