"""What answers questions runs where torch and its companions cannot be imported."""

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from corpus.extras import EXTRAS
from corpus.phantom import render, scene
from tests.encoders import build_tiny_encoder
from tests.waiting import DEADLINE_SECONDS

SIMILARITY = Path(sys.executable).parent / "similarity"

_REFUSE = f"""
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {set(EXTRAS)!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Refuse())
"""


@pytest.fixture(scope="module")
def blocked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder on the path of every process, workers too, by which they cannot import torch."""
    path = tmp_path_factory.mktemp("path")
    (path / "sitecustomize.py").write_text(_REFUSE)
    return path


Lean = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def lean(blocked: Path) -> Lean:
    """Starts a command on a home where torch cannot be imported."""

    def start(home: Path, *words: str) -> "subprocess.Popen[str]":
        environment = {
            **os.environ,
            "PYTHONPATH": str(blocked),
            "SIMILARITY_HOME": str(home),
            "SIMILARITY_REFINE": "sam",
        }
        return subprocess.Popen(
            [SIMILARITY, *words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    return start


def _run(lean: Lean, home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    with lean(home, *words) as process:
        out, err = process.communicate(timeout=DEADLINE_SECONDS)
    return subprocess.CompletedProcess(words, process.returncode, out, err)


def test_torch_cannot_be_imported_here(blocked: Path) -> None:
    tried = subprocess.run(
        [sys.executable, "-P", "-c", "import torch"], env={**os.environ, "PYTHONPATH": str(blocked)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "No module named 'torch'" in tried.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_encoder(tmp_path_factory.mktemp("encoder") / "tiny")


@pytest.fixture(scope="module")
def indexed(lean: Lean, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home indexed without torch, and a radiograph in it."""
    from PIL import Image

    home = tmp_path_factory.mktemp("lean") / "home"
    Image.fromarray((render(scene(3, 1), 96) * 255).astype("uint8")).save(home.parent / "image.png")
    added = _run(
        lean, home, "index", "add", "phantom:6@3", "--patches", "--encoder", str(folder), "--workers", "1"
    )
    assert added.returncode == 0, added.stderr
    return home


@pytest.mark.parametrize(
    "words",
    [
        ("search", "--text", "pleural effusion", "--json"),
        ("search", "--image", "image.png", "--json"),
        ("draft", "--image", "image.png", "--json"),
        ("index", "calibrate"),
        ("index", "verify"),
        ("index", "status"),
        ("doctor",),
        ("backup", "saved.tar.gz"),
    ],
    ids=" ".join,
)
def test_the_command_needs_no_torch(
    words: tuple[str, ...], lean: Lean, indexed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(indexed.parent)
    ran = _run(lean, indexed, *words)
    assert ran.returncode == 0, ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_finding_is_localized_by_patches_without_torch(
    lean: Lean, indexed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(indexed.parent)
    ran = _run(
        lean, indexed, "localize", "--image", "image.png", "--finding", "nodule", "--method", "patches",
        "--out", "found", "--json",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    [answer] = json.loads(ran.stdout)["answers"]
    assert answer["method"] == "patches"
    assert answer["refined_by"] in (None, "random-walker")  # the default where torch is missing


def test_the_service_searches_localizes_and_drafts_without_torch(lean: Lean, indexed: Path) -> None:
    token = _run(lean, indexed, "token", "create", "--role", "reader", "--name", "lean").stdout.strip()
    with lean(indexed, "serve", "--port", "0") as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip().rstrip("/")

            def ask(path: str, **body: object) -> Any:
                sent = urllib.request.Request(
                    address + path,
                    json.dumps(body).encode(),
                    {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
                )
                with urllib.request.urlopen(sent, timeout=DEADLINE_SECONDS) as answer:
                    return json.load(answer)

            hit = ask("/v1/search", text="pleural effusion", **{"for": "images"}, k=2)["hits"][0]
            assert ask("/v1/draft", image=hit["image"])["text"]
            answer = ask("/v1/localize", image=hit["image"], phrases=["nodule"], method="patches")
            assert answer["localizations"][0]["method"] == "patches"
        finally:
            process.terminate()
            assert process.wait(DEADLINE_SECONDS) == 0
            process.stderr.close()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("option", "named"), [(("--method", "gradcam"), "gradcam"), (("--refine", "sam:lite-medsam"), "SAM")]
)
def test_what_needs_torch_says_what_to_install(
    option: tuple[str, str], named: str, lean: Lean, indexed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(indexed.parent)
    ran = _run(
        lean, indexed, "localize", "--image", "image.png", "--finding", "nodule", *option, "--out", "found"
    )
    assert ran.returncode == 1
    [line] = ran.stderr.strip().splitlines()
    assert named in line
    assert line.endswith("pip install 'similarity-engine[localize]'")
