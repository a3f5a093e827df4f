"""Leases: which runs write to an index now, on whichever machine.

The writer lock of a home is a file, and no other machine sees it. On a database server every run that writes
holds a row here and renews it; the clock is the database's. A run that does not renew its row in time can be
replaced: the next run that needs to deletes its row and its claims, and it can commit nothing more (`fence`).
A run that lost its database for a while, and that no other run replaced, goes on.

Runs of `index add` write beside each other. They insert only: what leaves the catalog stays in the vectors
as a tombstone until one run is alone (exclusive), which purges it and repairs what ended runs left. Two of
them never index one study at the same time (`claim`).
"""

import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from corpus.errors import LeaseLost
from indexer.catalog.database import Connected, in_utc, repeated
from indexer.catalog.identity import lock_catalog
from indexer.catalog.models import ClaimRow, LeaseRow
from indexer.catalog.rows import chunks, insert

RENEW_SECONDS = 4.0
"""Time between two heartbeats of a run."""
SILENT_SECONDS = 12.0
"""A run that was not heard of for this long may have ended: others wait until it is heard of, or has."""
LEASE_SECONDS = 30.0
"""A run that was not heard of for this long has ended."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A run that writes.

    `command`: its name. `exclusive`: no other may write beside it. `host`, `pid`: where it runs. `silent`:
    whether it was not heard of for `SILENT_SECONDS`.
    """

    lease_id: UUID
    command: str
    exclusive: bool
    host: str
    pid: int
    began: datetime
    silent: bool

    def __str__(self) -> str:
        since = self.began.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        return f"{self.command} (process {self.pid} on {self.host}) since {since}"


class Leases:
    """The leases of a catalog on a database server. Threads may share it."""

    def __init__(self, catalog: Connected) -> None:
        """Use this catalog's database."""
        self.engine = catalog.engine

    @repeated
    def acquire(self, lease_id: UUID, command: str, *, exclusive: bool) -> list[Lease]:
        """Enter a run, unless others are in its way.

        Args:
            lease_id: a new one.
            command: its name.
            exclusive: no other may write beside it.

        Returns:
            The runs in its way, none where it was entered: every run for an exclusive one, the exclusive ones
            for another; and silent ones, which may have ended in the middle of a step.
        """
        with self.engine.begin() as connection:
            others = self._others(connection, lease_id)
            in_the_way = [other for other in others if exclusive or other.exclusive or other.silent]
            if not in_the_way:
                connection.execute(sa.delete(LeaseRow).where(LeaseRow.lease_id == lease_id))
                now = sa.func.clock_timestamp()
                row = {"lease_id": lease_id, "command": command, "exclusive": exclusive, **_this_process()}
                connection.execute(sa.insert(LeaseRow).values(**row, began=now, seen=now))
        return in_the_way

    @repeated
    def make_exclusive(self, lease_id: UUID) -> bool:
        """Make a run exclusive if no other writes now; return whether it is.

        Raises:
            LeaseLost: another run replaced it.
        """
        with self.engine.begin() as connection:
            others = self._others(connection, lease_id)
            fence(connection, lease_id)
            if not others:
                mine = sa.update(LeaseRow).where(LeaseRow.lease_id == lease_id)
                connection.execute(mine.values(exclusive=True))
        return not others

    @repeated
    def leave(self, lease_id: UUID) -> bool:
        """End a run while others write, or make the last one exclusive; return whether it is that.

        Of runs that end at once, one is the last. A run that was replaced is not.
        """
        with self.engine.begin() as connection:
            others = self._others(connection, lease_id)
            mine = LeaseRow.lease_id == lease_id
            if others:
                connection.execute(sa.delete(LeaseRow).where(mine))
                return False
            return connection.execute(sa.update(LeaseRow).where(mine).values(exclusive=True)).rowcount == 1

    @repeated
    def share(self, lease_id: UUID) -> None:
        """Let others write beside an exclusive run again."""
        with self.engine.begin() as connection:
            connection.execute(
                sa.update(LeaseRow).where(LeaseRow.lease_id == lease_id).values(exclusive=False)
            )

    def renew(self, lease_id: UUID) -> bool:
        """Record a heartbeat; return False where another run replaced this one."""
        with self.engine.begin() as connection:
            mine = sa.update(LeaseRow).where(LeaseRow.lease_id == lease_id)
            return connection.execute(mine.values(seen=sa.func.clock_timestamp())).rowcount == 1

    @repeated
    def release(self, lease_id: UUID) -> None:
        """Delete a run and its claims."""
        with self.engine.begin() as connection:
            connection.execute(sa.delete(LeaseRow).where(LeaseRow.lease_id == lease_id))

    @repeated
    def live(self) -> list[Lease]:
        """Return the runs that write now, oldest first."""
        with self.engine.connect() as connection:
            ended = _SILENCE > LEASE_SECONDS
            return [_lease(row) for row in connection.execute(_LEASES.where(~ended)) if not _is_dead(row)]

    @repeated
    def claim(self, lease_id: UUID, study_ids: Iterable[str]) -> bool:
        """Claim studies for a run until it commits them; none where another run has claimed one of them.

        Raises:
            LeaseLost: another run replaced it.
        """
        named = list(dict.fromkeys(study_ids))
        with self.engine.begin() as connection:
            lock_catalog(connection)
            fence(connection, lease_id)
            claimed = _claimed(connection, named)
            if set(claimed.values()) - {lease_id}:
                self._others(connection, lease_id)  # deletes the claims of those that ended
                claimed = _claimed(connection, named)
            if set(claimed.values()) - {lease_id}:
                return False
            new = [{"study_id": s, "lease_id": lease_id} for s in named if s not in claimed]
            insert(connection, ClaimRow, new)
        return True

    def _others(self, connection: sa.Connection, lease_id: UUID) -> list[Lease]:
        """Delete the runs that ended, and return the others; no other transaction writes until this ends."""
        lock_catalog(connection)
        rows = connection.execute(_LEASES.where(LeaseRow.lease_id != lease_id)).all()
        ended = [row for row in rows if row.silence > LEASE_SECONDS or _is_dead(row)]
        for row in list(ended):
            # Its heartbeat may have come meanwhile, such as behind a commit that took long.
            same = (LeaseRow.lease_id == row.lease_id) & (LeaseRow.seen == row.seen)
            if connection.execute(sa.delete(LeaseRow).where(same)).rowcount == 0:
                ended.remove(row)
        return [_lease(row) for row in rows if row not in ended]


