"""Failures of the database: which there are, and what each means, without parameters, users or passwords."""

import re
import sqlite3

import sqlalchemy as sa

from corpus.errors import HomeError, ServerUnavailable
from corpus.notices import one_line
from indexer.servers import DATABASE_SETTING, POSTGRES_PORT

DatabaseError = sa.exc.SQLAlchemyError
"""Any failure of a statement that is not raised as `HomeError`."""
OperationalError = sa.exc.OperationalError
"""The database itself failed."""
NoFreeConnection = sa.exc.TimeoutError
"""No connection of the pool became free in time."""

_LONGEST = 200  # characters of the server's own words

_LOOK = f"look at {DATABASE_SETTING}"

_BY_STATE = {
    "28P01": (f"it refuses the user or the password: {_LOOK}", False),
    "28000": (f"it refuses the user: {_LOOK}", False),
    "3D000": (f"it has no database of that name: make it, or {_LOOK}", False),
    "42501": ("the user may not do this there: grant the user the schema's tables", False),
    "25006": ("it is read-only (a standby?): name the primary server", False),
    "53300": ("it has no connection left: raise its max_connections, or end other programs", True),
    "53100": ("the disk is full; make room and run the command again", False),
    "25P03": ("it ended a transaction that was idle for too long", True),
    "57P01": ("it was shut down", True),
    "57P02": ("it crashed", True),
    "57P03": ("it is starting or shutting down", True),
    "55P03": ("another program writes to it for long: run the command again when that has ended", True),
    "57014": ("it gave the statement up (its statement_timeout)", False),
}
"""SQLSTATE → what it means, and whether a later try may succeed."""

_BY_WORDS = (
    ("the database system is ", *_BY_STATE["57P03"]),  # starting up, shutting down, in recovery mode, …
    ("password authentication failed", *_BY_STATE["28P01"]),
    ("no password supplied", f"it wants a password: {_LOOK}", False),
    ("no pg_hba.conf entry", f"it admits no connection from this host with this user: {_LOOK}", False),
    ("role ", f"it does not know the user: {_LOOK}", False),
    ("database ", *_BY_STATE["3D000"]),
    ("connection refused", f"it does not answer (connection refused): start it, or {_LOOK}", True),
    ("no such file or directory", f"it does not answer: start it, or {_LOOK}", True),
    ("too many clients", *_BY_STATE["53300"]),
    ("too many connections", *_BY_STATE["53300"]),
    ("failed to resolve host", f"the host is not known: {_LOOK}", True),
    ("could not translate host name", f"the host is not known: {_LOOK}", True),
    ("certificate", "its certificate is not trusted: name its authority with sslrootcert in the URL", False),
    ("does not support ssl", "it has no TLS, which sslmode in the URL demands", False),
    ("received invalid response", f"what answers is no Postgres: {_LOOK}", False),
    ("expected authentication request", f"what answers is no Postgres: {_LOOK}", False),
    ("ssl error", f"there is no TLS connection with it: {_LOOK}", False),
    ("invalid connection option", f"the URL has an option that Postgres does not know: {_LOOK}", False),
    ("invalid", f"the URL has an option with a value that Postgres does not know: {_LOOK}", False),
    ("timeout", f"it does not answer in time: start it, or {_LOOK}", True),
    ("timed out", f"it does not answer in time: start it, or {_LOOK}", True),
    ("no route to host", f"it cannot be reached: start it, or {_LOOK}", True),
    ("network is unreachable", f"it cannot be reached: {_LOOK}", True),
    ("closed the connection", "it ended the connection", True),
    ("connection reset", "it ended the connection", True),
    ("lost synchronization", "it ended the connection", True),
)
"""Words of a failed connection, which has no SQLSTATE; the first that occurs decides."""


def address_of(url: sa.URL) -> str:
    """Return host and port of a Postgres server, for messages: no user, no password, no options."""
    host = url.host or str(url.query.get("host", "")) or "the local socket"
    return host if host.startswith(("/", "the ")) else f"{host}:{url.port or POSTGRES_PORT}"


def is_disk_full(error: sa.exc.OperationalError) -> bool:
    """Whether a statement failed for want of disk space: SQLite's SQLITE_FULL, Postgres' class 53100."""
    sqlite, postgres = getattr(error.orig, "sqlite_errorname", ""), getattr(error.orig, "sqlstate", "")
    return sqlite == "SQLITE_FULL" or postgres == "53100"


def is_of_server(error: sa.exc.DBAPIError, disconnected: bool) -> bool:
    """Whether a database error is the server's, file's or network's, not of the statement."""
    if isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError) or disconnected:
        return True
    damaged = type(error.orig) is sqlite3.DatabaseError  # SQLite: the file is no database
    return damaged or getattr(error.orig, "sqlstate", "") in _BY_STATE


def database_error(engine: sa.Engine, error: sa.exc.DBAPIError, disconnected: bool = False) -> HomeError:
    """Return the error to raise for a failure that `is_of_server`, its message in one line."""
    if engine.dialect.name != "postgresql":
        return _of_file(engine.url, error)
    meaning, away = _of_postgres(error)
    return ServerUnavailable(
        f"Postgres at {address_of(engine.url)} cannot be used: {meaning}",
        "Postgres",
        away=away or disconnected,
    )


def _of_postgres(error: sa.exc.DBAPIError) -> tuple[str, bool]:
    state = getattr(error.orig, "sqlstate", None) or ""
    if state in _BY_STATE:
        return _BY_STATE[state]
    words = " ".join(str(error.orig or "").split())
    for sign, meaning, away in _BY_WORDS:
        if sign in words.lower():
            return meaning, away
    if state:
        return f"it refuses with SQLSTATE {state}", False
    return f"there is no connection ({type(error.orig).__name__}): start it, or {_LOOK}", True


def _of_file(url: sa.URL, error: sa.exc.DBAPIError) -> HomeError:
    lines = str(error.orig or "").strip().splitlines() or [type(error).__name__]
    reason = one_line(lines[0])[:_LONGEST]
    if "full" in reason:
        reason = "the disk is full; make room and run the command again"
    elif re.search("read-?only", reason):
        reason = "it is read-only; name another home with SIMILARITY_HOME"
    elif "not a database" in reason or "malformed" in reason:
        reason = f"the file is damaged ({reason}); restore it from a backup"
    elif "locked" in reason:
        reason = "another process has locked it; run the command again when that has ended"
    return HomeError(f"the catalog {url.database} cannot be used: {reason}")
