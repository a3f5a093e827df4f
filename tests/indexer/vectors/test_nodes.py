"""The nodes of a Qdrant cluster: a call that one does not answer is answered by another, in bounded time."""

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from pydantic import SecretStr
from qdrant_client.http.exceptions import ResponseHandlingException

from corpus.errors import HomeError, IndexingError, ServerUnavailable
from corpus.settings import settings
from indexer.servers import qdrant_addresses, qdrant_name
from indexer.vectors.client import connect
from indexer.vectors.nodes import CONNECT_SECONDS, REST_SECONDS, Nodes
from indexer.vectors.server import ServerStore
from tests.indexer.lonely import HTML, answering_port, closed_port, silent_port

SECRET = "hunter2"
LISTED = json.dumps({"result": {"collections": []}, "status": "ok", "time": 0.0}).encode()
REFUSED = json.dumps({"status": {"error": "not now"}, "time": 0.0}).encode()


@dataclass
class Node:
    """A node that records what it receives. `statuses`: of its next answers; without one it answers 200."""

    port: int = 0
    statuses: list[int] = field(default_factory=list)
    received: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)


@contextmanager
def node(*statuses: int) -> Iterator[Node]:
    made = Node(statuses=list(statuses))

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            made.received.append((self.path, dict(self.headers.items()), body))
            status = made.statuses.pop(0) if made.statuses else 200
            content = LISTED if status == 200 else REFUSED
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_GET(self) -> None:
            self.answer()

        def do_POST(self) -> None:
            self.answer()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield made
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def limited(home: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A silent node is passed over after half of this."""
    monkeypatch.setenv("SIMILARITY_SERVER_TIMEOUT_SECONDS", "4")
    settings.cache_clear()
    yield
    settings.cache_clear()


def store_on(*urls: str | int, key: str | None = None) -> ServerStore:
    """A store on the nodes of these URLs, or ports of this machine."""
    text = ",".join(f"http://127.0.0.1:{url}" if isinstance(url, int) else url for url in urls)
    addresses = qdrant_addresses(text)
    return ServerStore(connect(addresses, None if key is None else SecretStr(key)), qdrant_name(addresses))


Away = Callable[[], AbstractContextManager[int]]
AWAY: dict[str, Away] = {
    "refused": closed_port,
    "silent": silent_port,
    "hangs up": lambda: answering_port(0, b""),
    "502": lambda: answering_port(502, HTML),
    "503": lambda: answering_port(503, HTML),
    "504": lambda: answering_port(504, HTML),
}


@pytest.mark.parametrize("failing", AWAY.values(), ids=AWAY)
def test_a_call_that_a_node_does_not_answer_is_answered_by_the_next(failing: Away) -> None:
    with failing() as port, node() as second:
        store = store_on(port, second.port)
        assert store.collections() == []
        assert store.collections() == []
        assert len(second.received) == 2
        store.close()


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_server_that_cannot_answer_for_a_moment_is_tried_again(status: int) -> None:
    with node(status, status) as only:
        assert store_on(only.port).collections() == []
        assert len(only.received) == 3


@pytest.mark.parametrize(("status", "error"), [(400, IndexingError), (401, ServerUnavailable)])
def test_a_refusal_is_not_repeated_on_any_node(status: int, error: type[Exception]) -> None:
    with node(status) as first, node() as second:
        with pytest.raises(error):
            store_on(first.port, second.port).collections()
        assert (len(first.received), len(second.received)) == (1, 0)


def test_the_node_that_answered_is_used_from_then_on_and_a_dead_one_is_tried_again_later() -> None:
    with node(503) as first, node() as second:
        store = store_on(first.port, second.port)
        for _ in range(3):
            store.collections()
        assert (len(first.received), len(second.received)) == (1, 3)
        second.statuses = [503]
        for _ in range(3):
            store.collections()
        assert (len(first.received), len(second.received)) == (4, 4)


def test_a_repeated_request_arrives_whole_at_the_address_and_with_the_login_of_its_node() -> None:
    with node(503) as first, node() as second:
        store = store_on(
            f"http://one:{SECRET}1@127.0.0.1:{first.port}/a",
            f"http://two:{SECRET}2@127.0.0.1:{second.port}/b/qdrant/",
            key="key",
        )
        with pytest.raises(ServerUnavailable):  # by the second's answer, which is one to another call
            store._call(store._client.update_collection_aliases, [])
        ((path, headers, body),) = first.received
        ((other_path, other_headers, other_body),) = second.received
    assert path == "/a/collections/aliases"
    assert other_path == "/b/qdrant/collections/aliases"
    assert body == other_body != b""
    for number, (seen, port) in enumerate([(headers, first.port), (other_headers, second.port)]):
        user = f"{('one', 'two')[number]}:{SECRET}{number + 1}".encode()
        assert seen["Authorization"] == "Basic " + base64.b64encode(user).decode()
        assert seen["Host"] == f"127.0.0.1:{port}"
        assert seen["api-key"] == "key"


def test_a_cluster_of_which_no_node_answers_is_named_by_its_urls_without_logins() -> None:
    with closed_port() as one, closed_port() as two:
        store = store_on(f"http://user:{SECRET}@127.0.0.1:{one}", two)
        with pytest.raises(ServerUnavailable) as caught:
            store.collections()
    says = str(caught.value)
    assert says.startswith(f"Qdrant at http://127.0.0.1:{one}, http://127.0.0.1:{two} does not answer")
    assert caught.value.away
    assert SECRET not in says
    assert "\n" not in says


def test_a_malformed_url_among_several_is_refused_without_its_secret() -> None:
    with pytest.raises(HomeError, match="the port") as caught:
        qdrant_addresses(f"http://host,http://user:{SECRET}@host:abc")
    assert SECRET not in str(caught.value)
    with pytest.raises(HomeError, match="empty"):
        qdrant_addresses(" , ")
    names = [address.url for address in qdrant_addresses(" http://a, https://b/,a:6333 ,")]
    assert names == ["http://a:6333", "https://b:443"]


class Cluster:
    """Nodes that fail as a test wants, on a clock that goes on by what the calls wait."""

    def __init__(self, count: int, seconds: float = 30.0) -> None:
        self.now, self.silent, self.refusing = 0.0, set[str](), set[str]()
        self.tried: list[str] = []
        self.limits: list[dict[str, float]] = []
        addresses = qdrant_addresses(",".join(f"http://n{number}" for number in range(count)))
        self.nodes = Nodes(addresses, seconds, self.wait, lambda: self.now)

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def send(self, request: httpx.Request) -> httpx.Response:
        limits: dict[str, float] = request.extensions["timeout"]
        self.tried.append(request.url.host)
        self.limits.append(limits)
        if request.url.host in self.silent:
            self.wait(limits["read"])
            raise ResponseHandlingException(httpx.ReadTimeout(""))
        if request.url.host in self.refusing:
            raise ResponseHandlingException(httpx.ConnectError("refused"))
        return httpx.Response(200)

    def call(self) -> float:
        """Make a call; how long it took."""
        began, self.tried = self.now, []
        with ExitStack() as stack:
            if self.silent | self.refusing >= {f"n{n}" for n in range(len(self.nodes._addresses))}:
                stack.enter_context(pytest.raises(ResponseHandlingException))
            self.nodes(httpx.Request("GET", "http://n0:6333/collections"), self.send)
        return self.now - began


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_call_has_a_time_limit_whatever_the_nodes_do(count: int) -> None:
    cluster = Cluster(count)
    everyone = {f"n{number}" for number in range(count)}
    for silent in (everyone, everyone - {"n0"}):
        cluster.silent, cluster.refusing = silent, everyone - silent
        assert cluster.call() <= 30.0 + 1e-6
    assert all(limit["connect"] <= CONNECT_SECONDS for limit in cluster.limits)
    assert all(0 < limit[part] <= 30.0 for limit in cluster.limits for part in ("read", "write", "pool"))


def test_a_node_that_was_silent_is_left_out_for_a_while() -> None:
    cluster = Cluster(2)
    cluster.silent = {"n0"}
    assert cluster.call() == pytest.approx(15.0)
    assert cluster.call() == 0
    assert cluster.tried == ["n1"]
    assert cluster.limits[-1]["read"] == 30.0
    cluster.silent, cluster.refusing = set(), {"n1"}
    assert cluster.call() == 0, "also one that rests is tried where no other answers"
    cluster.refusing = {"n0"}
    cluster.wait(REST_SECONDS)
    cluster.call()
    assert cluster.tried == ["n0", "n1"]


def test_a_time_limit_that_was_reached_is_not_waited_for_again() -> None:
    cluster = Cluster(1)
    cluster.silent = {"n0"}
    assert cluster.call() == 30.0
    assert cluster.tried == ["n0"]
    cluster.silent, cluster.refusing = set(), {"n0"}
    assert 0 < cluster.call() < 1.0
    assert cluster.tried == ["n0"] * 3
