"""The engine of the catalog: opening its database, migrating its tables, retries when its server is away."""

import logging
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy import event

import migrations
from corpus.errors import HomeError, IndexingError, ReadOnlyIndex
from corpus.settings import settings
from indexer.catalog.database_failures import address_of, database_error, is_of_server
from indexer.catalog.identity import ensure_identity
from indexer.home import Home, home_error
from indexer.retries import RetryPolicy
from indexer.servers import DATABASE_SETTING, POSTGRES_EXAMPLE, Servers, check_postgres_url
from indexer.vectors.store import OPENED_READ_ONLY

log = logging.getLogger(__name__)

_RETRY = "similarity_retry"
_CONNECT_SECONDS = 10
_MIGRATION_LOCK = 0x53494D49  # Postgres advisory lock, so that two processes do not migrate at once
_READ_STATEMENTS = ("SELECT", "PRAGMA", "SHOW")  # first words of the statements that only read


def database_url(home: Home, servers: Servers | None = None) -> sa.URL:
    """Return the URL of a home's database: that of its servers, else of a SQLite file in the home.

    Args:
        home: of the catalog.
        servers: default as the settings have it.

    Raises:
        HomeError: what is named is not the URL of a database; the message does not repeat it.
    """
    named = (servers or Servers.named()).database_url
    if named is None:
        return sa.URL.create("sqlite", database=str(home.catalog_file))
    return postgres_url(named.get_secret_value())


def postgres_url(text: str) -> sa.URL:
    """Parse the URL of a database; `postgres://` is read as `postgresql://`.

    Raises:
        HomeError: it is not one; the message says what is wrong and does not repeat the URL.
    """
    try:
        return sa.make_url(check_postgres_url(text))
    except (sa.exc.ArgumentError, ValueError):
        raise HomeError(f"{DATABASE_SETTING} is no database URL; {POSTGRES_EXAMPLE}") from None


def open_database(
    home: Home,
    retry: RetryPolicy | None = None,
    *,
    read_only: bool = False,
    servers: Servers | None = None,
) -> sa.Engine:
    """Open the catalog's database and migrate its tables to the newest revision.

    Args:
        home: of the catalog.
        retry: of `repeated` calls on it, when its server goes away; default none.
        read_only: any write after that raises `ReadOnlyIndex`.
        servers: that the index is on; default as the settings have it.

    Raises:
        HomeError: it cannot be reached or written.
        KeyMismatch: the index was made with another key than the home's.
        IndexingError: it was made by a newer version of the program.
    """
    url, retry = database_url(home, servers), retry or RetryPolicy()
    engine = make_engine(url, retry)
    try:
        if url.get_backend_name() == "sqlite":
            _make_private(Path(str(url.database)))
        with home.lock(name="catalog"):
            retry.run(lambda: migrate(engine), url.get_backend_name())
            retry.run(lambda: ensure_identity(engine, home), url.get_backend_name())
    except OSError as error:
        engine.dispose()
        raise home_error(home.folder, error) from error
    except BaseException:
        engine.dispose()
        raise
    if read_only:
        event.listen(engine, "before_cursor_execute", _refuse_to_write)
    return engine


def make_engine(url: sa.URL, retry: RetryPolicy | None = None) -> sa.Engine:
    """Make an engine with what each database needs: WAL and foreign keys on SQLite, time limits on Postgres.

    Where the server, the file or the network fails, its calls raise `HomeError` in place of SQLAlchemy's
    errors; a wrong statement still raises SQLAlchemy's.
    """
    sqlite = url.get_backend_name() == "sqlite"
    # Parameters are cases and names: they belong in no traceback and no log.
    # A server may have been restarted since a connection was used last: a file may not.
    engine = sa.create_engine(
        url,
        hide_parameters=True,
        pool_pre_ping=not sqlite,
        connect_args={} if sqlite else _time_limits(url),
        execution_options={_RETRY: retry or RetryPolicy()},
    )
    if sqlite:
        event.listen(engine, "connect", _prepare_sqlite)
    else:
        event.listen(engine, "do_connect", _connect)
    event.listen(engine, "handle_error", _explain)
    return engine


