"""A download is whole and checked or not there; what came is not asked for again. Servers: 127.0.0.1 only."""

import errno
import hashlib
import logging
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from corpus.errors import EncoderError, HomeError
from corpus.settings import settings
from tests.waiting import DEADLINE_SECONDS, eventually, linger
from trainer.models import download as module
from trainer.models.download import Unreachable, check, download, shown

BODY = bytes(range(256)) * 4096  # 1 MiB that is no text
SHA256 = hashlib.sha256(BODY).hexdigest()
MD5 = hashlib.md5(BODY).hexdigest()


@dataclass
class Server:
    """What the server gives, and what it was asked for."""

    url: str = ""
    body: bytes = BODY
    tag: str = '"1"'
    kind: str = "application/octet-stream"
    statuses: list[int] = field(default_factory=list)  # the next answers, before any body
    breaks: list[int] = field(default_factory=list)  # bytes after which the next answers break off
    chunked: bool = False
    ranges: bool = True
    shift: int = 0  # how far beside the range asked for the part is that it gives
    going: threading.Event = field(default_factory=threading.Event)
    requested: list[str | None] = field(default_factory=list)  # the Range header of each request


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    state = Server()
    state.going.set()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.requested.append(self.headers.get("Range"))
            if state.statuses:
                self.send_error(state.statuses.pop(0))
                return
            self._give()

        def _give(self) -> None:
            start, requested = 0, self.headers.get("Range")
            same = self.headers.get("If-Range") in (None, state.tag)
            if requested and state.ranges and same:
                start = int(requested.removeprefix("bytes=").rstrip("-"))
                if start >= len(state.body):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(state.body)}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                start += state.shift
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(state.body) - 1}/{len(state.body)}")
            else:
                self.send_response(200)
            rest = state.body[start:]
            if state.tag:
                self.send_header("ETag", state.tag)
            self.send_header("Content-Type", state.kind)
            if state.chunked:
                self.send_header("Transfer-Encoding", "chunked")
            else:
                self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            state.going.wait(DEADLINE_SECONDS)
            break_at = state.breaks.pop(0) if state.breaks else None
            sent = rest[:break_at]
            if state.chunked:
                sent = f"{len(rest):x}\r\n".encode() + sent + (b"\r\n0\r\n\r\n" if break_at is None else b"")
            self.wfile.write(sent)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    Handler.protocol_version = "HTTP/1.1"
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.0)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.daemon_threads = True
        threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        state.url = f"http://127.0.0.1:{http.server_port}/weights.bin"
        yield state
        http.shutdown()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "downloads" / "weights.bin"


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """The log, also after a test with a tool that disables all existing loggers."""
    monkeypatch.setattr(module.logger, "disabled", False)
    caplog.set_level(logging.DEBUG)
    return caplog


def leftovers(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir() if path != target)


@pytest.mark.parametrize("hashes", [{}, {"sha256": SHA256}, {"sha256": SHA256[:6]}, {"md5": MD5[:6].upper()}])
def test_a_file_arrives_whole_and_leaves_nothing_else(
    server: Server, target: Path, hashes: dict[str, str]
) -> None:
    result: list[tuple[str, int, int | None]] = []
    assert (
        download(server.url, target, size=len(BODY), on_progress=lambda *at: result.append(at), **hashes)
        == target
    )
    assert target.read_bytes() == BODY
    assert leftovers(target) == []
    assert result[-1] == (target.name, len(BODY), len(BODY))
    assert result == sorted(result)


def test_what_broke_off_goes_on_where_it_broke(server: Server, target: Path) -> None:
    server.breaks = [300_000, 200_000]
    download(server.url, target, sha256=SHA256)
    assert target.read_bytes() == BODY
    assert server.requested == [None, "bytes=300000-", "bytes=500000-"]


def test_a_line_that_breaks_more_often_than_it_may_fail_gets_there_if_it_brings_something(
    server: Server, target: Path
) -> None:
    server.breaks = [100_000] * (module.TRIES + 3)
    download(server.url, target, sha256=SHA256)
    assert target.read_bytes() == BODY


