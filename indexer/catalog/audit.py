"""The audit log: requests to the service, their actors and the studies shown, written before the answer.

Studies are recorded by their keyed hashes, which the catalog resolves: once a study is erased, nothing of it
is left here, and still no row was ever deleted (triggers refuse it).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

import sqlalchemy as sa

from corpus.redaction import redacted
from indexer.catalog.database import Connected, in_utc
from indexer.catalog.models import AuditRow, AuditStudyRow, StudyRow


class Actor(Protocol):
    """A user of the service: name and role, as the log records them."""

    @property
    def name(self) -> str:
        """The user's name."""
        ...

    @property
    def role(self) -> str:
        """What the user may do."""
        ...


@redacted
@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the log. `studies`: study_id where the catalog still has it, else its key."""

    number: int
    at: datetime
    request_id: str
    actor: str
    role: str
    action: str
    detail: Mapping[str, Any]
    studies: tuple[str, ...] = field(default=())

    def as_json(self) -> dict[str, Any]:
        """Return the form of `docs/contracts/audit.schema.json`."""
        return {
            "number": self.number,
            "at": self.at.isoformat(timespec="milliseconds"),
            "request_id": self.request_id,
            "actor": self.actor,
            "role": self.role,
            "action": self.action,
            "detail": dict(self.detail),
            "studies": list(self.studies),
        }


class Audit:
    """The audit log of a catalog. Threads may share it."""

    def __init__(self, catalog: Connected) -> None:
        """Use this catalog's database."""
        self._engine = catalog.engine

    def write(
        self,
        actor: Actor,
        action: str,
        request_id: str,
        study_keys: Collection[str] = (),
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        """Add a line; returns once it is committed.

        Args:
            actor: the user.
            action: search, view, localize, draft, export, sign-in, index, …
            request_id: of the request, as the log has it.
            study_keys: keyed hashes of the studies that the answer shows.
            detail: the part of the request that is recorded.
        """
        with self._engine.begin() as connection:
            number = connection.execute(
                sa.insert(AuditRow)
                .values(
                    at=datetime.now(UTC),
                    request_id=request_id,
                    actor=actor.name,
                    role=str(actor.role),
                    action=action,
                    detail=dict(detail or {}),
                )
                .returning(AuditRow.number)
            ).scalar_one()
            if study_keys:
                rows = [{"number": number, "study_key": key} for key in sorted(set(study_keys))]
                connection.execute(sa.insert(AuditStudyRow), rows)

    def read(
        self,
        *,
        study_key: str | None = None,
        actor: str | None = None,
        action: str | None = None,
        since: datetime | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[Entry]:
        """Return the newest lines that meet all conditions, newest first; `before`: of smaller numbers."""
        select = sa.select(AuditRow.__table__).order_by(AuditRow.number.desc()).limit(limit)
        if study_key is not None:
            numbers = sa.select(AuditStudyRow.number).where(AuditStudyRow.study_key == study_key)
            select = select.where(AuditRow.number.in_(numbers))
        for column, value in ((AuditRow.actor, actor), (AuditRow.action, action)):
            if value is not None:
                select = select.where(column == value)
        if since is not None:
            select = select.where(AuditRow.at >= since)
        if before is not None:
            select = select.where(AuditRow.number < before)
        with self._engine.connect() as connection:
            rows = connection.execute(select).all()
            shown = self._studies(connection, [row.number for row in rows])
        return [
            Entry(
                row.number,
                in_utc(row.at),
                row.request_id,
                row.actor,
                row.role,
                row.action,
                row.detail,
                tuple(shown.get(row.number, ())),
            )
            for row in rows
        ]

    def _studies(self, connection: sa.Connection, numbers: list[int]) -> dict[int, list[str]]:
        rows = connection.execute(
            sa.select(AuditStudyRow.number, AuditStudyRow.study_key, StudyRow.study_id)
            .outerjoin(StudyRow, StudyRow.study_key == AuditStudyRow.study_key)
            .where(AuditStudyRow.number.in_(numbers))
            .order_by(AuditStudyRow.study_key)
        )
        shown: dict[int, list[str]] = {}
        for number, key, study_id in rows:
            shown.setdefault(number, []).append(study_id or key)
        return shown
