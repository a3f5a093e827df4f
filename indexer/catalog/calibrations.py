"""What was learned from a version's own films, kept in the catalog beside the version.

The indexer keeps the numbers and does not know what they mean: `retrieval` learns them and reads them.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar, cast

import sqlalchemy as sa

from indexer.catalog.models import CalibrationRow, LedgerRow

Read = TypeVar("Read")


class Calibrations:
    """The calibrations of one catalog. What was read stays read until it is replaced; threads share it."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._read: dict[tuple[str, str], tuple[datetime, Any]] = {}

    def keep(self, fingerprint: str, fitted: Mapping[str, Mapping[str, Any] | None]) -> None:
        """Replace calibrations of a version, all in one transaction; one that is None is forgotten.

        Args:
            fingerprint: the version's.
            fitted: kind (gate, guarantee, votes) → its numbers, as JSON takes them.
        """
        now = datetime.now(UTC)
        mine = CalibrationRow.fingerprint == fingerprint
        with self._engine.begin() as connection:
            images = _images(connection, fingerprint)
            connection.execute(sa.delete(CalibrationRow).where(mine, CalibrationRow.kind.in_(list(fitted))))
            rows = [
                {
                    "fingerprint": fingerprint,
                    "kind": kind,
                    "fitted": dict(told),
                    "images": images,
                    "created": now,
                }
                for kind, told in fitted.items()
                if told is not None
            ]
            if rows:
                connection.execute(sa.insert(CalibrationRow), rows)

    def read(self, fingerprint: str, kind: str, reading: Callable[[Mapping[str, Any]], Read]) -> Read | None:
        """A calibration as `reading` makes it of the kept numbers; None where there is none.

        `reading` runs once for each calibration that is kept, not at every call.
        """
        chosen = (CalibrationRow.fingerprint == fingerprint, CalibrationRow.kind == kind)
        with self._engine.connect() as connection:
            created = connection.scalar(sa.select(CalibrationRow.created).where(*chosen))
            if created is None:
                return None
            known = self._read.get((fingerprint, kind))
            if known is None or known[0] != created:
                fitted = connection.scalar(sa.select(CalibrationRow.fitted).where(*chosen))
                if fitted is None:  # replaced in between
                    return None
                known = created, reading(fitted)
                self._read[fingerprint, kind] = known
        return cast(Read, known[1])

    def films(self, fingerprint: str, kind: str) -> tuple[int, int] | None:
        """How many films the version held when it was calibrated, and holds now; None without calibration."""
        chosen = (CalibrationRow.fingerprint == fingerprint, CalibrationRow.kind == kind)
        with self._engine.connect() as connection:
            then = connection.scalar(sa.select(CalibrationRow.images).where(*chosen))
            return None if then is None else (then, _images(connection, fingerprint))


def _images(connection: sa.Connection, fingerprint: str) -> int:
    held = sa.select(sa.func.count()).select_from(LedgerRow)
    held = held.where(LedgerRow.fingerprint == fingerprint, LedgerRow.kind == "image")
    return connection.scalar(held) or 0
