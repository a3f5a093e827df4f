"""What commands print as JSON: a document that any standard output and any file name leaves valid."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from similarity.cli.console import print_json

ROOT = Path(__file__).resolve().parents[3]


def run_in_latin_1(*arguments: bytes | str) -> str:
    """Return what a command prints on a standard output that is not UTF-8."""
    done = subprocess.run(
        [sys.executable, "-c", "from similarity.cli.main import main; main()", *arguments],
        cwd=ROOT, capture_output=True, check=True, env={**os.environ, "PYTHONIOENCODING": "latin-1"},
    )  # fmt: skip
    return done.stdout.decode("latin-1")


def test_json_is_valid_on_a_latin_1_terminal_and_with_undecodable_file_names(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/\xff"
    Path(os.fsdecode(folder)).mkdir()
    table = folder + b"/m.csv"
    Path(os.fsdecode(table)).write_text("study_id,image,report\nS\u4e01,gone.png,Pleural effusion.\n")
    counted = json.loads(run_in_latin_1("corpus", "inspect", b"manifest:" + table, "--json"))
    assert counted["problems"]["missing"]["reasons"][0]["examples"] == ["manifest:S\u4e01#gone"]
    label = json.loads(run_in_latin_1("corpus", "label", b"manifest:" + table))
    assert label["study_id"] == "manifest:S\u4e01"


@pytest.mark.parametrize("text", ["\udcff.png", "\u4e01", "café"])
def test_json_keeps_every_character_in_ascii(text: str, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    print_json({"path": text})
    printed = capsysbinary.readouterr().out
    assert printed.isascii()
    assert json.loads(printed) == {"path": text}


def test_only_a_document_that_must_be_finite_refuses_nan() -> None:
    print_json(float("nan"))
    with pytest.raises(ValueError, match="not JSON compliant"):
        print_json(float("nan"), allow_nan=False)
