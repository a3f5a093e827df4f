"""What others published comes by its name: fetched or put there by hand, checked, imported, found.

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
from similarity.cli.encoders import encoders
from similarity.cli.encoders_pull import known_rows
from tests.waiting import DEADLINE_SECONDS, linger
from trainer.models import catalog as known
from trainer.models import download
from trainer.models import resolve as pulling
from trainer.models.catalog import Known, KnownFile
from trainer.models.registry import find_encoder, find_sam
from trainer.models.resolve import pull
from trainer.runtime.encoder import Encoder

WEIGHTS = b"\x80weights of some network\x00"


@pytest.fixture
def asked() -> list[str]:
    """The paths that the server was asked for."""
    return []


@pytest.fixture
def published(
    home: Path, tmp_path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Known, Known]]:
    """An encoder of two files and a SAM file, published on this machine; nothing else is known."""
    files = tmp_path / "hub"
    files.mkdir()
    for name in ("weights.bin", "config.json", "sam_tiny.pth"):
        (files / name).write_bytes(WEIGHTS + name.encode())

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(files))

        def do_GET(self) -> None:
            asked.append(self.path)
            super().do_GET()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        hub = f"http://127.0.0.1:{http.server_port}"
        digest = hashlib.sha256((files / "weights.bin").read_bytes()).hexdigest()
        weights = KnownFile(f"{hub}/weights.bin", sha256=digest)
        encoder = Known(
            "hubclip",
            "encoder",
            "a clip",
            hub,
            (weights, KnownFile(f"{hub}/config.json")),
            "MIT",
            "grey",
            "openclip",
        )
        sam = Known("sam-tiny", "sam", "a sam", hub, (KnownFile(f"{hub}/sam_tiny.pth"),), "Apache-2.0", "RGB")
        both = (encoder, sam)
        monkeypatch.setattr(known, "KNOWN", both)
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
    """The log, also after a test whose tool has switched off all loggers there were."""
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
    published: Any, imported: list[Any], asked: list[str], home: Path, log: pytest.LogCaptureFixture
) -> None:
    folder = find_encoder("hubclip")
    assert folder == home / "encoders" / "hubclip"
    assert (folder / "similarity.json").is_file()
    assert imported == [(home / "downloads" / "hubclip", "hubclip")]
    assert "downloading weights.bin of hubclip from http://127.0.0.1" in log.text
    assert find_encoder("hubclip") == folder
    assert len(imported) == 1
    assert sorted(asked) == ["/config.json", "/weights.bin"]


def test_an_open_clip_folder_published_elsewhere_encodes_by_its_name_alone(
    published: tuple[Known, Known], encoder_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    files = tuple(KnownFile(f"{published[0].source}/{name}") for name in (*names, "tokenizer_config.json"))
    monkeypatch.setattr(known, "KNOWN", (replace(published[0], files=files),))
    theirs, ours = Encoder.load(encoder_folder), Encoder.load(find_encoder("hubclip"))
    texts = ["small pleural effusion", "no pneumothorax"]
    np.testing.assert_allclose(ours.encode_texts(texts), theirs.encode_texts(texts), atol=1e-5)
    pictures = [np.random.default_rng(0).random((70, 60), np.float32)]
    np.testing.assert_allclose(ours.encode_images(pictures), theirs.encode_images(pictures), atol=1e-5)


def test_the_home_of_a_first_download_is_closed_to_others(published: Any, imported: Any, home: Path) -> None:
    find_encoder("hubclip")
    assert home.stat().st_mode & 0o077 == 0


def test_two_that_ask_for_it_at_once_import_it_once(
    published: Any, imported: list[Any], asked: list[str], home: Path
) -> None:
    runs = [threading.Thread(target=find_encoder, args=("hubclip",)) for _ in range(3)]
    for run in runs:
        run.start()
    for run in runs:
        run.join(DEADLINE_SECONDS)
    assert (home / "encoders" / "hubclip" / "similarity.json").is_file()
    assert len(imported) == 1
    assert len(asked) == 2


def test_a_home_that_cannot_be_written_is_told(published: Any, home: Path) -> None:
    home.write_text("a file")
    with pytest.raises(HomeError, match="cannot be"):
        find_encoder("hubclip")


def test_an_encoder_of_that_name_in_the_home_comes_before_the_published_one(
    published: Any, imported: list[Any], asked: list[str], encoder_folder: Path, home: Path
) -> None:
    own = Path(shutil.copytree(encoder_folder, home / "encoders" / "hubclip"))
    assert find_encoder("hubclip") == own
    assert (asked, imported) == ([], [])


def test_a_sam_file_is_found_by_its_name_by_its_file_s_and_by_a_path(
    published: Any, asked: list[str], home: Path, tmp_path: Path
) -> None:
    path = find_sam("sam-tiny")
    assert path == home / "downloads" / "sam-tiny" / "sam_tiny.pth"
    assert path.read_bytes() == WEIGHTS + b"sam_tiny.pth"
    assert find_sam("sam_tiny.pth") == path
    assert len(asked) == 1
    mine = tmp_path / "mine.pth"
    mine.write_bytes(b"x")
    assert find_sam(str(mine)) == mine
    with pytest.raises(EncoderError, match="did you mean 'sam-tiny'"):
        find_sam("sam-tinny")
    with pytest.raises(EncoderError, match="did you mean 'hubclip'"):
        find_encoder("hubklip")
    with pytest.raises(EncoderError, match="nothing published is known"):
        find_sam("hubclip")
    with pytest.raises(EncoderError, match="there is no encoder 'sam-tiny'"):
        find_encoder("sam-tiny")


def must_do(error: pytest.ExceptionInfo[EncoderError], files: list[KnownFile], folder: Path) -> None:
    """The message names each file's address and place, and what to run then."""
    said = str(error.value)
    for file in files:
        assert file.url in said
        assert (file.sha256 or "no published hash") in said
        assert str(folder / file.name) in said
    assert said.endswith(f"similarity encoders pull {folder.name} --offline")


