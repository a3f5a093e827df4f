"""A small world to break: two indexes on one Qdrant and one Postgres, a stranger's collections beside them.

The Qdrant is a real one behind a proxy where an option names one, else the client's own engine in memory,
whose calls fail as a server's do.
"""

import json
import random
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
import sqlalchemy as sa
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from corpus.settings import settings
from indexer.home import Home
from indexer.servers import Servers
from tests.indexer.cases import draw, write_manifest
from tests.indexer.machines import (
    MINUTE,
    Clock,
    Machine,
    ProcessMachine,
    ThreadMachine,
    WatchedClient,
    unwatch_databases,
    watch_databases,
)
from tests.indexer.postgres import fresh_database, stoppable_server
from tests.indexer.proxy import Proxy, proxied, to_port, to_socket
from tests.indexer.qdrant import Qdrant, index_servers, namespace_of_database, servers_of

_TURN_SECONDS = 0.01
_STRANGE_DIM = 32  # as the encoders have

SECRETS = ("hunter2", "s3cret-api-key")
"""Password of Postgres (which trusts everyone here) and key of the Qdrant in memory: no message has them."""

Contents = dict[str, dict[str, tuple[str, str]]]
"""Collection as the server names it → point → payload and vectors, as text."""


class Line(Protocol):
    """The line to a server, and the server."""

    def disconnect(self) -> None:
        """Refuse every call."""
        ...

    def hang(self) -> None:
        """Answer no call."""
        ...

    def lose_answers(self, count: int) -> None:
        """Do what is asked, and lose the answer, so many times."""
        ...

    def heal(self) -> None:
        """Be well again."""
        ...


class MemoryQdrant:
    """The client's own engine, as a server that all machines of this process share."""

    def __init__(self) -> None:
        """Be empty and well."""
        self.client = QdrantClient(":memory:")
        self._one_at_a_time = threading.Lock()
        self._failure: Exception | None = None
        self._losing = 0

    def disconnect(self) -> None:
        """See `Line.disconnect`."""
        self._failure = ResponseHandlingException(httpx.ConnectError("[Errno 111] Connection refused"))

    def hang(self) -> None:
        """See `Line.hang`: a call's time is over at once."""
        self._failure = ResponseHandlingException(httpx.ReadTimeout("timed out"))

    def fill_disk(self) -> None:
        """Refuse as a server does whose disk is full."""
        words = {"status": {"error": "Service internal error: No space left on device"}, "time": 0.0}
        self._failure = UnexpectedResponse(500, "", json.dumps(words).encode(), httpx.Headers())

    def lose_answers(self, count: int) -> None:
        """See `Line.lose_answers`."""
        self._losing = count

    def heal(self) -> None:
        """See `Line.heal`."""
        self._failure, self._losing = None, 0

    def connect(self, *_: Any, **__: Any) -> Any:
        """Return a client, as `indexer.vectors.client.connect` does."""
        return WatchedClient(_Calls(self))

    def call(self, method: str, *args: Any, **options: Any) -> Any:
        """Make a call of the engine, unless it fails."""
        with self._one_at_a_time:
            if self._failure is not None:
                raise self._failure
            answer = getattr(self.client, method)(*args, **options)
            if self._losing:
                self._losing -= 1
                raise ResponseHandlingException(httpx.ReadError("[Errno 104] Connection reset by peer"))
            return answer


class _Calls:
    """A client: its methods are calls of a `MemoryQdrant`."""

    def __init__(self, server: MemoryQdrant) -> None:
        self._server = server

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **options: self._server.call(name, *args, **options)

    def close(self) -> None:
        """Leave the engine to the others."""


class Postgres:
    """A Postgres behind a proxy. `port`: of the proxy."""

    def __init__(self, line: Proxy, stop: Any, start: Any) -> None:
        """Use what is open; `stop` and `start` crash the server and start it again."""
        self.line, self.stop, self._start = line, stop, start
        self._stopped = False

    def crash(self) -> None:
        """Stop it as a power cut does."""
        self.stop()
        self._stopped = True

    def heal(self) -> None:
        """Start it where it was stopped, and mend its line."""
        if self._stopped:
            self._start()
            self._stopped = False
        self.line.heal()


@dataclass
class IndexModel:
    """An index as it must be. `machines`: that write to it; `reports`: the text of each study; `encoder`:
    folder of the active version's."""

    name: str
    machines: Sequence[Machine]
    servers: Servers
    reports: dict[str, str] = field(default_factory=dict)
    encoder: str = ""

    @property
    def home(self) -> Path:
        """The home of its first machine."""
        return self.machines[0].home


