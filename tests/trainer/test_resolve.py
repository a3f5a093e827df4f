"""Resolving a name: published models are downloaded or put there by hand, verified, imported, found.

The server is on 127.0.0.1, and what is "published" here are files of a few bytes.
"""

import hashlib
import json
import logging
import shutil
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from corpus.errors import EncoderError, HomeError
from corpus.settings import settings
from similarity.cli.encoders import encoders, published_rows
from tests.waiting import DEADLINE_SECONDS, linger
from trainer.models import catalog as known
from trainer.models import download
from trainer.models import resolve as pulling
from trainer.models.catalog import PublishedFile, PublishedModel
from trainer.models.resolve import open_encoder, pull, resolve_encoder
from trainer.runtime.encoder import Encoder

WEIGHTS = b"\x80weights of some network\x00"


@pytest.fixture
def requested() -> list[str]:
    """The paths that the server was asked for."""
    return []


@pytest.fixture
def published(
    home: Path, tmp_path: Path, requested: list[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[PublishedModel, PublishedModel]]:
    """An encoder of two files and a SAM file, published on this machine; nothing else is known."""
    files = tmp_path / "hub"
    files.mkdir()
    for name in ("weights.bin", "config.json", "sam_tiny.pth"):
        (files / name).write_bytes(WEIGHTS + name.encode())

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(files))

        def do_GET(self) -> None:
            requested.append(self.path)
            super().do_GET()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        hub = f"http://127.0.0.1:{http.server_port}"
        digest = hashlib.sha256((files / "weights.bin").read_bytes()).hexdigest()
        weights = PublishedFile(f"{hub}/weights.bin", sha256=digest)
        encoder = PublishedModel(
            "hubclip",
            "encoder",
            "a clip",
            hub,
            (weights, PublishedFile(f"{hub}/config.json")),
            "MIT",
            "grey",
            "openclip",
        )
        sam = PublishedModel(
            "sam-tiny", "sam", "a sam", hub, (PublishedFile(f"{hub}/sam_tiny.pth"),), "Apache-2.0", "RGB"
        )
        both = (encoder, sam)
        monkeypatch.setattr(known, "PUBLISHED_MODELS", both)
        monkeypatch.setattr(download, "WAIT_SECONDS", 0.0)
        yield both
        http.shutdown()


@pytest.fixture
def imported(encoder_folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, str]]:
    """What the importer was called with; it makes an encoder folder of that name."""
    calls: list[tuple[Path, str]] = []

    def import_folder(source: Path, name: str) -> Path:
        calls.append((source, name))
        linger()  # so that the others meet this one at it
        return Path(shutil.copytree(encoder_folder, home / "encoders" / name))

    module = ModuleType("trainer.models.importers.openclip")
    module.import_folder = import_folder  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return calls


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """The log, also after a test with a tool that disables all existing loggers."""
    monkeypatch.setattr(pulling.logger, "disabled", False)
    caplog.set_level(logging.DEBUG)
    return caplog


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(download.urllib.request, "urlopen", refuse)


