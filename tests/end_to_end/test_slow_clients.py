"""Slow clients: a body or head that drips, and a stream without end. None delays the service."""

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from indexer.catalog.database import open_database
from indexer.home import Home
from retrieval.service.access import Role, Tokens
from tests.end_to_end.served import serving
from tests.waiting import DEADLINE_SECONDS, eventually

PATIENCE_SECONDS = 3
_DROP_SECONDS = 0.5


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("slow") / "home"


@pytest.fixture(scope="module")
def token(home: Path) -> str:
    return token_for(home)


def token_for(home: Path) -> str:
    engine = open_database(Home.open(home))
    try:
        return Tokens(engine).create(Role.ADMIN, "tests")[1]
    finally:
        engine.dispose()


@pytest.fixture(scope="module")
def address(home: Path, token: str) -> Iterator[str]:
    with serving(home, upload_seconds=str(PATIENCE_SECONDS)) as served:
        yield served


def drip(address: str, begin: bytes, drop: bytes) -> tuple[bytes, int]:
    """Send a beginning at once and then drop after drop; returns the answer and the number of drops sent."""
    url = urlsplit(address)
    answered = b""
    with socket.create_connection((url.hostname, url.port), timeout=_DROP_SECONDS) as line:
        line.sendall(begin)
        for drops in range(round(DEADLINE_SECONDS / _DROP_SECONDS)):
            try:
                received = line.recv(65536)
                if not received:
                    return answered, drops
                answered += received
                line.sendall(drop)
            except TimeoutError:
                line.sendall(drop)
            except ConnectionError:
                return answered, drops
    raise AssertionError("the line was never closed")


@pytest.mark.parametrize("path", ["/v1/search", "/v1/session", "/v1/jobs", "/v1/localize"])
def test_a_body_that_drips_is_refused_in_a_sentence(address: str, token: str, path: str) -> None:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
        "Content-Type: application/json\r\nContent-Length: 1000000\r\n\r\n"
    )
    answered, drops = drip(address, head.encode() + b'{"text": "', b"x")
    assert drops, "the limit is not zero"
    problem = json.loads(answered.partition(b"\r\n\r\n")[2])
    assert answered.startswith(b"HTTP/1.1 408")
    assert b"application/problem+json" in answered
    assert "did not arrive within 3 seconds" in problem["detail"]


@pytest.mark.parametrize(
    "begin", [b"", b"POST /v1/search HTTP/1.1\r\nX: ", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /he"]
)
def test_the_connection_of_a_head_that_drips_is_closed(address: str, begin: bytes) -> None:
    answered, drops = drip(address, begin, b"x")
    assert drops, "the limit is not zero"
    assert answered.startswith(b"HTTP/1.1 200" if b"healthz" in begin else b"")


def test_silent_connections_do_not_delay_others(address: str) -> None:
    url = urlsplit(address)
    silent = [socket.create_connection((url.hostname, url.port)) for _ in range(50)]
    try:
        assert httpx.get(f"{address}healthz", timeout=DEADLINE_SECONDS).status_code == 200
    finally:
        for line in silent:
            line.close()


def test_an_open_stream_does_not_delay_the_end_of_the_service(tmp_path: Path) -> None:
    home = tmp_path / "home"
    lines: list[str] = []
    whole = threading.Event()
    headers = {"Authorization": f"Bearer {token_for(home)}"}
    with Home.open(home).lock(name="writer"):  # the job waits for another writer
        with serving(home) as address:
            job = httpx.post(
                f"{address}v1/jobs", headers=headers, timeout=DEADLINE_SECONDS,
                json={"kind": "index-add", "source": "phantom:3@1"},
            ).json()["id"]  # fmt: skip

            def listen() -> None:
                with httpx.stream(
                    "GET", f"{address}v1/jobs/{job}/events", headers=headers, timeout=DEADLINE_SECONDS
                ) as stream:
                    lines.extend(stream.iter_lines())
                whole.set()  # a stream that is cut off raises

            listening = threading.Thread(target=listen)
            listening.start()
            eventually(lambda: lines)
        listening.join(DEADLINE_SECONDS)
    assert lines[0] == "event: progress"
    assert whole.is_set(), "the service ended the stream instead of waiting for it"