class Connected(Protocol):
    """What reaches the catalog's database: a `Catalog`, a store of one of its tables, an engine itself."""

    @property
    def engine(self) -> sa.Engine:
        """The engine of the catalog."""
        ...


Through = TypeVar("Through", bound=Connected)
Given = ParamSpec("Given")
Result = TypeVar("Result")


def repeated(
    call: Callable[Concatenate[Through, Given], Result],
) -> Callable[Concatenate[Through, Given], Result]:
    """Decorate a method or function to be called again while its server is away (the engine's `RetryPolicy`).

    It reads, or writes in one transaction that may run twice: when the connection breaks during a commit, the
    outcome is unknown. Its arguments can be read twice, too.
    """

    @wraps(call)
    def repeating(through: Through, /, *args: Given.args, **kwargs: Given.kwargs) -> Result:
        engine = through.engine
        retry: RetryPolicy = engine.get_execution_options().get(_RETRY) or RetryPolicy()
        return retry.run(lambda: call(through, *args, **kwargs), f"Postgres at {address_of(engine.url)}")

    return repeating


def in_utc(moment: datetime) -> datetime:
    """Return a moment read from a database with its zone: SQLite drops that it is UTC."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def migrate(engine: sa.Engine) -> None:
    """Migrate the tables to the newest revision; quick where they are of it.

    Raises:
        IndexingError: the tables are of a newer version of the program.
    """
    if revision_of(engine) == migrations.HEAD:
        return
    from alembic import command  # late: a search on a current catalog need not pay for it
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent).replace("%", "%%"))
    with engine.begin() as connection, _without_limit(connection):
        if engine.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise IndexingError(
                f"the catalog was written by a newer version of Similarity ({error}): update the program"
            ) from error
    log.info("catalog migrated to %s", migrations.HEAD)


def _explain(context: sa.ExceptionContext) -> BaseException | None:
    """Return our error in place of a driver's when a server fails; a failed ping is the pool's to handle."""
    error = context.sqlalchemy_exception
    if context.is_pre_ping or context.engine is None or not isinstance(error, sa.exc.DBAPIError):
        return None
    connecting = context.connection is None
    if not connecting and not is_of_server(error, context.is_disconnect):
        return None
    return database_error(context.engine, error, context.is_disconnect)


def _time_limits(url: sa.URL) -> dict[str, int]:
    """Return the limits that end a call on a silent server; the URL's own options win."""
    seconds = math.ceil(settings().server_timeout_seconds)
    limits = {
        "connect_timeout": min(seconds, _CONNECT_SECONDS),
        "tcp_user_timeout": seconds * 1000,
        "keepalives_idle": seconds,
        "keepalives_interval": max(1, seconds // 3),
        "keepalives_count": 3,
    }
    return {name: value for name, value in limits.items() if name not in url.query}


def revision_of(engine: sa.Engine) -> str | None:
    """Return the Alembic revision of the tables; None of an empty database."""
    if not sa.inspect(engine).has_table("alembic_version"):
        return None
    with engine.connect() as connection:
        return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()


def _connect(_dialect: Any, _record: Any, arguments: Any, options: dict[str, Any]) -> Any:
    from indexer.catalog.bounded_connection import BoundedConnection  # late: only for a server

    connection = BoundedConnection.connect(*arguments, **options)
    connection.answer_seconds = settings().server_timeout_seconds
    return connection


@contextmanager
def _without_limit(connection: sa.Connection) -> Iterator[None]:
    """Let a server take its time for an answer: to migrate a large table, or to wait for one that does."""
    if connection.dialect.name != "postgresql":
        yield
        return
    own: Any = connection.connection.driver_connection
    limit, own.answer_seconds = getattr(own, "answer_seconds", None), None
    try:
        yield
    finally:
        own.answer_seconds = limit


def _make_private(file: Path) -> None:
    """Create the SQLite file with mode 0600 before SQLite does: its journals inherit the mode."""
    os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
    if file.stat().st_mode & 0o077:
        file.chmod(0o600)


def _refuse_to_write(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
    if not statement.lstrip().upper().startswith(_READ_STATEMENTS):
        raise ReadOnlyIndex(OPENED_READ_ONLY)


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA busy_timeout=30000")
    # A power cut may take back the last commits, never tear one: the next `index add` does them again.
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()
