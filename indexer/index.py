"""The index: its home, catalog and vectors, and the encoder that made them."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING
from uuid import UUID

from corpus.errors import (
    EmptyIndex,
    FingerprintMismatch,
    IndexingError,
    MissingCollection,
)
from corpus.settings import settings
from indexer.belonging import check_identity, mark_embedded, mismatch, take_namespace
from indexer.catalog.calibrations import Calibrations
from indexer.catalog.catalog import Catalog
from indexer.catalog.database import database_url
from indexer.catalog.identity import Identity, IdentityState
from indexer.catalog.ledger_records import KINDS, alias_of, collection_of
from indexer.catalog.state import CatalogState, Version
from indexer.home import Home, given_key
from indexer.retries import RetryPolicy
from indexer.servers import Servers
from indexer.stores import open_store
from indexer.vectors.filters import FieldType
from indexer.vectors.store import Point, ReadOnlyStore, VectorStore
from indexer.write_lease import WriteLease, write_lease

if TYPE_CHECKING:
    from trainer.runtime.encoder import Encoder


class Index:
    """An open index. Leave it as a context manager, or `close` it.

    With the embedded vectors the process owns the home while the index is open, unless a service does: then
    it works through the service (`indexer.owner`). With a Qdrant server, opening it for reading never waits.

    `pinned` returns an index that uses one version throughout, while another may be activated;
    `as_remembered` does so without asking the catalog, for searches.
    """

    def __init__(
        self,
        home: Home,
        catalog: Catalog,
        store: VectorStore,
        opened: ExitStack,
        *,
        read_only: bool = False,
        on_wait: Callable[[str], None] | None = None,
        servers: Servers | None = None,
        identity: Identity | None = None,
    ) -> None:
        """Use what is open.

        Args:
            home: its folder.
            catalog: opened with the same `read_only`.
            store: its vectors.
            opened: closed when the index is closed.
            read_only: writes to `store` raise `ReadOnlyIndex`.
            on_wait: gets a line when another machine writes to the index and this one waits.
            servers: that it is on; default as the settings have it.
            identity: of the catalog when `store` was opened: `writing` refuses another.
        """
        self._identity = identity
        self.home = home
        self.catalog = catalog
        self.calibrations = Calibrations(catalog)
        self.store: VectorStore = ReadOnlyStore(store) if read_only else store
        self._opened = opened
        self._on_wait = on_wait
        self.servers = servers or Servers.named()
        self._version: Version | None = None
        self._encoders: dict[str, Encoder] = {}  # by fingerprint
        self._loading = Lock()
        self._state: CatalogState | None = None  # as it was read last
        self._original = self  # that this one was bound from

    @classmethod
    def open(
        cls,
        home: Home | Path | None = None,
        encoder: "Encoder | None" = None,
        *,
        read_only: bool = True,
        on_wait: Callable[[str], None] | None = None,
        servers: Servers | None = None,
        check: bool = True,
    ) -> "Index":
        """Open the index of a home.

        Args:
            home: default is `settings().home_folder`.
            encoder: one that is loaded already: the active version's, or that of the version to search.
            read_only: every write raises `ReadOnlyIndex`, and no home is created where there is none. One
                process writes at a time; on a Qdrant server and beside a service, readers do not wait for it.
                A catalog of an earlier version is migrated all the same: else it could not be read.
            on_wait: gets a line when another process owns the index and this one waits, and, of an index open
                for writing, when a server goes away and is waited for.
            servers: that it is on; default as the settings have it.
            check: refuse a catalog and vectors that do not belong together, or that a restore left
                incomplete; only what mends those leaves it out.

        Raises:
            EmptyIndex: it is opened read-only, and there is none yet.
            HomeError: home or database cannot be used.
            KeyMismatch: the index was made with another key than the home's.
            WrongVectors: catalog and vectors are of two different indexes.
            IndexInUse: another process owns the index, and did not end in time.
            FingerprintMismatch: no version is of `encoder`.
        """
        with ExitStack() as opened:
            servers = servers or Servers.named()
            if read_only:
                found = _existing(home, servers)
            else:
                found = home if isinstance(home, Home) else Home.open(home)
            if not read_only:
                opened.enter_context(found.lock(on_wait, name="writer"))
            # A policy for each server: it waits only for a server that answered before.
            for_store, for_catalog = (None if read_only else _retry_policy(on_wait) for _ in range(2))
            catalog = Catalog.open(found, for_catalog, read_only=read_only, servers=servers)
            opened.callback(catalog.close)
            if check:
                _require_whole(catalog)
            if check and not read_only and servers.qdrant_url is not None:
                take_namespace(catalog)
            identity = catalog.identity()
            store = opened.enter_context(
                open_store(found, catalog, on_wait, for_store, servers, read_only=read_only, check=check)
            )
            index = cls(
                found,
                catalog,
                store,
                opened.pop_all(),
                read_only=read_only,
                on_wait=on_wait,
                servers=servers,
                identity=identity,
            )
        if encoder is not None:
            try:
                index.use(encoder)
            except BaseException:
                index.close()
                raise
        return index

    def __enter__(self) -> "Index":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def pinned(self) -> "Index":
        """Return this index bound to the version that is active now; closing stays with this one.

        Raises:
            EmptyIndex: nothing was indexed yet.
        """
        return self._bound_to(self.active_version)

    def _bound_to(self, version: Version | None) -> "Index":
        if version is None:
            raise _empty(self.home.folder)
        bound = Index(
            self.home, self.catalog, self.store, ExitStack(), on_wait=self._on_wait, servers=self.servers
        )
        bound._version = version
        bound.calibrations = self.calibrations
        bound._encoders, bound._loading = self._encoders, self._loading
        return bound

    def as_remembered(self) -> "Index":
        """Return this index bound to the catalog's state as it was read last; closing stays with this one.

        A search that ends with a stamp that `is_current` does not accept is done again.

        Raises:
            EmptyIndex: nothing was indexed yet.
            KeyMismatch: meanwhile the index was filled with another key.
            WrongVectors: meanwhile it was upgraded or restored.
        """
        if (state := self._state) is None:
            state = self.catalog.state()
            if state.identity is not None:
                self.check_identity(state.identity)
        bound = self._bound_to(self._version or state.active)
        bound._state, bound._original = state, self
        self._state = state
        return bound

    @property
    def remembers(self) -> bool:
        """Whether the next `as_remembered` asks the catalog nothing."""
        return self._state is not None

    def forget_state(self) -> None:
        """Let the next `as_remembered` read the catalog's state."""
        self._state = None

    def is_current(self, stamp: str) -> bool:
        """Return whether the catalog, with this stamp now, is in the state that this index is bound to."""
        if self._state is None or stamp == self._state.stamp:
            return True
        self._original.forget_state()
        return False

    def check_identity(self, identity: Identity) -> None:
        """Refuse an index that is no longer what was opened; see `indexer.belonging.check_identity`."""
        opened = self._identity if self.servers.qdrant_url is not None else None
        check_identity(self.home, self.catalog, identity, opened)

    @property
    def own_fields(self) -> Mapping[str, FieldType]:
        """The filter fields that are columns of tables, with their types."""
        return self.catalog.own_fields() if self._state is None else self._state.own_fields

    @property
    def active_version(self) -> Version:
        """The version that searches use: the catalog's active one, unless this index is bound to another.

        Raises:
            EmptyIndex: nothing was indexed yet.
        """
        version = self._version or self.catalog.active_version()
        if version is None:
            raise _empty(self.home.folder)
        return version

    @property
    def encoder(self) -> "Encoder":
        """The active version's encoder, loaded on first use.

        Raises:
            EmptyIndex: nothing was indexed yet.
            EncoderError: its folder is gone or broken.
            FingerprintMismatch: its folder was edited.
        """
        version = self.active_version
        with self._loading:
            if version.fingerprint not in self._encoders:
                from trainer.runtime.encoder import Encoder  # late: takes seconds

                self._encoders.clear()  # of another version: one in memory is enough
                encoder = Encoder.load(version.folder, settings().device)
                if encoder.fingerprint != version.fingerprint:
                    raise FingerprintMismatch(mismatch(version, encoder.name, encoder.fingerprint))
                self._encoders[version.fingerprint] = encoder
            return self._encoders[version.fingerprint]

    @property
    def loaded(self) -> bool:
        """Whether an encoder is in memory."""
        return bool(self._encoders)

    def use(self, encoder: "Encoder") -> None:
        """Encode with this encoder and search its version, whichever is active.

        Raises:
            FingerprintMismatch: no version is of it.
        """
        active = self._version or self.catalog.active_version()
        if active is not None and active.fingerprint != encoder.fingerprint:
            versions = {version.fingerprint: version for version in self.catalog.versions()}
            if encoder.fingerprint not in versions:
                raise FingerprintMismatch(mismatch(active, encoder.name, encoder.fingerprint))
            self._version = versions[encoder.fingerprint]
        self._encoders[encoder.fingerprint] = encoder

    def collection(self, kind: str) -> str:
        """Return the active version's collection of a kind: image, report, sentence, term or patch."""
        return collection_of(kind, self.active_version.fingerprint)

    def points(self, kind: str, ids: Collection[UUID]) -> dict[UUID, Point]:
        """Return id → point of a kind in the active version; none where nothing of the kind is indexed."""
        if not ids:
            return {}
        try:
            return {point.id: point for point in self.store.fetch(self.collection(kind), ids)}
        except MissingCollection:
            return {}

    @contextmanager
    def writing(self, command: str, *, exclusive: bool = True) -> Iterator[WriteLease]:
        """Hold the right to write to the index among all machines, for the length of a `with`.

        Args:
            command: the name of the run, for the messages of others.
            exclusive: no other run may write beside it.

        Raises:
            IndexInUse: another run that is in the way did not end in time.
            IndexingError: meanwhile the index was restored, upgraded or given another key: what is open is
                not what the catalog names.
        """
        with write_lease(self.catalog, command, exclusive=exclusive, on_wait=self._on_wait) as lease:
            if not self._is_as_opened():
                raise IndexingError(
                    f"{self.catalog.name} was restored, upgraded or given another key since this command "
                    "opened it: run it again"
                )
            yield lease

    def _is_as_opened(self) -> bool:
        opened, now = self._identity, self.catalog.identity()
        if opened is None:
            return True
        same = (now.index_id, now.key_fingerprint) == (opened.index_id, self.home.key_fingerprint)
        return same and (self.servers.qdrant_url is None or now.namespace == opened.namespace)

    def accept_lost_vectors(self) -> None:
        """Begin anew in a store that has no vectors; `check` refused it, since the ledger has some.

        Raises:
            IndexingError: the store has vectors, of this index or of another.
        """
        if collections := self.store.collections():
            raise IndexingError(
                f"the vectors are not lost, or the store is another index's: it has {', '.join(collections)}"
            )
        if self.servers.qdrant_url is None:
            mark_embedded(self.home, self.catalog.identity())

    def name_live_collections(self, store: VectorStore | None = None) -> None:
        """Let a server's aliases name the active version's collections, for others who read them.

        Args:
            store: with those collections; default this index's.
        """
        store, active = store or self.store, self.catalog.active_version()
        if active is None:
            return
        existing = set(store.collections())
        live = {alias_of(kind): collection_of(kind, active.fingerprint) for kind in KINDS}
        store.set_aliases({alias: name for alias, name in live.items() if name in existing})

    def close(self) -> None:
        """Close vectors and database, and release the home."""
        self._opened.close()


