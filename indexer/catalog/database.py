"""Opening the catalog's database and bringing its tables up to date."""

import logging
import math
import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy import event

import migrations
from corpus.errors import IndexingError, ReadOnlyIndex
from corpus.settings import settings
from indexer.addresses import address_of, postgres_url
from indexer.catalog.database_failures import database_error, is_of_server
from indexer.home import Home, home_error
from indexer.retries import Patience
from indexer.servers import Servers
from indexer.vectors.read_only import OPENED_READ_ONLY

log = logging.getLogger(__name__)

_PATIENCE = "similarity_patience"
_CONNECT_SECONDS = 10
_MIGRATION_LOCK = 0x53494D49  # Postgres advisory lock, so that two processes do not migrate at once
_READINGS = ("SELECT", "PRAGMA", "SHOW")  # what the statements begin with that only read


def database_url(home: Home, servers: Servers | None = None) -> sa.URL:
    """The database of this home: that of its servers (default: as the settings have it), else a SQLite file.

    Raises:
        HomeError: what is named is no URL of a database; it is not repeated.
    """
    named = (servers or Servers.named()).database_url
    if named is None:
        return sa.URL.create("sqlite", database=str(home.catalog_file))
    return postgres_url(named.get_secret_value())


def open_database(
    home: Home,
    patience: Patience | None = None,
    *,
    read_only: bool = False,
    servers: Servers | None = None,
) -> sa.Engine:
    """Open the catalog's database, its tables made or migrated to what this program knows.

    Args:
        home: whose catalog it is.
        patience: of what is `repeated` on it, when its server goes away; default none.
        read_only: whatever would write to it after that raises `ReadOnlyIndex`.
        servers: that the index is on; default as the settings have it.

    Raises:
        HomeError: it cannot be reached or written.
        IndexingError: it was made by a newer version of the program.
    """
    url, patience = database_url(home, servers), patience or Patience()
    engine = make_engine(url, patience)
    try:
        if url.get_backend_name() == "sqlite":
            _make_private(Path(str(url.database)))
        with home.lock(name="catalog"):
            patience.ask(lambda: migrate(engine), url.get_backend_name())
    except OSError as error:
        engine.dispose()
        raise home_error(home.folder, error) from error
    except BaseException:
        engine.dispose()
        raise
    if read_only:
        event.listen(engine, "before_cursor_execute", _refuse_to_write)
    return engine


def make_engine(url: sa.URL, patience: Patience | None = None) -> sa.Engine:
    """An engine with what each database needs: WAL and foreign keys on SQLite, time limits on Postgres.

    Where the server, the file or the network fails, its calls raise `HomeError` in place of SQLAlchemy's
    errors; what is wrong with a statement stays SQLAlchemy's.
    """
    sqlite = url.get_backend_name() == "sqlite"
    # Parameters are cases and names: they belong in no traceback and no log.
    # A server may have been restarted since a connection was used last: a file may not.
    engine = sa.create_engine(
        url,
        hide_parameters=True,
        pool_pre_ping=not sqlite,
        connect_args={} if sqlite else _time_limits(url),
        execution_options={_PATIENCE: patience or Patience()},
    )
    if sqlite:
        event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "handle_error", _explain)
    return engine


class _OnEngine(Protocol):
    """What reads or writes through an engine."""

    @property
    def engine(self) -> sa.Engine:
        """Through which one."""
        ...


Self = TypeVar("Self", bound=_OnEngine)
Given = ParamSpec("Given")
Result = TypeVar("Result")


def repeated(
    method: Callable[Concatenate[Self, Given], Result],
) -> Callable[Concatenate[Self, Given], Result]:
    """Have a method called again while the engine's server is away, within the engine's patience.

    The method reads, or writes in one transaction that may be made twice, since nobody knows whether a
    transaction whose end was not heard came to pass; its arguments can be read twice, too.
    """

    @wraps(method)
    def repeating(self: Self, /, *args: Given.args, **kwargs: Given.kwargs) -> Result:
        return _patiently(self.engine, lambda: method(self, *args, **kwargs))

    return repeating


def repeated_query(
    query: Callable[Concatenate[sa.Engine, Given], Result],
) -> Callable[Concatenate[sa.Engine, Given], Result]:
    """As `repeated`, of a function that reads from an engine."""

    @wraps(query)
    def repeating(engine: sa.Engine, /, *args: Given.args, **kwargs: Given.kwargs) -> Result:
        return _patiently(engine, lambda: query(engine, *args, **kwargs))

    return repeating


def _patiently(engine: sa.Engine, call: Callable[[], Result]) -> Result:
    patience: Patience = engine.get_execution_options().get(_PATIENCE) or Patience()
    return patience.ask(call, f"Postgres at {address_of(engine.url)}")


def migrate(engine: sa.Engine) -> None:
    """Bring the tables up to date; quick where they are.

    Raises:
        IndexingError: the tables are of a newer version of the program.
    """
    if _revision(engine) == migrations.HEAD:
        return
    from alembic import command  # late: a search on a current catalog need not pay for it
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent).replace("%", "%%"))
    with engine.begin() as connection:
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
    """The sentence in place of what a driver says of a server that fails; a ping's failure is the pool's."""
    error = context.sqlalchemy_exception
    if context.is_pre_ping or context.engine is None or not isinstance(error, sa.exc.DBAPIError):
        return None
    connecting = context.connection is None
    if not connecting and not is_of_server(error, context.is_disconnect):
        return None
    return database_error(context.engine, error, context.is_disconnect)


def _time_limits(url: sa.URL) -> dict[str, int]:
    """What ends a call on a server that went silent; what the URL itself says counts before it."""
    seconds = math.ceil(settings().server_timeout_seconds)
    limits = {
        "connect_timeout": min(seconds, _CONNECT_SECONDS),
        "tcp_user_timeout": seconds * 1000,
        "keepalives_idle": seconds,
        "keepalives_interval": max(1, seconds // 3),
        "keepalives_count": 3,
    }
    return {name: value for name, value in limits.items() if name not in url.query}


def _revision(engine: sa.Engine) -> str | None:
    if not sa.inspect(engine).has_table("alembic_version"):
        return None
    with engine.connect() as connection:
        return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()


def _make_private(file: Path) -> None:
    """Make the SQLite file before SQLite does: its journals take over its mode."""
    os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
    if file.stat().st_mode & 0o077:
        file.chmod(0o600)


def _refuse_to_write(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
    if not statement.lstrip().upper().startswith(_READINGS):
        raise ReadOnlyIndex(OPENED_READ_ONLY)


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA busy_timeout=30000")
    # A power cut may take back the last commits, never tear one: the next `index add` does them again.
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()
