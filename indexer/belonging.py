"""Whether catalog and vectors are of one index: checked on opening, before anything is read or written.

On a server the names of an index's collections begin with its id. In a home the vectors lie beside a file
that names their index. Where the two do not belong together, each would take the other's contents for remains
of a killed run, and delete them.
"""

from corpus.errors import WrongVectors
from indexer.catalog.catalog import Catalog
from indexer.catalog.identity import Identity, key_mismatch, use_namespace
from indexer.catalog.ledger_records import KINDS, collection_of
from indexer.catalog.state import Version
from indexer.home import Home, write_private
from indexer.vectors.store import VectorStore

_SAMPLE = 100  # points by which vectors without a mark are recognised


def check_embedded(home: Home, catalog: Catalog, store: VectorStore, *, read_only: bool) -> None:
    """Refuse the embedded vectors of a home that are of another index than its catalog, or not there.

    Where they are on a server that is not named, all would be taken for lost. Vectors without a mark, of an
    earlier version, get one when they are opened for writing.

    Raises:
        WrongVectors: naming both.
    """
    identity = catalog.identity()
    marked = home.marked_index()
    if marked is not None and marked != identity.index_id:
        raise WrongVectors(
            f"{catalog.name} is of the index {identity.short}, and the vectors in {home.vectors} are of the "
            f"index {marked.hex[:8]}: name the database or the home that belongs to the other"
        )
    collections, has_points = store.collections(), catalog.has_points()
    if has_points and not collections:
        raise WrongVectors(
            f"{catalog.name} is of the index {identity.short}, and its vectors are not in the home "
            f"{home.folder}: name that home, or the Qdrant server that has them. If they are lost for good, "
            "`similarity index repair --vectors-lost` says so, and `similarity index add` embeds them again"
        )
    in_home = catalog.engine.url.database == str(home.catalog_file)
    if marked is None and collections and not in_home and not _has_any(catalog, store, collections):
        raise WrongVectors(
            f"the vectors in {home.vectors} are not of the index {identity.short} in {catalog.name}: name "
            "another home, or the database that belongs to them"
        )
    if not read_only and marked is None:
        mark_embedded(home, identity)
    if not read_only and not identity.namespace:  # it names nothing here
        use_namespace(catalog.engine, identity)


def mark_embedded(home: Home, identity: Identity) -> None:
    """Record that the embedded vectors of a home are of this index."""
    home.vectors.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(home.mark, identity.index_id.hex.encode())


def take_namespace(catalog: Catalog) -> None:
    """Give an index of an earlier version that has no points a namespace, before its store is opened.

    Without one it would write to collections that other indexes may share.
    """
    identity = catalog.identity()
    if not identity.namespace and not catalog.has_points():
        use_namespace(catalog.engine, identity)


def check_identity(home: Home, catalog: Catalog, identity: Identity, opened: Identity | None = None) -> None:
    """Refuse an index that has become another one since it was opened.

    Args:
        home: from which it was opened.
        catalog: of the index.
        identity: the catalog's now.
        opened: the one with which its vectors on a server were opened; None where they are embedded.

    Raises:
        KeyMismatch: it was filled with another key than the home's.
        WrongVectors: its vectors are in other collections now.
    """
    if identity.key_fingerprint != home.key_fingerprint:
        raise key_mismatch(catalog.engine, home, identity.key_fingerprint)
    if opened is not None and identity.namespace != opened.namespace:
        raise WrongVectors(
            f"the index {identity.short} was upgraded or restored: open it again, or start the service "
            "again, to use its vectors"
        )


def check_server(name: str, catalog: Catalog, store: VectorStore, *, read_only: bool = False) -> None:
    """Refuse a Qdrant server that has no vectors of an index, where its ledger has some.

    Args:
        name: of the server, for messages.
        catalog: of the index.
        store: the index's collections on that server.
        read_only: nothing will be written: collections that other indexes may share can be read.

    Raises:
        WrongVectors: naming both.
    """
    identity = catalog.identity()
    if not catalog.has_points() or (read_only and not identity.namespace):
        return
    if not identity.namespace:
        raise WrongVectors(
            f"the vectors of the index {identity.short} on {name} are in collections that other indexes may "
            "share: `similarity index upgrade` copies them to its own, without embedding again"
        )
    if not store.collections():
        raise WrongVectors(
            f"{catalog.name} is of the index {identity.short}, and {name} has no vectors of it: name the "
            "server that has. If they are lost for good, `similarity index repair --vectors-lost` says so, "
            "and `similarity index add` embeds them again"
        )


def mismatch(version: Version, name: str, fingerprint: str) -> str:
    """Return why an encoder may not be used on an index, in one line."""
    if name == version.name:
        return (
            f"the encoder {name!r} ({fingerprint[:8]}) is not as it was when the index was made "
            f"({version.fingerprint[:8]}): its folder was edited or trained anew. Restore it, or index into "
            "another SIMILARITY_HOME"
        )
    return (
        f"this index holds vectors of the encoder {version.name!r} ({version.fingerprint[:8]}); those of "
        f"{name!r} ({fingerprint[:8]}) do not compare with them. Leave --encoder out, or build a version for "
        "it: `similarity index add --encoder DIR`"
    )


def _has_any(catalog: Catalog, store: VectorStore, collections: list[str]) -> bool:
    """Return whether the store has some of the points that the ledger has."""
    for version in catalog.versions():
        for kind in KINDS:
            collection = collection_of(kind, version.fingerprint)
            points = catalog.some_points(version.fingerprint, kind, _SAMPLE)
            if points and collection in collections and store.fetch(collection, points):
                return True
    return False