STUDIES = 10
IMAGES = (0, 5, 8)
"""Which studies have an image beside the report."""


@dataclass
class World:
    """Everything. `real`: the Qdrant server and its proxy, where it is one."""

    folder: Path
    rng: random.Random
    postgres: Postgres
    qdrant: Line
    indexes: Sequence[IndexModel]
    database_urls: Mapping[str, str]
    client: QdrantClient
    real: Qdrant | None
    disk_is_full: "FullDisk"
    foreign: tuple[str, ...]
    patch: pytest.MonkeyPatch
    clock: Clock
    _namespaces: dict[str, str] = field(default_factory=dict)
    _qdrant_crashed: bool = False

    def write(self, name: str, texts: Mapping[int, str]) -> str:
        """Write a table of studies with these reports; the source's name on the command line."""
        folder = self.folder / "cases"
        rows = []
        for number, text in texts.items():
            row = {"study_id": f"s{number}", "subject_id": f"p{number // 2}", "report": text}
            if number in IMAGES:
                row["image"] = str(folder / f"{number}.png")
            rows.append(row)
        made = folder / name
        made.mkdir(exist_ok=True)
        return write_manifest(made, rows)

    def contents(self) -> Contents:
        """Return everything of the indexes and the stranger on the Qdrant server, past every fault."""
        starts = (*self.foreign, *filter(None, map(self.namespace, self.indexes)))
        names = [entry.name for entry in self.client.get_collections().collections]
        return {name: _points(self.client, name) for name in names if name.startswith(starts)}

    def namespace(self, index: IndexModel) -> str:
        """Return how the names of an index's collections begin."""
        if not self._namespaces.get(index.name):
            self._namespaces[index.name] = namespace_of_database(self.database_urls[index.name])
        return self._namespaces[index.name]

    def aliases(self) -> dict[str, str]:
        """Return which collection each alias names."""
        return {entry.alias_name: entry.collection_name for entry in self.client.get_aliases().aliases}

    def be_patient(self, seconds: float) -> None:
        """Let runs wait for so long for a server that goes away. None is in progress."""
        self.patch.setenv("SIMILARITY_SERVER_WAIT_SECONDS", str(seconds))
        settings.cache_clear()

    def pass_time(self) -> None:
        """Let every run that is paused or dead be one that was not heard of for a minute."""
        self.clock.skew += MINUTE
        for url in self.database_urls.values():
            with psycopg.connect(url) as connection:
                connection.execute("UPDATE lease SET seen = seen - %s * interval '1 second'", (MINUTE,))

    def crash_qdrant(self) -> None:
        """Kill the Qdrant server."""
        assert self.real is not None
        assert self.real.server is not None
        self.real.server.stop()
        self._qdrant_crashed = True

    def heal(self) -> None:
        """Let everything be well."""
        if self._qdrant_crashed and self.real is not None and self.real.server is not None:
            self.real.server.start()
            self._qdrant_crashed = False
        self.postgres.heal()
        self.qdrant.heal()
        self.disk_is_full.end()


