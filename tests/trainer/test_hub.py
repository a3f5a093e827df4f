"""A hub's model comes by its name. The hub is a folder on 127.0.0.1, laid out as huggingface.co answers."""

import hashlib
import json
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from corpus.errors import EncoderError
from corpus.settings import settings
from similarity.cli.encoders import encoders
from trainer.models import download
from trainer.models.hub import local_name, look_up
from trainer.models.resolve import open_encoder, resolve_encoder
from trainer.runtime.encoder import Encoder

COMMIT = "0123abcd" * 5


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder and says nothing."""

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def publish(hub: Path, repository: str, files: dict[str, bytes], revision: str = "") -> None:
    """Put files on the hub: where they are fetched from, and what the hub tells of them."""
    result = []
    for name, content in files.items():
        position = hub / repository / "resolve" / COMMIT / name
        position.parent.mkdir(parents=True, exist_ok=True)
        position.write_bytes(content)
        entry: dict[str, Any] = {"rfilename": name, "size": len(content)}
        if name.endswith((".bin", ".safetensors")):
            entry["lfs"] = {"sha256": hashlib.sha256(content).hexdigest()}
        result.append(entry)
    listing = hub / "api" / "models" / repository / (f"revision/{revision}" if revision else "")
    listing.parent.mkdir(parents=True, exist_ok=True)
    listing.write_text(json.dumps({"sha": COMMIT, "siblings": result, "cardData": {"license": "mit"}}))


@pytest.fixture
def hub(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The hub's folder; its address is the setting's."""
    folder = tmp_path / "hub"
    folder.mkdir()
    monkeypatch.setattr(download, "WAIT_SECONDS", 0.0)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as http:
        threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        monkeypatch.setenv("SIMILARITY_HUB", f"http://127.0.0.1:{http.server_port}")
        settings.cache_clear()
        yield folder
        http.shutdown()


@pytest.fixture
def published(hub: Path, encoder_folder: Path) -> dict[str, bytes]:
    """some/clip with the text tower of some/bert; returns the files of some/clip."""
    config = json.loads((encoder_folder / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"] |= {"hf_model_name": "some/bert", "hf_tokenizer_name": "some/bert"}
    names = ("open_clip_model.safetensors", "tokenizer.json", "tokenizer_config.json")
    files = {name: (encoder_folder / name).read_bytes() for name in names}
    files |= {"open_clip_config.json": json.dumps(config).encode(), "README.md": b"a clip"}
    publish(hub, "some/clip", files)
    publish(hub, "some/bert", {"config.json": (encoder_folder / "config.json").read_bytes()})
    return files


def test_a_model_of_the_hub_encodes_by_its_name_alone_and_is_fetched_once(
    published: dict[str, bytes], hub: Path, encoder_folder: Path, home: Path
) -> None:
    ours, theirs = open_encoder("hf-hub:some/clip"), Encoder.load(encoder_folder)
    np.testing.assert_allclose(
        ours.encode_texts(["small effusion"]), theirs.encode_texts(["small effusion"]), atol=1e-6
    )
    shutil.rmtree(hub / "api")
    assert resolve_encoder("hf-hub:some/clip") == home / "encoders" / "some--clip"
    listed = json.loads(CliRunner().invoke(encoders, ["list", "--json"]).stdout)
    assert [encoder["name"] for encoder in listed["encoders"]] == ["some--clip"]


def test_what_the_hub_tells_of_a_model_is_known_of_it(published: dict[str, bytes]) -> None:
    known = look_up("hf-hub:some/clip")
    weights = published["open_clip_model.safetensors"]
    assert known.weights.sha256 == hashlib.sha256(weights).hexdigest()
    assert (known.weights.size, known.licence) == (len(weights), "mit")
    assert all(f"/resolve/{COMMIT}/" in file.url for file in known.files), "of one commit"
    assert {file.name for file in known.files} == {*published, "config.json"} - {"README.md"}


def test_other_weights_than_the_hub_tells_of_are_refused(published: dict[str, bytes], hub: Path) -> None:
    weights = hub / "some/clip/resolve" / COMMIT / "open_clip_model.safetensors"
    weights.write_bytes(bytes(len(weights.read_bytes())))
    with pytest.raises(EncoderError, match="is not the published file: its SHA-256"):
        resolve_encoder("hf-hub:some/clip")


def test_a_revision_is_another_encoder_than_the_newest(published: dict[str, bytes], hub: Path) -> None:
    publish(hub, "some/old", published, revision="v1")
    assert resolve_encoder("hf-hub:some/old@v1").name == "some--old@v1"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"pytorch_model.bin": b"x"}, "is no open_clip model"),
        ({"open_clip_config.json": b"{}"}, "has no weights that open_clip reads"),
        ({"open_clip_config.json": b"[1]", "open_clip_model.safetensors": b"x"}, "gives no JSON object"),
    ],
)
def test_what_is_no_open_clip_model_is_one_clear_line(
    hub: Path, files: dict[str, bytes], message: str
) -> None:
    publish(hub, "some/other", files)
    with pytest.raises(EncoderError, match=message):
        resolve_encoder("hf-hub:some/other")


@pytest.mark.parametrize("name", ["", "clip", "a/b/c", "../../etc/passwd", "a/b@"])
def test_a_name_that_is_none_says_how_one_is_written(hub: Path, name: str) -> None:
    with pytest.raises(EncoderError, match="write hf-hub:OWNER/REPOSITORY"):
        resolve_encoder(f"hf-hub:{name}")


def test_a_models_name_here_is_one_folder() -> None:
    assert local_name("hf-hub:a/b@refs/pr/1") == "a--b@refs--pr--1"


@pytest.mark.parametrize("offline", [True, False])
def test_without_the_hub_it_says_what_to_put_where_and_what_to_run(hub: Path, offline: bool) -> None:
    done = CliRunner().invoke(encoders, ["pull", "hf-hub:some/gone", *(["--offline"] if offline else [])])
    assert isinstance(done.exception, EncoderError)
    result = str(done.exception)
    assert "open_clip_config.json" in result
    assert result.endswith("similarity encoders import FOLDER --as some--gone")
