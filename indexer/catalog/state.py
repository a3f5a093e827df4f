"""The state of a catalog: what every search relies on beside studies, and what seldom changes.

Its stamp is a string that is equal while the state is. A search begins with the state that was read last and
reads the stamp with the studies that it found, in one statement; where it is another one, the search is done
again. So no search needs to ask for the state first.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import InstrumentedAttribute

from indexer.catalog.identity import Identity, identity_on
from indexer.catalog.models import EncoderRow, FilterFieldRow, IdentityRow
from indexer.vectors.filters import FieldType

ACTIVE = "active"
_BETWEEN = "\x1f"  # the unit separator, which no name contains


@dataclass(frozen=True, slots=True)
class Version:
    """An encoder that made vectors of the index.

    `fingerprint`: of the encoder. `name`, `folder`: of the encoder. `dim`: of its vectors. `state`: active,
    building, or retired.
    """

    fingerprint: str
    name: str
    dim: int
    folder: str
    state: str


@dataclass(frozen=True, slots=True)
class CatalogState:
    """What every search relies on beside studies.

    Attributes:
        stamp: equal while identity, active version, its folder and the fields are.
        identity: of the index; None before a version that knows identities opened it.
        active: the version that searches use; None before the first `index add`.
        own_fields: the filter fields that are columns of tables, with their types.
    """

    stamp: str
    identity: Identity | None
    active: Version | None
    own_fields: Mapping[str, FieldType]


def _joined(*columns: InstrumentedAttribute[Any]) -> sa.Select[str]:
    """Select every row's columns as one text, empty where there is no row."""
    row: sa.ColumnElement[str] = sa.literal("")
    for column in columns:
        row = row + sa.cast(column, sa.Text) + _BETWEEN
    return sa.select(sa.func.coalesce(sa.func.aggregate_strings(row, _BETWEEN), ""))


_VERSIONS = sa.select(
    EncoderRow.fingerprint, EncoderRow.name, EncoderRow.dim, EncoderRow.folder, EncoderRow.state
).order_by(EncoderRow.created)

_IDENTITY = (IdentityRow.index_id, IdentityRow.key_fingerprint, IdentityRow.namespace, IdentityRow.state)
STAMP = (
    _joined(*_IDENTITY).scalar_subquery()
    + _joined(EncoderRow.fingerprint, EncoderRow.folder).where(EncoderRow.state == ACTIVE).scalar_subquery()
    + _joined(FilterFieldRow.name, FilterFieldRow.type).scalar_subquery()
).label("stamp")
"""The stamp, as a column of any statement."""


def read_stamp(connection: sa.Connection) -> str:
    """Return the stamp of the state that the catalog is in now."""
    return str(connection.execute(sa.select(STAMP)).scalar_one())


def read_state(connection: sa.Connection) -> CatalogState:
    """Read the state. The stamp is read first: what changes meanwhile has another one."""
    return CatalogState(
        read_stamp(connection),
        identity_on(connection),
        next((version for version in read_versions(connection) if version.state == ACTIVE), None),
        read_own_fields(connection),
    )


def read_versions(connection: sa.Connection) -> list[Version]:
    """Return the versions, oldest first."""
    return [Version(*row) for row in connection.execute(_VERSIONS)]


def read_own_fields(connection: sa.Connection) -> dict[str, FieldType]:
    """Return the filter fields that are columns of tables, with their types."""
    rows = connection.execute(sa.select(FilterFieldRow.name, FilterFieldRow.type)).all()
    return {name: FieldType(kind) for name, kind in sorted(map(tuple, rows))}
