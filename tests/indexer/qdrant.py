"""A real Qdrant server for tests: one that an option names, or one of this session's own from its binary.

The server of a session has a folder and a key of its own. It runs on when its session is killed, so servers
of dead sessions are stopped before another starts.
"""

import itertools
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psycopg
import pytest
from pydantic import SecretStr
from qdrant_client import QdrantClient

from indexer.servers import Servers
from tests.indexer.postgres import fresh_database
from tests.waiting import eventually

API_KEY_VARIABLE = "SIMILARITY_TEST_QDRANT_API_KEY"
"""Environment variable of the key of `--qdrant-url`, so that it stands in no list of processes."""

_FOLDER = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path(tempfile.gettempdir())
_PREFIX = "similarity-qdrant-"
_PID_FILE = "pid"
_PROBE_SECONDS = 5.0  # of one look at a server that may hang
_CALL_SECONDS = 600  # a time limit decides nothing
_servers = itertools.count()


@dataclass(frozen=True)
class Qdrant:
    """Where a Qdrant server is. `server`: its process, where the session started it."""

    url: str
    api_key: str | None = field(default=None, repr=False)
    server: "QdrantServer | None" = None

    def environment(self) -> dict[str, str]:
        """Return the environment of a command that uses the server."""
        named = {"SIMILARITY_QDRANT_URL": self.url}
        return named if self.api_key is None else named | {"SIMILARITY_QDRANT_API_KEY": self.api_key}

    def client(self) -> QdrantClient:
        """Return a client of it; the caller closes it."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Api key is used with an insecure connection")
            return QdrantClient(
                url=self.url, api_key=self.api_key, check_compatibility=False, timeout=_CALL_SECONDS
            )


class QdrantServer:
    """A Qdrant process with its own storage, key and ports, which stay the same when it starts again."""

    def __init__(self, binary: Path, folder: Path) -> None:
        """Use an empty folder; `start` starts it."""
        self._binary, self._folder = binary, folder
        self._ports = _free_ports(2)
        self._process: subprocess.Popen[bytes] | None = None
        self.api_key = secrets.token_hex(16)
        self.url = f"http://127.0.0.1:{self._ports[0]}"

    @property
    def port(self) -> int:
        """The port of its REST interface."""
        return self._ports[0]

    @property
    def where(self) -> Qdrant:
        """Its address and key."""
        return Qdrant(self.url, self.api_key, self)

    def start(self) -> None:
        """Start it on its storage, and return when it answers."""
        assert self._process is None, "it runs"
        options = {
            "STORAGE__STORAGE_PATH": self._folder / "storage",
            "STORAGE__SNAPSHOTS_PATH": self._folder / "snapshots",
            "STORAGE__WAL__WAL_CAPACITY_MB": 1,  # of every collection; a test has few points in many
            "STORAGE__OPTIMIZERS__DEFAULT_SEGMENT_NUMBER": 1,
            "SERVICE__HOST": "127.0.0.1",
            "SERVICE__HTTP_PORT": self._ports[0],
            "SERVICE__GRPC_PORT": self._ports[1],
            "SERVICE__API_KEY": self.api_key,
            "TELEMETRY_DISABLED": "true",
            "LOG_LEVEL": "WARN",
        }
        environment = os.environ | {f"QDRANT__{name}": str(value) for name, value in options.items()}
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._binary)],
                cwd=self._folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        (self._folder / _PID_FILE).write_text(str(self._process.pid))
        eventually(self._ready)

    def stop(self) -> None:
        """Kill it, as a crash does. A server that does not run is left so."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Stop it in its tracks: connections are accepted and nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)
        eventually(self._ready)

    def _ready(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            tail = (self._folder / "log").read_text(errors="replace")[-2_000:]
            raise AssertionError(f"Qdrant ended with status {self._process.returncode}: {tail}")
        try:
            return httpx.get(f"{self.url}/readyz", timeout=_PROBE_SECONDS, trust_env=False).is_success
        except httpx.HTTPError:
            return False


@contextmanager
def qdrant_server(binary: Path) -> Iterator[QdrantServer]:
    """Start a server from its binary, and stop it; nothing of it stays."""
    _stop_dead_servers()
    folder = _FOLDER / f"{_PREFIX}{os.getpid()}-{next(_servers)}"
    folder.mkdir(mode=0o700)
    server = QdrantServer(binary.absolute(), folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


_OPENED = pytest.StashKey[Qdrant]()


def real_qdrant(config: pytest.Config) -> Qdrant | None:
    """Return the server that the options name; None without one.

    That of `--qdrant-binary` is started once in a process of the suite, and stopped when it ends.
    """
    if url := config.getoption("--qdrant-url"):
        return Qdrant(url, config.getoption("--qdrant-api-key") or os.environ.get(API_KEY_VARIABLE))
    binary = config.getoption("--qdrant-binary")
    if not binary:
        return None
    if _OPENED not in config.stash:
        running = ExitStack()
        server = running.enter_context(qdrant_server(Path(binary)))
        config.add_cleanup(running.close)
        config.stash[_OPENED] = server.where
    return config.stash[_OPENED]


def has_real_qdrant(config: pytest.Config) -> bool:
    """Return whether an option names a server; none is started."""
    return bool(config.getoption("--qdrant-url") or config.getoption("--qdrant-binary"))


@contextmanager
def index_servers(qdrant: Qdrant, postgres: str) -> Iterator[dict[str, str]]:
    """The environment of a new index on both servers; its database and its collections are dropped."""
    with fresh_database(postgres) as own:
        try:
            yield qdrant.environment() | {"SIMILARITY_DATABASE_URL": own}
        finally:
            _drop_collections(qdrant, namespace_of_database(own))


def servers_of(environment: Mapping[str, str]) -> Servers:
    """Return the servers that an environment names."""
    names = ("DATABASE_URL", "QDRANT_URL", "QDRANT_API_KEY")
    named = (environment.get(f"SIMILARITY_{name}") for name in names)
    return Servers(*(None if text is None else SecretStr(text) for text in named))


def _drop_collections(qdrant: Qdrant, namespace: str) -> None:
    """Drop what an index has on the server; everything else there is another's."""
    with closing(qdrant.client()) as client:
        for entry in client.get_collections().collections if namespace else ():
            if entry.name.startswith(namespace):
                client.delete_collection(entry.name)


def namespace_of_database(database_url: str) -> str:
    """Return the namespace of the index in a database; empty where there is no index."""
    with psycopg.connect(database_url) as connection, suppress(psycopg.errors.UndefinedTable):
        row = connection.execute("SELECT namespace FROM index_identity").fetchone()
        return str(row[0]) if row else ""
    return ""


def _free_ports(count: int) -> list[int]:
    """Return ports that no one listens on now."""
    with ExitStack() as taken:
        sockets = [taken.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _stop_dead_servers() -> None:
    for folder in _FOLDER.glob(f"{_PREFIX}*"):
        session = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if not session.isdigit() or Path(f"/proc/{session}").exists():
            continue
        with suppress(OSError, ValueError):
            pid = int((folder / _PID_FILE).read_text())
            if Path(f"/proc/{pid}/cwd").resolve() == folder:  # the number may be another's by now
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)
