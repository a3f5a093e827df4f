"""Servers that are not there, refuse, hang, or go away in the middle of a job."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import sqlalchemy as sa
from pydantic import SecretStr
from qdrant_client import QdrantClient
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from corpus.errors import HomeError, ServerUnavailable
from corpus.settings import settings
from corpus.sources import open_source
from indexer.catalog.catalog import Catalog
from indexer.catalog.database import open_database
from indexer.home import Home
from indexer.index import Index
from indexer.ingest.added import Added, Stage
from indexer.ingest.pipeline import add_source
from indexer.ingest.repair import verify
from indexer.retries import RetryPolicy
from indexer.servers import qdrant_address
from indexer.vectors.client import connect
from indexer.vectors.server import ServerStore
from tests.indexer.contents import contents
from tests.indexer.lonely import HTML, answering_port, closed_port, silent_port
from tests.indexer.postgres import fresh_database, stoppable_server
from trainer.runtime.encoder import Encoder

SECRET = "hunter2"
REFUSAL = json.dumps({"status": {"error": "Invalid API key or JWT"}, "time": 0.0}).encode()
Away = Callable[[], Any]


@pytest.mark.parametrize(
    ("failing", "says"),
    [
        (closed_port, "does not answer .connection refused.: start it"),
        (silent_port, "does not answer in time"),
        (lambda: answering_port(0, b""), "hangs up, or speaks no HTTP"),
        (lambda: answering_port(502, HTML), r"a proxy answers .*\(502\)"),
        (lambda: answering_port(503, HTML), r"a proxy answers .*\(503\)"),
        (lambda: answering_port(404, HTML), "is no Qdrant"),
        (lambda: answering_port(200, HTML), "is no Qdrant"),
        (lambda: answering_port(200, b'{"hello": 1}', "application/json"), "is no Qdrant"),
        (lambda: answering_port(400, b"plain HTTP request sent to HTTPS port"), "write https://"),
        (lambda: answering_port(401, REFUSAL, "application/json"), "refuses the key"),
        (lambda: answering_port(403, HTML), "refuses the key"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_a_qdrant_that_cannot_be_used_is_reported_in_one_sentence(
    home: Path, monkeypatch: pytest.MonkeyPatch, failing: Away, says: str
) -> None:
    monkeypatch.setenv("SIMILARITY_SERVER_TIMEOUT_SECONDS", "0.5")
    settings.cache_clear()
    with failing() as port:
        address = qdrant_address(f"http://user:{SECRET}@127.0.0.1:{port}")
        store = ServerStore(connect(address, SecretStr(SECRET)), f"Qdrant at {address.url}")
        for _ in range(2):  # the same at every call
            with pytest.raises(ServerUnavailable, match=says) as caught:
                store.collections()
            assert SECRET not in str(caught.value)
            assert "\n" not in str(caught.value)
        store.close()


def test_tls_where_there_is_none_and_a_host_that_is_none_are_reported(home: Path) -> None:
    with answering_port(200, HTML) as port:
        spoken = ServerStore(connect(qdrant_address(f"https://127.0.0.1:{port}"), None))
        with pytest.raises(ServerUnavailable, match="speaks no TLS: write http://"):
            spoken.collections()
    unknown = ServerStore(connect(qdrant_address("http://no-such-host.invalid"), None))
    with pytest.raises(ServerUnavailable, match=r"the host .* is not known"):
        unknown.collections()


def test_a_key_that_no_header_can_hold_is_refused_unread() -> None:
    with pytest.raises(HomeError, match="cannot be sent") as caught:
        connect(qdrant_address("http://host"), SecretStr(f"{SECRET}\nx"))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("failing", "says"),
    [
        (closed_port, "connection refused"),
        (silent_port, "in time"),
        (lambda: answering_port(502, HTML), "no Postgres"),
        (lambda: answering_port(0, b""), "ended the connection"),
    ],
)
def test_a_postgres_that_cannot_be_used_is_reported_in_one_sentence(
    home: Path, monkeypatch: pytest.MonkeyPatch, failing: Away, says: str
) -> None:
    monkeypatch.setenv("SIMILARITY_SERVER_TIMEOUT_SECONDS", "2")
    with failing() as port:
        monkeypatch.setenv("SIMILARITY_DATABASE_URL", f"postgresql://user:{SECRET}@127.0.0.1:{port}/d")
        settings.cache_clear()
        with pytest.raises(ServerUnavailable, match=says) as caught:
            open_database(Home.open())
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_wrong_user_password_database_and_option_are_distinguished(
    home: Path, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = sa.make_url(postgres)
    wrong = {
        "no database of that name": url.set(database="nowhere"),
        "does not know the user": url.set(username="nobody", password=SECRET, database="postgres"),
        "option that Postgres does not know": url.update_query_dict({"sslmod": SECRET}),
        "option with a value": url.update_query_dict({"sslmode": SECRET}),
    }
    for says, wrong_url in wrong.items():
        monkeypatch.setenv("SIMILARITY_DATABASE_URL", wrong_url.render_as_string(hide_password=False))
        settings.cache_clear()
        with pytest.raises(ServerUnavailable, match=says) as caught:
            open_database(Home.open())
        assert SECRET not in str(caught.value)


def test_a_user_without_the_right_to_create_tables_is_reported(
    home: Path, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fresh_database(postgres) as own, psycopg.connect(own, autocommit=True) as admin:
        admin.execute("CREATE ROLE guest LOGIN")
        wrong_url = sa.make_url(own).set(username="guest").render_as_string(hide_password=False)
        monkeypatch.setenv("SIMILARITY_DATABASE_URL", wrong_url)
        settings.cache_clear()
        with pytest.raises(ServerUnavailable, match="grant the user"):
            open_database(Home.open())
        admin.execute("DROP ROLE guest")


def test_a_damaged_sqlite_file_is_reported(home: Path) -> None:
    opened = Home.open()
    opened.catalog_file.write_bytes(b"no database " * 1000)
    with pytest.raises(HomeError, match=r"damaged .* restore it from a backup"):
        open_database(opened)


class Line:
    """The line to a Qdrant server: the client's own engine behind it, calls failing while it is cut."""

    def __init__(self) -> None:
        self.client = QdrantClient(":memory:")
        self.failures: list[Exception] = []
        self.calls = 0
        self.unheard = False
        """Whether a call is done before it fails: its answer is what gets lost."""

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.client, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            if self.failures and self.unheard:
                method(*args, **kwargs)
            if self.failures:
                raise self.failures.pop(0)
            return method(*args, **kwargs)

        return call

    def interrupt(self, calls: int, failure: Exception | None = None) -> None:
        """Let the next calls fail."""
        refused = ResponseHandlingException(httpx.ConnectError("[Errno 111] Connection refused"))
        self.failures = [failure or refused] * calls


