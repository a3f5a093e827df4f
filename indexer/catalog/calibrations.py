"""Calibrations fitted on a version's own images, stored in the catalog beside the version.

To the indexer they are opaque JSON: `retrieval` fits and interprets them.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar, cast

import sqlalchemy as sa

from indexer.catalog.database import Connected
from indexer.catalog.models import CalibrationRow, LedgerRow

Read = TypeVar("Read")


class Calibrations:
    """The calibrations of one catalog, cached until they are replaced; threads share it."""

    def __init__(self, catalog: Connected) -> None:
        """Use this catalog's database."""
        self._engine = catalog.engine
        self._read: dict[tuple[str, str], tuple[datetime, Any]] = {}

    def keep(self, fingerprint: str, fitted: Mapping[str, Mapping[str, Any] | None]) -> None:
        """Replace calibrations of a version, all in one transaction; one that is None is deleted.

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
                    "fitted": dict(numbers),
                    "images": images,
                    "created": now,
                }
                for kind, numbers in fitted.items()
                if numbers is not None
            ]
            if rows:
                connection.execute(sa.insert(CalibrationRow), rows)

    def read(self, fingerprint: str, kind: str, parse: Callable[[Mapping[str, Any]], Read]) -> Read | None:
        """Return `parse` of a calibration's stored numbers; None where there is none.

        `parse` runs once for each stored calibration, not at every call.
        """
        chosen = (CalibrationRow.fingerprint == fingerprint, CalibrationRow.kind == kind)
        with self._engine.connect() as connection:
            created = connection.scalar(sa.select(CalibrationRow.created).where(*chosen))
            if created is None:
                return None
            cached = self._read.get((fingerprint, kind))
            if cached is None or cached[0] != created:
                fitted = connection.scalar(sa.select(CalibrationRow.fitted).where(*chosen))
                if fitted is None:  # replaced in between
                    return None
                cached = created, parse(fitted)
                self._read[fingerprint, kind] = cached
        return cast(Read, cached[1])

    def images(self, fingerprint: str, kind: str) -> tuple[int, int] | None:
        """Return the version's number of images when it was calibrated, and now; None without calibration."""
        chosen = (CalibrationRow.fingerprint == fingerprint, CalibrationRow.kind == kind)
        with self._engine.connect() as connection:
            then = connection.scalar(sa.select(CalibrationRow.images).where(*chosen))
            return None if then is None else (then, _images(connection, fingerprint))


def _images(connection: sa.Connection, fingerprint: str) -> int:
    count = sa.select(sa.func.count()).select_from(LedgerRow)
    count = count.where(LedgerRow.fingerprint == fingerprint, LedgerRow.kind == "image")
    return connection.scalar(count) or 0
