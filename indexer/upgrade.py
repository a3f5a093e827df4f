"""Moving an index of an earlier version on a Qdrant server to collections of its own.

Earlier versions named collections by the encoder alone, so that two indexes could share them. The points that
the ledger has are copied, vectors and payloads, to collections named by the index; nothing is embedded again.
The earlier collections stay until the user says that no other index uses them.
"""

from collections.abc import Collection, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from corpus.progress import OnProgress, silent
from indexer.catalog.identity import namespace_of, use_namespace
from indexer.catalog.ledger import Ledger
from indexer.catalog.ledger_records import FORMS, KINDS, collection_of
from indexer.catalog.rows import chunks
from indexer.catalog.state import Version
from indexer.index import Index
from indexer.stores import server_store
from indexer.vectors.store import VectorStore
from indexer.write_lease import WriteLease


@dataclass
class Upgraded:
    """The result of an upgrade.

    `copied`: collection → number of points. `lost`: how many points of the ledger were not there: their
    sources have to be added again. `earlier`: the earlier collections that are still on the server, and how
    many points each has. `shared`: those of them that have points which this index does not know, and how
    many: another index's, or of studies that were erased since; they are not dropped. `dropped`: those that
    were dropped.
    """

    copied: dict[str, int] = field(default_factory=dict)
    lost: int = 0
    earlier: dict[str, int] = field(default_factory=dict)
    shared: dict[str, int] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return the form of `docs/contracts/index-upgrade.schema.json`."""
        return {
            "copied": dict(self.copied),
            "lost": self.lost,
            "earlier": dict(self.earlier),
            "shared": dict(self.shared),
            "dropped": list(self.dropped),
        }


def upgrade(index: Index, *, drop_earlier: bool = False, on_progress: OnProgress = silent) -> Upgraded:
    """Copy the points of an index to collections of its own. Interrupted, it begins anew.

    Args:
        index: open for writing, `check` left out.
        drop_earlier: drop the earlier collections afterwards, but for those that another index may use.
        on_progress: is given the number of points that are copied.

    Raises:
        IndexInUse: another run writes, and did not end in time.
    """
    identity = index.catalog.identity()
    upgraded = Upgraded()
    own_identity = replace(identity, namespace=namespace_of(identity.index_id))
    earlier = server_store(replace(identity, namespace=""), servers=index.servers)
    own = server_store(own_identity, servers=index.servers)
    if earlier is None or own is None:
        if not identity.namespace:
            use_namespace(index.catalog.engine, identity)
        return upgraded
    with closing(earlier), closing(own), index.writing("index upgrade") as lease:
        ledger = Ledger(index.catalog, index.home, lease.lease_id)
        existing = set(earlier.collections())
        kinds = [(v, kind) for v in index.catalog.versions() for kind in KINDS]
        wanted = [(v, kind) for v, kind in kinds if collection_of(kind, v.fingerprint) in existing]
        if not identity.namespace:
            for version, kind in wanted:
                points = list(ledger.points(version.fingerprint, kind))
                _create(index, own, version, kind)
                collection = collection_of(kind, version.fingerprint)
                copied = _copy(earlier, own, collection, points, lease, on_progress)
                upgraded.copied[collection] = copied
                upgraded.lost += len(points) - copied
            lease.check()
            use_namespace(index.catalog.engine, identity)
        index.name_live_collections(own)
        for version, kind in wanted:
            name = collection_of(kind, version.fingerprint)
            _settle(
                earlier, name, ledger.points(version.fingerprint, kind).keys(), drop_earlier, lease, upgraded
            )
    return upgraded


def _settle(
    earlier: VectorStore,
    collection: str,
    own: Collection[UUID],
    drop: bool,
    lease: WriteLease,
    upgraded: Upgraded,
) -> None:
    """Drop an earlier collection of this index on request, unless others may need it; note what stays."""
    points = set(earlier.ids(collection))
    if points and points.isdisjoint(own):
        return  # another index's alone
    unknown = len(points.difference(own))
    if drop and not unknown:
        lease.check()
        earlier.drop(collection)
        upgraded.dropped.append(collection)
        return
    upgraded.earlier[collection] = len(points)
    if unknown:
        upgraded.shared[collection] = unknown


def _create(index: Index, store: VectorStore, version: Version, kind: str) -> None:
    form = FORMS.get(kind, "dense")
    fields = {} if kind == "sentence" else index.catalog.own_fields()
    dim = 0 if form == "terms" else version.dim
    store.create(collection_of(kind, version.fingerprint), dim, fields, form)


def _copy(
    source: VectorStore,
    target: VectorStore,
    collection: str,
    points: Sequence[UUID],
    lease: WriteLease,
    on_progress: OnProgress,
) -> int:
    """Copy points between two stores; return how many were there."""
    copied = 0
    for batch in chunks(points):
        found = source.fetch(collection, batch)
        lease.check()
        target.upsert(collection, found)
        copied += len(found)
        on_progress(f"copying {collection}", copied, len(points))
    target.flush(collection)
    return copied