def fence(connection: sa.Connection, lease_id: UUID) -> None:
    """Raise in a transaction of a run that was replaced; else none replaces it before the end.

    Raises:
        LeaseLost: saying what to do.
    """
    mine = sa.select(LeaseRow.lease_id).where(LeaseRow.lease_id == lease_id)
    # Against its deletion alone: a heartbeat does not wait for a long transaction.
    mine = mine.with_for_update(read=True, key_share=True)
    if connection.execute(mine).first() is None:
        raise lease_lost()


def lease_lost() -> LeaseLost:
    """Return the error of a run that another replaced."""
    return LeaseLost(
        f"this run was not heard of by the database for {LEASE_SECONDS:g} s, and another replaced it: "
        "what it committed is safe, run the command again"
    )


def _claimed(connection: sa.Connection, study_ids: Iterable[str]) -> dict[str, UUID]:
    claimed: dict[str, UUID] = {}
    for chunk in chunks(study_ids):
        rows = sa.select(ClaimRow.study_id, ClaimRow.lease_id).where(ClaimRow.study_id.in_(chunk))
        claimed |= {row.study_id: row.lease_id for row in connection.execute(rows)}
    return claimed


_SILENCE = sa.func.extract("epoch", sa.func.clock_timestamp() - LeaseRow.seen)

_LEASES = sa.select(
    LeaseRow.lease_id,
    LeaseRow.command,
    LeaseRow.exclusive,
    LeaseRow.host,
    LeaseRow.system,
    LeaseRow.pid,
    LeaseRow.process,
    LeaseRow.began,
    LeaseRow.seen,
    _SILENCE.label("silence"),
).order_by(LeaseRow.began, LeaseRow.lease_id)


def _lease(row: Any) -> Lease:
    silent = float(row.silence) > SILENT_SECONDS
    return Lease(row.lease_id, row.command, row.exclusive, row.host, row.pid, in_utc(row.began), silent)


def _this_process() -> dict[str, str | int]:
    pid = os.getpid()
    return {"host": socket.gethostname(), "system": _system(), "pid": pid, "process": _process(pid) or ""}


def _system() -> str:
    """Return what names this system's processes: host, boot, and the namespace of its process ids.

    Empty where the system does not say: then only time tells whether a run has ended.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - the link names no path
    except OSError:
        return ""
    return f"{socket.gethostname()} {boot} {namespace}"


def _process(pid: int) -> str | None:
    """Return when a process of this system began, in clock ticks; None where there is none of that id."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name before may hold spaces and parentheses; the start is the 22nd field.
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in ("Z", "X") else fields[_START]


_START = 18  # of the fields behind the state


def _is_dead(row: Any) -> bool:
    """Return whether a run was a process of this system that is gone."""
    if not row.system or row.system != _system():
        return False
    began = _process(row.pid)
    return not _exists(row.pid) if began is None else began != row.process


def _exists(pid: int) -> bool:
    """Return whether a process lives, also where the system hides those of other users."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is another user's
        return True
    return False  # it is ours, and `_process` saw that it ended
