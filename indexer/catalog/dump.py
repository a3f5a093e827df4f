"""Every row of every table as lines of JSON, and back: for a backup, independent of the database."""

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from indexer.catalog.database import Connected
from indexer.catalog.identity import end_restore
from indexer.catalog.leases import fence
from indexer.catalog.models import Base, ClaimRow, IdentityRow, LeaseRow

_ROWS = 2_000  # in one part: no more is in memory at a time
_LEFT_OUT = {row.__tablename__ for row in (IdentityRow, LeaseRow, ClaimRow)}
"""Tables of the runs that write now, and of the identity, which a backup carries beside its rows."""


def dump_rows(catalog: Connected) -> Iterator[tuple[str, list[str]]]:
    """Yield (table, rows) of every table, as of one moment, in the order in which they can be restored.

    A row is a JSON list of its columns' values; a table has as many parts as its rows need, at least none.
    """
    engine = catalog.engine
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            connection = connection.execution_options(isolation_level="REPEATABLE READ")
        for table in _tables():
            result = connection.execution_options(yield_per=_ROWS).execute(
                sa.select(table).order_by(*table.primary_key.columns)
            )
            for rows in result.partitions():
                yield table.name, [json.dumps([_to_json(value) for value in row]) for row in rows]


def restore_rows(
    catalog: Connected, parts: Iterable[tuple[str, list[str]]], lease_id: UUID | None = None
) -> None:
    """Insert what `dump_rows` yielded, in one transaction, which ends the restore of the catalog.

    Tables that were dropped since are skipped.

    Args:
        catalog: empty.
        parts: (table, rows).
        lease_id: of the run that writes.

    Raises:
        LeaseLost: another run replaced it.
    """
    engine = catalog.engine
    tables = {table.name: table for table in _tables()}
    with engine.begin() as connection:
        if lease_id is not None:
            fence(connection, lease_id)
        for name, lines in parts:
            if name not in tables:
                continue
            columns = list(tables[name].columns)
            rows = [
                {c.name: _from_json(c, value) for c, value in zip(columns, json.loads(line), strict=True)}
                for line in lines
            ]
            if rows:
                connection.execute(sa.insert(tables[name]), rows)
        end_restore(connection)
        if engine.dialect.name == "postgresql":
            # Numbers that the rows brought along were not drawn from the sequence: let it go on after them.
            connection.execute(
                sa.text(
                    "SELECT setval(pg_get_serial_sequence('audit', 'number'), "
                    "(SELECT COALESCE(MAX(number), 0) + 1 FROM audit), false)"
                )
            )


def table_names() -> list[str]:
    """Return the names of all tables, in the order of `dump_rows`."""
    return [table.name for table in _tables()]


def _tables() -> list[sa.Table]:
    """Return the tables of a dump, each after those that its rows refer to."""
    return [table for table in Base.metadata.sorted_tables if table.name not in _LEFT_OUT]


def _to_json(value: Any) -> Any:
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()
    return value.hex if isinstance(value, UUID) else value


def _from_json(column: sa.Column[Any], value: Any) -> Any:
    if value is None:
        return None
    if isinstance(column.type, sa.DateTime):
        return datetime.fromisoformat(value)
    return UUID(hex=value) if isinstance(column.type, sa.Uuid) else value
