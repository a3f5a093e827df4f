"""What answers questions runs where torch and its companions cannot be imported."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from corpus.extras import EXTRAS
from corpus.phantom import render, scene
from tests.encoders import build_tiny_encoder

_BLOCKED = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[1].split(","):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refuse())
from similarity.cli.main import main
main(sys.argv[2:])
"""


def _run(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SIMILARITY_HOME": str(home), "SIMILARITY_REFINE": "sam"}
    return subprocess.run(
        [sys.executable, "-c", _BLOCKED, ",".join(EXTRAS), *words],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_encoder(tmp_path_factory.mktemp("encoder") / "tiny")


@pytest.fixture(scope="module")
def indexed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home indexed without torch, and a radiograph in it."""
    from PIL import Image

    home = tmp_path_factory.mktemp("lean") / "home"
    Image.fromarray((render(scene(3, 1), 96) * 255).astype("uint8")).save(home.parent / "image.png")
    added = _run(home, "index", "add", "phantom:6@3", "--encoder", str(folder), "--workers", "1")
    assert added.returncode == 0, added.stderr
    return home


@pytest.mark.parametrize(
    "words",
    [
        ("search", "--text", "pleural effusion", "--json"),
        ("search", "--image", "image.png", "--json"),
        ("draft", "--image", "image.png", "--json"),
        ("index", "verify"),
        ("index", "status"),
        ("doctor",),
        ("backup", "saved.tar.gz"),
    ],
    ids=" ".join,
)
def test_the_command_needs_no_torch(
    words: tuple[str, ...], indexed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(indexed.parent)
    ran = _run(indexed, *words)
    assert ran.returncode == 0, ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_finding_is_localized_by_patches_without_torch(
    indexed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(indexed.parent)
    ran = _run(
        indexed, "localize", "--image", "image.png", "--finding", "nodule", "--method", "patches",
        "--out", "found", "--json",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    [answer] = json.loads(ran.stdout)["answers"]
    assert answer["method"] == "patches"
    assert answer["refined_by"] in (None, "random-walker")  # the default where torch is missing


@pytest.mark.parametrize(
    ("option", "named"), [(("--method", "gradcam"), "gradcam"), (("--refine", "sam:lite-medsam"), "SAM")]
)
def test_what_needs_torch_says_what_to_install(
    option: tuple[str, str], named: str, indexed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(indexed.parent)
    ran = _run(indexed, "localize", "--image", "image.png", "--finding", "nodule", *option, "--out", "found")
    assert ran.returncode == 1
    [line] = ran.stderr.strip().splitlines()
    assert named in line
    assert line.endswith("pip install 'similarity-engine[localize]'")