def test_another_run_goes_on_where_this_one_was_broken_off(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CHUNK", 1 << 16)

    def interrupt(stage: str, done: int, total: int | None = None, note: str = "", /) -> None:
        if done > 400_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(server.url, target, on_progress=interrupt)
    assert not target.exists()
    stored = (target.parent / "weights.bin.part").stat().st_size
    assert 400_000 < stored < len(BODY)
    download(server.url, target)
    assert target.read_bytes() == BODY
    assert server.requested[-1] == f"bytes={stored}-"


def test_a_server_that_knows_no_ranges_sends_it_all_again(server: Server, target: Path) -> None:
    server.ranges, server.breaks = False, [300_000]
    download(server.url, target, sha256=SHA256)
    assert target.read_bytes() == BODY


def test_another_part_than_the_requested_one_is_refused(server: Server, target: Path) -> None:
    server.breaks, server.shift = [300_000], 1
    download(server.url, target)
    assert target.read_bytes() == BODY
    assert server.requested == [None, "bytes=300000-", None]


def test_halves_of_two_versions_are_never_joined(server: Server, target: Path) -> None:
    server.breaks = [300_000] + [0] * module.TRIES
    with pytest.raises(Unreachable):
        download(server.url, target)
    server.body, server.tag, server.breaks = BODY[::-1], '"2"', []
    download(server.url, target)
    assert target.read_bytes() == BODY[::-1]


def test_without_version_and_hash_what_came_is_not_trusted(server: Server, target: Path) -> None:
    server.tag, server.breaks = "", [300_000]
    download(server.url, target)
    assert server.requested == [None, None]
    assert target.read_bytes() == BODY


def test_without_version_but_with_a_hash_it_goes_on(server: Server, target: Path) -> None:
    server.tag, server.breaks = "", [300_000]
    download(server.url, target, md5=MD5)
    assert server.requested == [None, "bytes=300000-"]


def test_a_part_that_is_the_whole_file_is_not_fetched_again(server: Server, target: Path) -> None:
    target.parent.mkdir()
    (target.parent / "weights.bin.part").write_bytes(BODY)
    (target.parent / "weights.bin.part.of").write_text(server.tag)
    download(server.url, target)
    assert target.read_bytes() == BODY
    assert server.requested == [f"bytes={len(BODY)}-"]
    assert leftovers(target) == []


def test_a_part_longer_than_the_file_is_given_up(server: Server, target: Path) -> None:
    target.parent.mkdir()
    (target.parent / "weights.bin.part").write_bytes(BODY + b"more")
    (target.parent / "weights.bin.part.of").write_text(server.tag)
    download(server.url, target, sha256=SHA256)
    assert target.read_bytes() == BODY


def test_a_chunked_answer_that_breaks_is_not_taken_for_the_file(server: Server, target: Path) -> None:
    server.chunked, server.breaks = True, [300_000] * module.TRIES
    server.ranges = False
    with pytest.raises(Unreachable, match="broke"):
        download(server.url, target)
    assert not target.exists()
    server.breaks = []
    download(server.url, target)
    assert target.read_bytes() == BODY


@pytest.mark.parametrize(
    ("hashes", "message"),
    [
        ({"sha256": "0" * 64}, "its SHA-256 begins"),
        ({"md5": "000000"}, "its MD5 begins"),
        ({"size": 7}, "not 7"),
    ],
)
def test_a_wrong_body_is_deleted_and_reported(
    server: Server, target: Path, hashes: dict[str, Any], message: str
) -> None:
    with pytest.raises(EncoderError, match=rf"^weights\.bin is not the published file: .*{message}"):
        download(server.url, target, **hashes)
    assert not target.exists()
    assert leftovers(target) == []


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"\n<!DOCTYPE html><title>Log in</title>", "application/zip"),
        (b"please log in", "text/html; charset=utf-8"),
    ],
)
def test_a_web_page_is_not_taken_for_the_file_and_costs_nothing_that_came(
    server: Server, target: Path, body: bytes, kind: str
) -> None:
    server.breaks = [300_000] + [0] * module.TRIES
    with pytest.raises(Unreachable):
        download(server.url, target)
    whole = server.body, server.tag, server.kind
    server.body, server.tag, server.kind, server.breaks = body, '"page"', kind, []
    with pytest.raises(EncoderError, match="gave a web page in place of the file"):
        download(server.url, target)
    assert not target.exists()
    server.body, server.tag, server.kind = whole
    download(server.url, target)
    assert target.read_bytes() == BODY
    assert server.requested[-1] == "bytes=300000-"


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (404, r"not there any more \(404\)"),
        (410, "not there any more"),
        (403, "not given to us"),
        (451, "answers 451"),
    ],
)
def test_a_refusal_is_one_sentence_and_not_retried(
    server: Server, target: Path, status: int, message: str
) -> None:
    server.statuses = [status] * 9
    with pytest.raises(Unreachable, match=message) as result:
        download(server.url, target)
    assert "\n" not in str(result.value)
    assert len(server.requested) == 1


