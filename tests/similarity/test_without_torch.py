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


@pytest.fixture(scope="module")
def environment(blocked: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables of a process that cannot import torch, with a home of their own."""
    home = tmp_path_factory.mktemp("lean") / "home"
    own = {"PYTHONPATH": str(blocked), "SIMILARITY_HOME": str(home), "SIMILARITY_REFINE": "sam"}
    return {**os.environ, **own}


Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def run(environment: dict[str, str]) -> Run:
    """Runs a command where torch cannot be imported."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [SIMILARITY, *words], env=environment, capture_output=True, text=True,
            timeout=DEADLINE_SECONDS, check=False,
        )  # fmt: skip

    return run


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
def indexed(run: Run, environment: dict[str, str], folder: Path) -> Path:
    """A home indexed without torch, and a radiograph beside it."""
    from PIL import Image

    home = Path(environment["SIMILARITY_HOME"])
    Image.fromarray((render(scene(3, 1), 96) * 255).astype("uint8")).save(home.parent / "image.png")
    added = run("index", "add", "phantom:6@3", "--patches", "--encoder", str(folder), "--workers", "1")
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
    words: tuple[str, ...], run: Run, indexed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(indexed.parent)
    ran = run(*words)
    assert ran.returncode == 0, ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_finding_is_localized_by_patches_without_torch(
    run: Run, indexed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(indexed.parent)
    ran = run(
        "localize", "--image", "image.png", "--finding", "nodule", "--method", "patches",
        "--out", "found", "--json",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    [answer] = json.loads(ran.stdout)["answers"]
    assert answer["method"] == "patches"
    assert answer["refined_by"] in (None, "random-walker")  # the default where torch is missing


def test_the_service_searches_localizes_and_drafts_without_torch(
    run: Run, environment: dict[str, str], indexed: Path
) -> None:
    token = run("token", "create", "--role", "reader", "--name", "lean").stdout.strip()
    with subprocess.Popen(
        [SIMILARITY, "serve", "--port", "0"], env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
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


@pytest.mark.parametrize(
    ("option", "named"), [(("--method", "gradcam"), "gradcam"), (("--refine", "sam:lite-medsam"), "SAM")]
)
def test_what_needs_torch_says_what_to_install(
    option: tuple[str, str], named: str, run: Run, indexed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(indexed.parent)
    ran = run("localize", "--image", "image.png", "--finding", "nodule", *option, "--out", "found")
    assert ran.returncode == 1
    [line] = ran.stderr.strip().splitlines()
    assert named in line
    assert line.endswith("pip install 'similarity-engine[localize]'")
