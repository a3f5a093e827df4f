"""The identity of an index: what distinguishes it from every other index on the same servers.

It is one row of the catalog: a UUID, with which the names of its collections on a Qdrant server begin, and
the fingerprint of its key. A home with another key would give every item another id, and so delete what it
takes for remains of a killed run: it is refused.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from uuid import UUID, uuid4

import sqlalchemy as sa

from corpus.errors import KeyMismatch
from indexer.catalog.database_failures import address_of
from indexer.catalog.models import EncoderRow, IdentityRow, LeaseRow, LedgerRow, StudyRow
from indexer.home import Home

IDLE_SECONDS = 20
"""How long a machine may stand still in a transaction that others wait for."""
LOCK_SECONDS = 25
"""How long a transaction waits for those of others; more than the one that stands still is given."""
_NUMBER = 1  # of the one row
_SHOWN = 8  # characters of a UUID in a message


class IdentityState(StrEnum):
    """Whether the catalog is whole, or a restore began and has not ended."""

    READY = "ready"
    RESTORING = "restoring"


@dataclass(frozen=True)
class Identity:
    """The identity of an index.

    `index_id`: made once, and carried by its backups. `key_fingerprint`: 16 hex, of its key. `namespace`: how
    the names of its collections on a server begin; empty in an index of a version that did not distinguish
    indexes, until `similarity index upgrade`.
    """

    index_id: UUID
    key_fingerprint: str
    namespace: str
    state: IdentityState = IdentityState.READY

    @cached_property
    def short(self) -> str:
        """The first characters of its id, for messages."""
        return self.index_id.hex[:_SHOWN]


def namespace_of(index_id: UUID) -> str:
    """Return how the names of an index's collections on a server begin."""
    return f"similarity_{index_id.hex}_"


def name_of_database(engine: sa.Engine) -> str:
    """Return which database a catalog is in, for messages: no user, no password, no options."""
    if engine.dialect.name == "sqlite":
        return f"the catalog {engine.url.database}"
    return f"the catalog on Postgres at {address_of(engine.url)}/{engine.url.database or ''}"


def read_identity(engine: sa.Engine) -> Identity | None:
    """Return the identity of a catalog; None before it was opened by this version."""
    with engine.connect() as connection:
        return identity_on(connection)


def ensure_identity(engine: sa.Engine, home: Home) -> Identity:
    """Return the identity of a catalog, made where it has none, and compare its key with the home's.

    Args:
        engine: of the catalog, its tables migrated.
        home: from which it is opened.

    Raises:
        KeyMismatch: the index was made with another key.
    """
    identity = read_identity(engine)
    if identity is None or identity.key_fingerprint != home.key_fingerprint:
        with engine.begin() as connection:
            lock_catalog(connection)
            identity = identity_on(connection) or _make(connection, engine, home)
            if identity.key_fingerprint != home.key_fingerprint and not _is_used(connection):
                # Nothing was made with the earlier key, and no run is about to.
                identity = replace(identity, key_fingerprint=home.key_fingerprint)
                connection.execute(sa.update(IdentityRow).values(**_values(identity)))
    if identity.key_fingerprint != home.key_fingerprint:
        raise key_mismatch(engine, home, identity.key_fingerprint)
    return identity


def use_namespace(engine: sa.Engine, identity: Identity) -> Identity:
    """Let the names of the index's collections begin with its id from now on; its new identity."""
    return _replace(
        engine, Identity(identity.index_id, identity.key_fingerprint, namespace_of(identity.index_id))
    )


def begin_restore(engine: sa.Engine, identity: Identity, index_id: UUID) -> Identity:
    """Give an empty catalog the identity that is being restored into it; its new identity."""
    restoring = Identity(index_id, identity.key_fingerprint, namespace_of(index_id), IdentityState.RESTORING)
    return _replace(engine, restoring)


def end_restore(connection: sa.Connection) -> None:
    """Record, in the transaction that restores the rows, that the catalog is whole."""
    connection.execute(sa.update(IdentityRow).values(state=IdentityState.READY.value))


