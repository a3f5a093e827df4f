"""Versions of the index: the vectors of several encoders side by side, of which one is searched.

A second encoder's vectors are built beside the first's, in collections of their own, while searches go on
by the first. Switching is one transaction; a search keeps the version that it began with to its end. An
erased person leaves every version at once (`indexer.catalog.ledger`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from corpus.errors import IndexingError, UsageError
from corpus.records import ProblemSink, Study
from indexer.catalog.catalog import Catalog, Version, chunks
from indexer.catalog.ledger import KINDS, collection_of
from indexer.catalog.models import EncoderRow, ItemRow, LedgerRow, SentenceRow
from indexer.index import Index

SHORTEST_PREFIX = 4
"""Characters of a fingerprint by which a version may be named."""


@dataclass(frozen=True, slots=True)
class VersionState:
    """A version with what it holds: points by kind, and how many items and sentences it lacks."""

    version: Version
    points: Mapping[str, int]
    missing: int

    def as_json(self) -> dict[str, Any]:
        """The form of `docs/contracts/index-versions.schema.json`."""
        return {
            "name": self.version.name,
            "fingerprint": self.version.fingerprint,
            "state": self.version.state,
            "dim": self.version.dim,
            "folder": self.version.folder,
            "vectors": dict(self.points),
            "missing": self.missing,
        }


class HeldStudies:
    """What the catalog holds, as a source: to embed it by another encoder without naming every source again.

    Films are read from where they were when they were indexed.
    """

    name = "catalog"

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def studies(self, on_problem: ProblemSink) -> Iterator[Study]:
        """Yield every study, by id; nothing of it is a problem before it is read."""
        for chunk in chunks(list(self._catalog.study_ids())):
            yield from self._catalog.studies(chunk).values()


def list_versions(catalog: Catalog) -> list[VersionState]:
    """Every version, oldest first."""
    return [_state(catalog, version) for version in catalog.versions()]


def find_version(catalog: Catalog, name: str) -> Version:
    """The version of this name, or whose fingerprint begins so.

    Raises:
        UsageError: there is none, or several.
    """
    versions = catalog.versions()
    found = [v for v in versions if v.name == name]
    if not found and len(name) >= SHORTEST_PREFIX:
        found = [v for v in versions if v.fingerprint.startswith(name.lower())]
    if len(found) == 1:
        return found[0]
    known = ", ".join(f"{v.name} ({v.fingerprint[:8]})" for v in versions) or "none"
    what = f"several versions are called {name!r}: name the fingerprint" if found else f"no version {name!r}"
    raise UsageError(f"{what}; the index holds {known}")


def activate(index: Index, name: str) -> Version:
    """Search by this version from now on. One transaction: a search sees the version before or this one.

    Raises:
        UsageError: there is no such version.
        IndexingError: it lacks items that the index holds.
    """
    catalog = index.catalog
    version = find_version(catalog, name)
    missing = _state(catalog, version).missing
    if missing:
        raise IndexingError(
            f"{version.name} ({version.fingerprint[:8]}) lacks {missing} of the items and sentences of this "
            f"index: run `similarity index add --encoder {version.folder}` first"
        )
    with catalog.engine.begin() as session:
        session.execute(sa.update(EncoderRow).where(EncoderRow.state == "active").values(state="retired"))
        chosen = EncoderRow.fingerprint == version.fingerprint
        session.execute(sa.update(EncoderRow).where(chosen).values(state="active"))
    return find_version(catalog, version.fingerprint)


def drop_version(index: Index, name: str) -> int:
    """Delete a version's vectors and forget it; the number of points. The catalog stays.

    Killed in between, it is still listed, and dropping it again ends it.

    Raises:
        UsageError: there is no such version.
        IndexingError: it is the one that is searched.
    """
    version = find_version(index.catalog, name)
    if version.state == "active":
        raise IndexingError(
            f"{version.name} ({version.fingerprint[:8]}) is searched now: activate another version first"
        )
    points = sum(_state(index.catalog, version).points.values())
    for kind in KINDS:
        index.store.drop(collection_of(kind, version.fingerprint))
    with index.catalog.engine.begin() as session:
        session.execute(sa.delete(LedgerRow).where(LedgerRow.fingerprint == version.fingerprint))
        session.execute(sa.delete(EncoderRow).where(EncoderRow.fingerprint == version.fingerprint))
    return points


def _state(catalog: Catalog, version: Version) -> VersionState:
    mine = LedgerRow.fingerprint == version.fingerprint
    items = sa.select(sa.func.count()).select_from(ItemRow)
    items = items.outerjoin(
        LedgerRow, mine & (LedgerRow.kind == ItemRow.kind) & (LedgerRow.point_id == ItemRow.point_id)
    ).where(LedgerRow.point_id.is_(None))
    said = sa.select(sa.func.count()).select_from(SentenceRow)
    said = said.outerjoin(
        LedgerRow, mine & (LedgerRow.kind == "sentence") & (LedgerRow.point_id == SentenceRow.point_id)
    ).where(LedgerRow.point_id.is_(None))
    with catalog.engine.connect() as session:
        counted = sa.select(LedgerRow.kind, sa.func.count()).where(mine).group_by(LedgerRow.kind)
        held = {kind: int(n) for kind, n in session.execute(counted)}
        missing = int(session.scalar(items) or 0) + int(session.scalar(said) or 0)
    return VersionState(version, {kind: held.get(kind, 0) for kind in KINDS}, missing)