def test_a_failing_server_is_retried_and_finally_given_up(server: Server, target: Path) -> None:
    server.statuses = [503, 429]
    download(server.url, target)
    assert target.read_bytes() == BODY
    target.unlink()
    server.statuses = [500] * 99
    with pytest.raises(Unreachable, match="the server answers 500"):
        download(server.url, target)
    assert len(server.requested) == 3 + module.TRIES


def test_a_missing_network_is_reported_in_one_sentence(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.0)
    with pytest.raises(Unreachable, match=r"cannot be fetched: no connection \(Connection refused\)"):
        download("http://127.0.0.1:9/weights.bin", target)


def test_a_server_that_says_nothing_is_given_up_in_time(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 0.05)
    monkeypatch.setattr(module, "TRIES", 2)
    server.going.clear()
    with pytest.raises(Unreachable, match="no answer in time"):
        download(server.url, target)
    server.going.set()


def test_secrets_of_an_address_are_never_shown(
    server: Server, target: Path, log: pytest.LogCaptureFixture
) -> None:
    server.statuses = [500, 404]
    with pytest.raises(Unreachable) as result:
        download(f"{server.url}?token=hush", target)
    for bad in ("http://me:hush@127.0.0.1:9:9/weights.bin?token=hush", "file:///hush/../x?token=hush#hush"):
        with pytest.raises(EncoderError) as refused:
            download(bad, target)
        assert "token" not in str(refused.value)
    assert shown("https://me:hush@host/a?b=hush#hush") == "https://host/a"
    assert "trying again" in log.text
    assert "hush" not in str(result.value) + log.text


@pytest.mark.parametrize("address", ["file:///etc/hostname", "ftp://127.0.0.1/x", "weights.bin"])
def test_only_the_web_is_fetched_from(address: str, target: Path) -> None:
    with pytest.raises(EncoderError, match="is no http address"):
        download(address, target)


def test_the_right_file_already_there_is_not_fetched_again(server: Server, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(BODY)
    assert download(server.url, target, sha256=SHA256) == target
    target.write_bytes(b"another")
    with pytest.raises(EncoderError, match="is not the published file"):
        download(server.url, target, sha256=SHA256)
    assert target.read_bytes() == b"another"
    assert server.requested == []


def test_a_full_disk_is_reported_and_the_part_stays(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.breaks = [300_000]
    real = module._require_room
    calls = []

    def full_the_second_time(part: Path, wanted: int | None) -> None:
        calls.append(wanted)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(part, wanted)

    monkeypatch.setattr(module, "_require_room", full_the_second_time)
    with pytest.raises(HomeError, match=r"disk .* is full; make room"):
        download(server.url, target)
    assert (target.parent / "weights.bin.part").stat().st_size == 300_000
    download(server.url, target)
    assert target.read_bytes() == BODY


def test_a_file_greater_than_the_room_on_the_disk_is_not_begun(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = module.shutil.disk_usage("/")
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage._replace(free=len(BODY) - 1))
    with pytest.raises(HomeError, match="is full"):
        download(server.url, target)
    assert not (target.parent / "weights.bin.part").exists()


def test_two_at_once_fetch_it_once(server: Server, target: Path) -> None:
    server.going.clear()
    runs = [threading.Thread(target=download, args=(server.url, target)) for _ in range(2)]
    for run in runs:
        run.start()
    eventually(lambda: server.requested)
    linger()  # so that the second meets the first at it
    server.going.set()
    for run in runs:
        run.join(DEADLINE_SECONDS)
    assert target.read_bytes() == BODY
    assert len(server.requested) == 1
    assert leftovers(target) == []


def test_a_process_that_may_not_wait_names_the_other_download(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIMILARITY_LOCK_WAIT_SECONDS", "0")
    settings.cache_clear()
    try:
        server.going.clear()
        other = threading.Thread(target=download, args=(server.url, target))
        other.start()
        eventually(lambda: server.requested)
        with pytest.raises(EncoderError, match=r"another process is bringing weights\.bin here"):
            download(server.url, target)
        server.going.set()
        other.join(DEADLINE_SECONDS)
        assert target.read_bytes() == BODY
    finally:
        settings.cache_clear()


def test_the_check_gives_the_hash_where_none_is_published(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(BODY)
    assert check(tmp_path / "a") == SHA256
