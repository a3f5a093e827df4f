"""The line that other tests cut does what they say of it: they would prove nothing else."""

import socket
import threading
from collections.abc import Iterator

import httpx
import pytest

from tests.indexer.lonely import answering_port
from tests.indexer.proxy import Proxy, proxied, to_port
from tests.waiting import linger


@pytest.fixture
def line() -> Iterator[Proxy]:
    """A line to a server that answers `yes`."""
    with answering_port(200, b"yes", "text/plain") as port, proxied(to_port(port)) as proxy:
        yield proxy


def ask(line: Proxy) -> str:
    return httpx.get(f"http://127.0.0.1:{line.port}/", trust_env=False, timeout=None).text


def test_a_line_passes_what_is_sent(line: Proxy) -> None:
    assert [ask(line) for _ in range(3)] == ["yes"] * 3


def test_a_broken_line_resets_what_is_open_and_refuses_what_is_new_until_it_is_healed(line: Proxy) -> None:
    with socket.create_connection(("127.0.0.1", line.port)) as waiting:
        line.disconnect()
        with pytest.raises(ConnectionResetError):
            waiting.recv(1)
    for _ in range(2):
        with pytest.raises(httpx.ConnectError, match="refused"):
            ask(line)
    line.heal()
    assert ask(line) == "yes"


def test_a_line_that_hangs_goes_on_when_it_is_healed(line: Proxy) -> None:
    line.hang()
    answers: list[str] = []
    asking = threading.Thread(target=lambda: answers.append(ask(line)))
    asking.start()
    linger()
    assert answers == []
    line.heal()
    asking.join()
    assert answers == ["yes"]


def test_a_line_that_loses_answers_resets_instead(line: Proxy) -> None:
    line.lose_answers(2)
    for _ in range(2):
        with pytest.raises(httpx.ReadError):
            ask(line)
    assert ask(line) == "yes"
