"""The product as a library: a script without a `__main__` guard indexes all that a command would."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.indexer.cases import case, write_manifest

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
import json, os, sys
open({trace!r}, "a").write("ran\\n")
print("top level")
from pathlib import Path
from corpus.sources import open_source
from indexer.index import Index
from indexer.ingest.pipeline import add_source
from trainer.runtime.encoder import Encoder
encoder = Encoder.load({encoder!r}, "cpu")
index = Index.open(Path({home!r}), read_only=False)
added = add_source(index, open_source({source!r}), encoder, origin="x", folder={encoder!r}, workers={workers})
index.close()
print(json.dumps(added.as_json()))
"""

WAYS = {
    "a file": lambda file, text: ([str(file)], ""),
    "standard input": lambda file, text: (["-"], text),
    "-c": lambda file, text: (["-c", text], ""),
    "a console": lambda file, text: (["-i", "-q"], text),
    "a main module without a file": lambda file, text: (
        ["-c", f"import sys\nsys.modules['__main__'].__dict__.pop('__spec__')\nexec({text!r})"],
        "",
    ),
    "a main module without its file": lambda file, text: (
        ["-c", f"import sys\nsys.modules['__main__'].__file__ = '/gone/away.py'\nexec({text!r})"],
        "",
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_script_without_a_guard_indexes_every_image_and_runs_once(
    tmp_path: Path, encoder_folder: Path, way: str
) -> None:
    assert _run(tmp_path, encoder_folder, way, workers=2) == (4, 4, ["ran"])


def test_without_decode_processes_images_are_decoded_in_the_callers_own(
    tmp_path: Path, encoder_folder: Path
) -> None:
    assert _run(tmp_path, encoder_folder, "a file", workers=0) == (4, 4, ["ran"])


def _run(folder: Path, encoder: Path, way: str, workers: int) -> tuple[int, int, list[str]]:
    """Index four studies by a script; how many images and reports went in, and what its top level traced."""
    source = write_manifest(folder, [case(number, folder) for number in range(4)])
    trace, elsewhere = folder / "trace", folder / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "json.py").write_text("raise SystemExit('a file of the working directory was imported')\n")
    text = SCRIPT.format(
        trace=str(trace), encoder=str(encoder), home=str(folder / "home"), source=source, workers=workers
    )
    scripts = folder / "scripts"
    scripts.mkdir()
    file = scripts / "script.py"
    file.write_text(text)
    arguments, stdin = WAYS[way](file, text)
    # Where the working directory is on the path of the caller itself, it must be a harmless one.
    cwd = elsewhere if way == "a file" else scripts
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        input=stdin,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    added = json.loads(done.stdout.strip().splitlines()[-1])
    assert added["problems"]["failed"] == 0, done.stderr
    return added["embedded"]["image"], added["embedded"]["report"], trace.read_text().split()