def is_filled(connection: sa.Connection) -> bool:
    """Return whether anything was made with the key of an index: a version or a study."""
    rows = (sa.select(column).limit(1) for column in (EncoderRow.fingerprint, StudyRow.study_id))
    return any(connection.execute(row).first() is not None for row in rows)


def _is_used(connection: sa.Connection) -> bool:
    """Return whether anything was made with the key of an index, or a run that writes holds a lease."""
    return (
        is_filled(connection) or connection.execute(sa.select(LeaseRow.lease_id).limit(1)).first() is not None
    )


def uses_key(connection: sa.Connection, home: Home) -> bool:
    """Return whether the studies of a catalog, of whichever revision, were made with a home's key."""
    if not sa.inspect(connection).has_table(StudyRow.__tablename__):
        return False
    sample = connection.execute(sa.select(StudyRow.study_id, StudyRow.study_key).limit(1)).first()
    return sample is not None and home.keyed("study", sample.study_id) == sample.study_key


def has_points(engine: sa.Engine) -> bool:
    """Return whether the ledger has a point, of whichever version."""
    with engine.connect() as connection:
        return connection.execute(sa.select(LedgerRow.kind).limit(1)).first() is not None


def lock_catalog(connection: sa.Connection) -> None:
    """Let one transaction at a time write what several machines may write; it ends with the transaction.

    SQLite lets one transaction write at a time by itself.

    A machine that stands still in such a transaction is cut off by the server, so that the others go on.
    """
    if connection.dialect.name == "postgresql":
        limits = {"idle_in_transaction_session_timeout": IDLE_SECONDS, "lock_timeout": LOCK_SECONDS}
        local = (sa.func.set_config(name, f"{seconds:g}s", True) for name, seconds in limits.items())
        connection.execute(sa.select(*local))
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_CATALOG_LOCK)))


_CATALOG_LOCK = 0x53494D4C  # Postgres advisory lock of one database


def key_mismatch(engine: sa.Engine, home: Home, fingerprint: str | None) -> KeyMismatch:
    """Return the error of a home with another key than the index's; `fingerprint`: the index's."""
    wanted = "another key" if fingerprint is None else f"the key {fingerprint}"
    return KeyMismatch(
        f"{name_of_database(engine)} was made with {wanted}, and the home {home.folder} has the key "
        f"{home.key_fingerprint}: export the index's on a machine that works with `similarity key export "
        "FILE`, and import it here with `similarity key import FILE`"
    )


def identity_on(connection: sa.Connection) -> Identity | None:
    """Return the identity of the catalog of a connection, as `read_identity`."""
    row = connection.execute(sa.select(IdentityRow.__table__)).first()
    if row is None:
        return None
    return Identity(row.index_id, row.key_fingerprint, row.namespace, IdentityState(row.state))


def _make(connection: sa.Connection, engine: sa.Engine, home: Home) -> Identity:
    """Insert an identity; a catalog that was filled before must have been made with the home's key."""
    has_studies = connection.execute(sa.select(StudyRow.study_id).limit(1)).first() is not None
    if has_studies and not uses_key(connection, home):
        raise key_mismatch(engine, home, None)
    # A catalog that lies beside marked vectors is of their index, such as one from a copy of earlier files.
    beside = engine.url.database == str(home.catalog_file)
    index_id = (home.marked_index() if beside else None) or uuid4()
    # Collections that were made before are named without a namespace, where they are on a server.
    namespace = "" if is_filled(connection) else namespace_of(index_id)
    identity = Identity(index_id, home.key_fingerprint, namespace)
    connection.execute(sa.insert(IdentityRow).values(**_values(identity)))
    return identity


def _replace(engine: sa.Engine, identity: Identity) -> Identity:
    with engine.begin() as connection:
        connection.execute(sa.update(IdentityRow).values(**_values(identity)))
    return identity


def _values(identity: Identity) -> dict[str, object]:
    return {
        "number": _NUMBER,
        "index_id": identity.index_id,
        "key_fingerprint": identity.key_fingerprint,
        "namespace": identity.namespace,
        "state": identity.state.value,
    }