@pytest.fixture
def offline(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMILARITY_OFFLINE", "1")
    settings.cache_clear()


def test_a_published_encoder_is_found_by_its_name_and_pulled_once(
    published: Any, imported: list[Any], requested: list[str], home: Path, log: pytest.LogCaptureFixture
) -> None:
    folder = resolve_encoder("hubclip")
    assert folder == home / "encoders" / "hubclip"
    assert (folder / "similarity.json").is_file()
    assert imported == [(home / "downloads" / "hubclip", "hubclip")]
    assert "downloading weights.bin of hubclip from http://127.0.0.1" in log.text
    assert resolve_encoder("hubclip") == folder
    assert len(imported) == 1
    assert sorted(requested) == ["/config.json", "/weights.bin"]


def test_offline_is_named_as_the_reason_where_it_was_set(
    published: Any, imported: list[Any], requested: list[str], offline: None
) -> None:
    for allowed in (False, True):
        with pytest.raises(EncoderError, match="nothing is downloaded offline"):
            resolve_encoder("hubclip", download=allowed)


def test_an_encoder_that_is_not_here_is_not_opened_without_a_download(
    published: Any, imported: list[Any], requested: list[str], home: Path
) -> None:
    with pytest.raises(EncoderError, match="not here yet: run `similarity encoders pull hubclip`"):
        open_encoder("hubclip", download=False)
    assert (requested, imported) == ([], [])
    pull("hubclip")
    assert open_encoder("hubclip", device="cpu", download=False).folder == home / "encoders" / "hubclip"


def test_an_open_clip_folder_published_elsewhere_encodes_by_its_name_alone(
    published: tuple[PublishedModel, PublishedModel],
    encoder_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The importer of this program, not a stand-in: the vectors are those of the one who published it."""
    hub = tmp_path / "hub"
    torch.save(load_file(encoder_folder / "open_clip_model.safetensors"), hub / "open_clip_pytorch_model.bin")
    config = json.loads((encoder_folder / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"] |= {"hf_model_name": "some/bert", "hf_tokenizer_name": "some/bert"}
    (hub / "open_clip_config.json").write_text(json.dumps(config))
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(encoder_folder / name, hub / name)
    names = ("open_clip_pytorch_model.bin", "open_clip_config.json", "config.json", "tokenizer.json")
    files = tuple(
        PublishedFile(f"{published[0].source}/{name}") for name in (*names, "tokenizer_config.json")
    )
    monkeypatch.setattr(known, "PUBLISHED_MODELS", (replace(published[0], files=files),))
    theirs, ours = Encoder.load(encoder_folder), open_encoder("hubclip")
    texts = ["small pleural effusion", "no pneumothorax"]
    np.testing.assert_allclose(ours.encode_texts(texts), theirs.encode_texts(texts), atol=1e-5)
    images = [np.random.default_rng(0).random((70, 60), np.float32)]
    np.testing.assert_allclose(ours.encode_images(images), theirs.encode_images(images), atol=1e-5)


def test_the_home_of_a_first_download_is_closed_to_others(published: Any, imported: Any, home: Path) -> None:
    resolve_encoder("hubclip")
    assert home.stat().st_mode & 0o077 == 0


def test_two_that_ask_for_it_at_once_import_it_once(
    published: Any, imported: list[Any], requested: list[str], home: Path
) -> None:
    runs = [threading.Thread(target=resolve_encoder, args=("hubclip",)) for _ in range(3)]
    for run in runs:
        run.start()
    for run in runs:
        run.join(DEADLINE_SECONDS)
    assert (home / "encoders" / "hubclip" / "similarity.json").is_file()
    assert len(imported) == 1
    assert len(requested) == 2


def test_a_home_that_cannot_be_written_is_reported(published: Any, home: Path) -> None:
    home.write_text("a file")
    with pytest.raises(HomeError, match="cannot be"):
        resolve_encoder("hubclip")


def test_an_encoder_of_that_name_in_the_home_comes_before_the_published_one(
    published: Any, imported: list[Any], requested: list[str], encoder_folder: Path, home: Path
) -> None:
    own = Path(shutil.copytree(encoder_folder, home / "encoders" / "hubclip"))
    assert resolve_encoder("hubclip") == own
    assert (requested, imported) == ([], [])


def test_a_sam_file_is_pulled_by_its_own_name_and_by_its_file_name(
    published: Any, requested: list[str], home: Path
) -> None:
    path = pull("sam-tiny")
    assert path == home / "downloads" / "sam-tiny" / "sam_tiny.pth"
    assert path.read_bytes() == WEIGHTS + b"sam_tiny.pth"
    assert pull("sam_tiny.pth") == path
    assert len(requested) == 1
    with pytest.raises(EncoderError, match="did you mean 'sam-tiny'"):
        pull("sam-tinny")
    with pytest.raises(EncoderError, match="did you mean 'hubclip'"):
        resolve_encoder("hubklip")
    with pytest.raises(EncoderError, match="there is no encoder 'sam-tiny'"):
        resolve_encoder("sam-tiny")


def must_do(error: pytest.ExceptionInfo[EncoderError], files: list[PublishedFile], folder: Path) -> None:
    """The message names each file's address and place, and what to run then."""
    message = str(error.value)
    for file in files:
        assert file.url in message
        assert (file.sha256 or "no published hash") in message
        assert str(folder / file.name) in message
    assert message.endswith(f"similarity encoders pull {folder.name} --offline")


@pytest.mark.parametrize("how", ["argument", "setting", "network"])
def test_without_a_network_it_says_which_files_to_put_where_and_what_to_run(
    published: tuple[PublishedModel, PublishedModel],
    imported: list[Any],
    requested: list[str],
    home: Path,
    how: str,
    request: pytest.FixtureRequest,
) -> None:
    if how != "argument":
        request.getfixturevalue("offline" if how == "setting" else "no_network")
    for entry in published:
        with pytest.raises(EncoderError) as error:
            pull(entry.name, offline=how == "argument")
        must_do(error, list(entry.files), home / "downloads" / entry.name)
    assert (requested, imported) == ([], [])


def test_files_put_there_by_hand_are_used_offline_and_only_the_missing_ones_are_named(
    published: tuple[PublishedModel, PublishedModel], imported: list[Any], home: Path, tmp_path: Path
) -> None:
    folder = home / "downloads" / "hubclip"
    folder.mkdir(parents=True)
    shutil.copy(tmp_path / "hub" / "weights.bin", folder)
    with pytest.raises(EncoderError) as error:
        pull("hubclip", offline=True)
    must_do(error, [published[0].files[1]], folder)
    assert published[0].files[0].url not in str(error.value)
    shutil.copy(tmp_path / "hub" / "config.json", folder)
    assert pull("hubclip", offline=True) == home / "encoders" / "hubclip"
    assert len(imported) == 1


def test_a_wrong_file_put_there_by_hand_is_refused(published: Any, imported: list[Any], home: Path) -> None:
    folder = home / "downloads" / "hubclip"
    folder.mkdir(parents=True)
    (folder / "weights.bin").write_bytes(b"something else")
    (folder / "config.json").write_bytes(b"{}")
    with pytest.raises(EncoderError, match=r"weights\.bin is not the published file"):
        pull("hubclip", offline=True)
    assert imported == []


def test_a_file_is_hashed_once_and_again_when_it_or_what_is_published_of_it_changes(
    published: tuple[PublishedModel, PublishedModel], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pull("sam-tiny")
    hashed: list[str] = []
    real = pulling.check
    monkeypatch.setattr(pulling, "check", lambda p, **kw: hashed.append(p.name) or real(p, **kw))
    pull("sam-tiny")
    assert hashed == []
    file = published[1].weights
    monkeypatch.setattr(
        known, "PUBLISHED_MODELS", (replace(published[1], files=(replace(file, sha256="0" * 64),)),)
    )
    with pytest.raises(EncoderError, match="not the published file"):
        pull("sam-tiny")
    monkeypatch.setattr(known, "PUBLISHED_MODELS", published)
    path.write_bytes(b"another")
    pull("sam-tiny")
    assert len(hashed) == 2


def test_the_hash_of_a_file_without_a_published_one_is_logged(
    published: Any, log: pytest.LogCaptureFixture
) -> None:
    digest = hashlib.sha256(pull("sam-tiny").read_bytes()).hexdigest()
    assert f"no published hash; its SHA-256 here is {digest}" in log.text


def test_the_command_prints_the_path_alone_on_stdout_and_progress_on_stderr(
    published: Any, imported: Any, home: Path
) -> None:
    done = CliRunner().invoke(encoders, ["pull", "hubclip"])
    assert done.exit_code == 0
    assert done.stdout == f"{home / 'encoders' / 'hubclip'}\n"
    assert "weights.bin: 100 % of" in done.stderr


def test_the_list_says_what_is_here_and_which_hash_is_published(
    published: tuple[PublishedModel, PublishedModel], imported: Any
) -> None:
    before, sam = published_rows()
    assert (before["name"], before["licence"], before["here"], before["hash"]) == (
        "hubclip",
        "MIT",
        False,
        "SHA-256",
    )
    assert (sam["kind"], sam["here"], sam["hash"]) == ("sam", False, None)
    pull("hubclip")
    pull("sam-tiny")
    assert [row["here"] for row in published_rows()] == [True, True]
    result = json.loads(CliRunner().invoke(encoders, ["list", "--json"]).stdout)
    assert result["known"] == published_rows()
    lines = CliRunner().invoke(encoders, ["list"]).stdout.splitlines()
    assert "  hubclip\tMIT\there\tSHA-256 published\ta clip" in lines
    assert "  sam-tiny\tApache-2.0\there\tno published hash\ta sam" in lines
