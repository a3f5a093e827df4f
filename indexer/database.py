"""Opening the catalog's database and bringing its tables up to date."""

import logging
import os
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

import migrations
from corpus.errors import HomeError, IndexingError, ReadOnlyIndex
from corpus.settings import settings
from indexer.home import Home, home_error
from indexer.vectors.read_only import OPENED_READ_ONLY

log = logging.getLogger(__name__)

_MIGRATION_LOCK = 0x53494D49  # Postgres advisory lock, so that two processes do not migrate at once
_READINGS = ("SELECT", "PRAGMA", "SHOW")  # what the statements begin with that only read


def database_url(home: Home) -> sa.URL:
    """The database of this home: `SIMILARITY_DATABASE_URL`, else a SQLite file in the home."""
    named = settings().database_url
    if named is None:
        return sa.URL.create("sqlite", database=str(home.catalog_file))
    try:
        url = sa.make_url(named.get_secret_value())
    except sa.exc.ArgumentError:
        raise HomeError(
            "SIMILARITY_DATABASE_URL is no database URL; write postgresql://user:password@host/database"
        ) from None
    if url.get_backend_name() not in ("postgresql", "sqlite"):
        raise HomeError(f"SIMILARITY_DATABASE_URL names {url.get_backend_name()}; use postgresql")
    # The driver that is installed, whichever the URL names: others spell the scheme `postgresql://` too.
    return url.set(drivername="postgresql+psycopg") if url.get_backend_name() == "postgresql" else url


def open_database(home: Home, *, read_only: bool = False) -> sa.Engine:
    """Open the catalog's database, its tables made or migrated to what this program knows.

    Args:
        home: whose catalog.
        read_only: whatever would write to it after that raises `ReadOnlyIndex`.

    Raises:
        HomeError: it cannot be reached or written.
        IndexingError: it was made by a newer version of the program.
    """
    url = database_url(home)
    engine = make_engine(url)
    try:
        if url.get_backend_name() == "sqlite":
            _make_private(Path(str(url.database)))
        with home.lock(name="catalog"):
            migrate(engine)
    except OSError as error:
        engine.dispose()
        raise home_error(home.folder, error) from error
    except sa.exc.OperationalError as error:
        engine.dispose()
        raise database_error(engine, error) from error
    except BaseException:
        engine.dispose()
        raise
    if read_only:
        event.listen(engine, "before_cursor_execute", _refuse_to_write)
    return engine


def make_engine(url: sa.URL) -> sa.Engine:
    """An engine with what each database needs: WAL and foreign keys on SQLite."""
    # Parameters are cases and names: they belong in no traceback and no log.
    # A server may have been restarted since a connection was used last: a file may not.
    engine = sa.create_engine(url, hide_parameters=True, pool_pre_ping=url.get_backend_name() != "sqlite")
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
    return engine


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


def database_error(engine: sa.Engine, error: sa.exc.DBAPIError) -> HomeError:
    """What a failed statement means to a person, in one line and without its parameters."""
    reason = str(error.orig).strip().splitlines()[0] if error.orig else type(error).__name__
    where = engine.url.render_as_string(hide_password=True)
    if "full" in reason:
        reason = "the disk is full; make room and run the command again"
    elif "readonly" in reason or "read-only" in reason:
        reason = "it is read-only; name another home with SIMILARITY_HOME"
    return HomeError(f"the catalog {where} cannot be used: {reason}")


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
