"""Versions of the index: the vectors of several encoders side by side, of which one is searched.

A second encoder's vectors are built beside the first's, in collections of their own, while searches use the
first. Switching is one transaction; a search uses the version that it began with to its end. An erased
subject leaves every version at once (`indexer.catalog.ledger`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from corpus.errors import IndexingError, UsageError
from corpus.records import ItemState, ProblemSink, Study
from indexer.catalog.catalog import Catalog
from indexer.catalog.ledger import Ledger
from indexer.catalog.ledger_records import KINDS, collection_of
from indexer.catalog.rows import chunks
from indexer.catalog.state import Version
from indexer.index import Index

SHORTEST_PREFIX = 4
"""Fewest characters of a fingerprint that name a version."""


@dataclass(frozen=True, slots=True)
class VersionState:
    """A version, its number of points by kind, and how many items and sentences have no point in it."""

    version: Version
    points: Mapping[str, int]
    missing: int

    def as_json(self) -> dict[str, Any]:
        """Return the form of `docs/contracts/index-versions.schema.json`."""
        return {
            "name": self.version.name,
            "fingerprint": self.version.fingerprint,
            "state": self.version.state,
            "dim": self.version.dim,
            "folder": self.version.folder,
            "vectors": dict(self.points),
            "missing": self.missing,
        }


class CatalogSource:
    """The catalog as a source: to embed its studies by another encoder without naming every source again.

    Images are read from the files that they were indexed from.
    """

    name = "catalog"

    def __init__(self, catalog: Catalog) -> None:
        """Yield the studies of this catalog."""
        self._catalog = catalog

    def studies(self, on_problem: ProblemSink) -> Iterator[Study]:
        """Yield every study, by id; `on_problem` is not called."""
        for chunk in chunks(list(self._catalog.study_ids())):
            yield from self._catalog.studies(chunk).values()


def list_versions(catalog: Catalog) -> list[VersionState]:
    """Return every version, oldest first."""
    return [_state(catalog, version) for version in catalog.versions()]


def find_version(catalog: Catalog, name: str) -> Version:
    """Return the version of this name, or with a fingerprint that begins so.

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
    """Make this the version that searches use. One transaction: a search uses the one before or this one.

    Raises:
        UsageError: there is no such version.
        IndexingError: items of the index have no point in it.
    """
    catalog = index.catalog
    with index.writing("index activate") as lease:
        version = find_version(catalog, name)
        missing = _state(catalog, version).missing
        if missing:
            raise IndexingError(
                f"{version.name} ({version.fingerprint[:8]}) lacks {missing} of the items and sentences of "
                f"this index: run `similarity index add --encoder {version.folder}` first"
            )
        Ledger(catalog, index.home, lease.lease_id).activate(version.fingerprint)
        index.name_live_collections()
    return find_version(catalog, version.fingerprint)


def drop_version(index: Index, name: str) -> int:
    """Drop a version and its vectors; return the number of points. The catalog's studies stay.

    Killed in between, it is still listed and can be dropped again.

    Raises:
        UsageError: there is no such version.
        IndexingError: it is the one that is searched.
    """
    with index.writing("index remove") as lease:
        version = find_version(index.catalog, name)
        if version.state == "active":
            raise IndexingError(
                f"{version.name} ({version.fingerprint[:8]}) is searched now: activate another version first"
            )
        points = sum(_state(index.catalog, version).points.values())
        for kind in KINDS:
            lease.check()
            index.store.drop(collection_of(kind, version.fingerprint))
        Ledger(index.catalog, index.home, lease.lease_id).drop_version(version.fingerprint)
    return points


def _state(catalog: Catalog, version: Version) -> VersionState:
    points, missing = catalog.version_counts(version.fingerprint)
    return VersionState(version, {kind: points.get(kind, 0) for kind in KINDS}, missing)


def status_of(home: Path, catalog: Catalog, *, failed: bool = False) -> dict[str, Any]:
    """Return the form of `docs/contracts/index-status.schema.json`.

    Args:
        home: its folder.
        catalog: of the index.
        failed: list the recorded problems as `items`.
    """
    counts = catalog.counts()
    status: dict[str, Any] = {
        "home": str(home),
        "versions": [
            {
                "name": version.name,
                "fingerprint": version.fingerprint,
                "dim": version.dim,
                "folder": version.folder,
                "state": version.state,
            }
            for version in catalog.versions()
        ],
        "studies": counts["studies"],
        "vectors": {kind: counts["vectors"].get(kind, 0) for kind in KINDS},
        "problems": {state: counts["problems"].get(state, 0) for state in get_args(ItemState)},
        "reports": catalog.report_languages().as_json(),
    }
    if failed:
        status["items"] = [
            {
                "item_id": problem.item_id,
                "state": problem.state,
                "reason": problem.reason,
                "location": problem.location,
            }
            for problem in catalog.problems()
        ]
    return status