class FullDisk:
    """Lets every home of this process find its disk full."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch

    def begin(self) -> None:
        """Want more free bytes than there are."""
        self._patch.setattr("indexer.home.RESERVE_BYTES", 1 << 62)

    def end(self) -> None:
        """Want none."""
        self._patch.setattr("indexer.home.RESERVE_BYTES", 0)


@contextmanager
def open_world(
    folder: Path,
    rng: random.Random,
    encoders: Mapping[str, Any],
    qdrant: Qdrant | None,
    patch: pytest.MonkeyPatch,
) -> Iterator[World]:
    """Make a world: index A of two machines, B of one, and collections of a stranger."""
    with ExitStack() as opened:
        url, stop, start = opened.enter_context(stoppable_server())
        reached_by = next(Path(str(sa.make_url(url).query["host"])).glob(".s.PGSQL.*[0-9]"))
        postgres = Postgres(opened.enter_context(proxied(to_socket(reached_by))), stop, start)
        opened.callback(postgres.heal)
        real, clock = None, Clock()
        if qdrant is None:
            memory = MemoryQdrant()
            line: Line = memory
            client = memory.client
            address = {"SIMILARITY_QDRANT_URL": "http://qdrant", "SIMILARITY_QDRANT_API_KEY": SECRETS[1]}
            patch.setattr("indexer.vectors.client.connect", memory.connect)
            _hurry(patch, clock)
            watch_databases()
            opened.callback(unwatch_databases)
        else:
            real = qdrant
            target = httpx.URL(qdrant.url)
            proxy = opened.enter_context(proxied(to_port(target.port or 6333)))
            line = proxy
            address = Qdrant(f"http://127.0.0.1:{proxy.port}", qdrant.api_key).environment()
            client = qdrant.client()
            opened.callback(client.close)
        (folder / "cases").mkdir()
        for number in IMAGES:
            draw(folder / "cases" / f"{number}.png", number)
        disk, foreign = FullDisk(patch), _strangers(client, encoders, qdrant)
        opened.callback(lambda: [client.delete_collection(name) for name in foreign])
        indexes, urls = [], {}
        for name, count in (("A", 2), ("B", 1)):
            own = opened.enter_context(_database(url, qdrant))
            urls[name] = own
            through = sa.make_url(own).set(
                username="postgres", password=SECRETS[0], host="127.0.0.1", port=postgres.line.port, query={}
            )
            environment = address | {"SIMILARITY_DATABASE_URL": through.render_as_string(hide_password=False)}
            servers = servers_of(environment)
            homes = [folder / f"{name}{number}" for number in range(count)]
            for home in homes:
                Home.open(home)
            for home in homes[1:]:
                shutil.copy(homes[0] / ".key", home / ".key")
            if qdrant is None:
                machines: list[Machine] = [ThreadMachine(h, servers, encoders, disk.begin) for h in homes]
            else:
                machines = []
                for home in homes:
                    machine = ProcessMachine(home, environment)
                    opened.callback(machine.close)
                    machines.append(machine)
            indexes.append(IndexModel(name, machines, servers))
        world = World(folder, rng, postgres, line, indexes, urls, client, real, disk, foreign, patch, clock)
        opened.callback(world.heal)
        yield world


def _hurry(patch: pytest.MonkeyPatch, clock: Clock) -> None:
    """Let runs of this process commit every small step, and wait by milliseconds; leases take our clock."""
    patch.setattr("indexer.ingest.pipeline.STEP_STUDIES", 3)
    patch.setattr("indexer.ingest.pending.COMMIT_SECONDS", 0.0)
    patch.setattr("indexer.retries._FIRST_SECONDS", _TURN_SECONDS)
    patch.setattr("indexer.retries._LONGEST_SECONDS", 2 * _TURN_SECONDS)
    patch.setattr("indexer.vectors.server._REST_SECONDS", 0.0)
    patch.setattr("indexer.write_lease.RENEW_SECONDS", threading.TIMEOUT_MAX / 2)
    patch.setattr("indexer.write_lease.time", clock)


def _strangers(client: QdrantClient, encoders: Mapping[str, Any], qdrant: Qdrant | None) -> tuple[str, ...]:
    """Make collections of a stranger, one of them of the name that an encoder's had in earlier versions."""
    names = [f"stranger_{uuid4().hex}"]
    if qdrant is None or qdrant.server is not None:  # else other tests may use the name now
        names += [f"images__{encoder.fingerprint[:8]}" for encoder in encoders.values()]
    for name in names:
        client.create_collection(name, models.VectorParams(size=_STRANGE_DIM, distance=models.Distance.DOT))
        points = [
            models.PointStruct(
                id=str(UUID(int=n)), vector=[float(n)] * _STRANGE_DIM, payload={"whose": "theirs"}
            )
            for n in range(1, 6)
        ]
        client.upsert(name, points, wait=True)
    return tuple(names)


def _points(client: QdrantClient, collection: str) -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    offset = None
    while True:
        page, offset = client.scroll(
            collection, offset=offset, limit=1_000, with_payload=True, with_vectors=True
        )
        for record in page:
            payload = json.dumps(record.payload, sort_keys=True)
            found[str(record.id)] = payload, json.dumps(record.vector, default=lambda v: v.model_dump())
        if offset is None:
            return found


@contextmanager
def _database(url: str, qdrant: Qdrant | None) -> Iterator[str]:
    """A database of a new index; what it has on a real server is dropped with it."""
    if qdrant is None:
        with fresh_database(url) as own:
            yield own
        return
    with index_servers(qdrant, url) as environment:
        yield environment["SIMILARITY_DATABASE_URL"]