@contextmanager
def served(home: Path, line: Line, patience: RetryPolicy) -> Iterator[Index]:
    """An index of a home on that server."""
    with ExitStack() as opened_stack:
        opened = Home.open(home)
        engine = open_database(opened)
        opened_stack.callback(engine.dispose)
        store = ServerStore(line, "Qdrant at http://q:6333", patience)  # type: ignore[arg-type]
        yield Index(opened, Catalog(engine), store, opened_stack.pop_all())


def index_phantoms(index: Index, encoder: Encoder, folder: Path, observer: Any = None) -> Added:
    source = open_source("phantom:9@4")
    return add_source(index, source, encoder, origin="x", folder=str(folder), workers=0, observer=observer)


GATEWAY = UnexpectedResponse(502, "Bad Gateway", HTML, httpx.Headers())
TIMEOUT = ResponseHandlingException(httpx.ReadTimeout("timed out"))


@pytest.mark.filterwarnings("ignore:Payload indexes have no effect", "ignore:Local mode performs exact")
@pytest.mark.parametrize("unheard", [False, True], ids=["call lost", "answer lost"])
@pytest.mark.parametrize("failure", [None, GATEWAY], ids=["refused", "gateway"])
def test_a_job_goes_on_when_qdrant_comes_back(
    home: Path, encoder: Encoder, encoder_folder: Path, unheard: bool, failure: Exception | None
) -> None:
    line, lines = Line(), list[str]()
    line.unheard = unheard
    patience = RetryPolicy(60, lines.append, pause=lambda _seconds: None)

    def interrupt(stage: Stage, _added: Added) -> None:
        if stage in ("encoded", "vectors"):
            line.interrupt(3, failure)

    with served(home, line, patience) as index:
        added = index_phantoms(index, encoder, encoder_folder, interrupt)
        assert not verify(index).faults
        assert added.studies == 9
        interrupted = contents(index)
    assert "Qdrant at http://q:6333 does not answer; trying again (0 s of 60 s)" in lines
    assert lines[-1] == "Qdrant at http://q:6333 answers again"
    with served(home, Line(), RetryPolicy()) as index:  # the same on a server that was never away
        index_phantoms(index, encoder, encoder_folder)
        assert contents(index)["ledger"] == interrupted["ledger"]