def _existing(home: Home | Path | None, servers: Servers) -> Home:
    """Return the home and its catalog where they exist; nothing is created."""
    if isinstance(home, Home):
        found = home
    elif (there := Home.find(home)) is None:
        folder = (home or settings().home_folder).absolute()
        if servers.database_url is None:
            raise _empty(folder)
        if given_key() is None:
            raise _keyless(folder)
        found = Home.open(folder)  # with the key that the command gives
    else:
        found = there
    url = database_url(found, servers)
    if url.get_backend_name() == "sqlite" and not Path(str(url.database)).exists():
        raise _empty(found.folder)
    return found


def _empty(folder: Path) -> EmptyIndex:
    return EmptyIndex(
        f"the index in {folder} is empty: fill it with `similarity index add SOURCE --encoder DIR`"
    )


def _keyless(folder: Path) -> EmptyIndex:
    return EmptyIndex(
        f"the home {folder} has no key yet: bring that of the index on the servers with `similarity key "
        "import FILE`, or begin an index with `similarity index add SOURCE --encoder DIR`"
    )


def _require_whole(catalog: Catalog) -> None:
    """Refuse a catalog into which a backup was not restored to its end."""
    if catalog.identity().state is IdentityState.RESTORING:
        raise IndexingError(
            f"a restore into {catalog.name} was interrupted: run `similarity restore` again, which begins "
            "anew"
        )


def _retry_policy(on_wait: Callable[[str], None] | None) -> RetryPolicy:
    """Return the policy of a job that writes, for one server."""
    return RetryPolicy(settings().server_wait_seconds, on_wait)