@pytest.mark.parametrize("how", ["argument", "setting", "network"])
def test_without_a_network_it_says_which_files_to_put_where_and_what_to_run(
    published: tuple[Known, Known],
    imported: list[Any],
    asked: list[str],
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
    assert (asked, imported) == ([], [])


def test_files_put_there_by_hand_are_taken_offline_and_only_the_rest_is_asked_for(
    published: tuple[Known, Known], imported: list[Any], home: Path, tmp_path: Path
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
    published: tuple[Known, Known], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = find_sam("sam-tiny")
    hashed: list[str] = []
    real = pulling.check
    monkeypatch.setattr(pulling, "check", lambda p, **kw: hashed.append(p.name) or real(p, **kw))
    find_sam("sam-tiny")
    assert hashed == []
    file = published[1].weights
    monkeypatch.setattr(known, "KNOWN", (replace(published[1], files=(replace(file, sha256="0" * 64),)),))
    with pytest.raises(EncoderError, match="not the published file"):
        find_sam("sam-tiny")
    monkeypatch.setattr(known, "KNOWN", published)
    path.write_bytes(b"another")
    find_sam("sam-tiny")
    assert len(hashed) == 2


def test_the_hash_of_a_file_without_a_published_one_is_told(
    published: Any, log: pytest.LogCaptureFixture
) -> None:
    digest = hashlib.sha256(find_sam("sam-tiny").read_bytes()).hexdigest()
    assert f"no published hash; its SHA-256 here is {digest}" in log.text


def test_the_command_prints_the_path_alone_on_stdout_and_progress_on_stderr(
    published: Any, imported: Any, home: Path
) -> None:
    done = CliRunner().invoke(encoders, ["pull", "hubclip"])
    assert done.exit_code == 0
    assert done.stdout == f"{home / 'encoders' / 'hubclip'}\n"
    assert "weights.bin: 100 % of" in done.stderr


def test_the_list_says_what_is_here_and_which_hash_is_published(
    published: tuple[Known, Known], imported: Any
) -> None:
    before, sam = known_rows()
    assert (before["name"], before["licence"], before["here"], before["hash"]) == (
        "hubclip",
        "MIT",
        False,
        "SHA-256",
    )
    assert (sam["kind"], sam["here"], sam["hash"]) == ("sam", False, None)
    pull("hubclip")
    pull("sam-tiny")
    assert [row["here"] for row in known_rows()] == [True, True]
    told = json.loads(CliRunner().invoke(encoders, ["list", "--json"]).stdout)
    assert told["known"] == known_rows()
    lines = CliRunner().invoke(encoders, ["list"]).stdout.splitlines()
    assert "  hubclip\tMIT\there\tSHA-256 published\ta clip" in lines
    assert "  sam-tiny\tApache-2.0\there\tno published hash\ta sam" in lines