@pytest.mark.filterwarnings("ignore:Payload indexes have no effect", "ignore:Local mode performs exact")
@pytest.mark.parametrize("stage_of_loss", ["read", "encoded", "vectors", "committed"])
def test_a_job_without_qdrant_stops_with_a_sentence_and_the_next_completes_it(
    home: Path, encoder: Encoder, encoder_folder: Path, stage_of_loss: Stage
) -> None:
    line = Line()

    def interrupt(stage: Stage, _added: Added) -> None:
        if stage == stage_of_loss:
            line.interrupt(10**6)

    with served(home, line, RetryPolicy(0.01, pause=lambda _seconds: None)) as index:
        if stage_of_loss == "committed":  # nothing is left to be written
            index_phantoms(index, encoder, encoder_folder, lambda *_: None)
            line.interrupt(10**6)
            with pytest.raises(ServerUnavailable):
                verify(index)
        else:
            with pytest.raises(ServerUnavailable, match=r"waited for 0\.01 s .* safe") as caught:
                index_phantoms(index, encoder, encoder_folder, interrupt)
            assert "\n" not in str(caught.value)
        line.interrupt(0)
        index_phantoms(index, encoder, encoder_folder)
        assert not verify(index).faults
        assert index.catalog.counts()["studies"] == {"phantom": 9}


def test_a_server_that_never_answered_or_refuses_is_not_waited_for() -> None:
    line, lines = Line(), list[str]()
    store = ServerStore(line, retry=RetryPolicy(60, lines.append))  # type: ignore[arg-type]
    line.interrupt(1)
    with pytest.raises(ServerUnavailable):
        store.collections()
    assert store.collections() == []
    line.interrupt(1, UnexpectedResponse(401, "", REFUSAL, httpx.Headers()))
    with pytest.raises(ServerUnavailable, match="refuses the key"):
        store.collections()
    assert lines == []


def test_calls_behind_one_that_timed_out_do_not_wait_in_turn() -> None:
    line = Line()
    store = ServerStore(line)  # type: ignore[arg-type]
    line.interrupt(1, TIMEOUT)
    for _ in range(3):
        with pytest.raises(ServerUnavailable, match="in time"):
            store.collections()
    assert line.calls == 1


@pytest.mark.parametrize("stage_of_loss", ["read", "committing"])
def test_a_job_goes_on_when_postgres_comes_back(
    home: Path,
    encoder: Encoder,
    encoder_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    stage_of_loss: Stage,
) -> None:
    with stoppable_server() as (url, stop, start), fresh_database(url) as own:
        monkeypatch.setenv("SIMILARITY_DATABASE_URL", own)
        settings.cache_clear()
        lines: list[str] = []

        def on_wait(line: str) -> None:
            lines.append(line)
            if "trying again" in line:
                start()

        lost = False

        def lose(stage: Stage, _added: Added) -> None:
            nonlocal lost
            if stage == stage_of_loss and not lost:
                lost = True
                stop()

        with Index.open(read_only=False, on_wait=on_wait) as index:
            index_phantoms(index, encoder, encoder_folder, lose)
            assert not verify(index).faults
            assert index.catalog.counts()["studies"] == {"phantom": 9}
        assert "does not answer; trying again (0 s of 60 s)" in lines[0]
        assert lines[-1].endswith("answers again")


def test_a_job_without_postgres_stops_with_a_sentence_and_the_next_completes_it(
    home: Path, encoder: Encoder, encoder_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIMILARITY_SERVER_WAIT_SECONDS", "0.01")
    with stoppable_server() as (url, stop, start), fresh_database(url) as own:
        monkeypatch.setenv("SIMILARITY_DATABASE_URL", own)
        settings.cache_clear()
        with Index.open(read_only=False) as index:
            with pytest.raises(ServerUnavailable, match="What was done so far is safe") as caught:
                index_phantoms(
                    index, encoder, encoder_folder, lambda stage, _: stop() if stage == "vectors" else None
                )
            assert "\n" not in str(caught.value)
            start()
            index_phantoms(index, encoder, encoder_folder)  # the pool recovers, nothing is opened anew
            assert not verify(index).faults
            assert index.catalog.counts()["studies"] == {"phantom": 9}
