"""What all requests of one service share: the open index, tokens, audit, queues, processes, readiness."""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from corpus.settings import settings
from indexer.belonging import check_embedded, check_server
from indexer.catalog.audit import Audit
from indexer.catalog.catalog import Catalog
from indexer.catalog.jobs import Jobs
from indexer.home import Home
from indexer.index import Index
from indexer.owner import owned_store
from indexer.stores import server_store
from indexer.vectors.store import VectorStore
from retrieval.answer import Answer
from retrieval.query.query import Query
from retrieval.service.access import Tokens
from retrieval.service.background_queue import BackgroundQueue
from retrieval.service.decode_pool import ImagePool, ThumbnailCache
from retrieval.service.index_pool import IndexPool
from retrieval.service.job_runner import Runner
from retrieval.service.middleware import RateLimit
from retrieval.service.searcher import Searcher
from retrieval.service.telemetry import Metrics

log = logging.getLogger(__name__)

_FAILURES_A_MINUTE = 30

READINESS_SECONDS = 5.0
"""Time for all checks of readiness together; a part that does not answer by then counts as down."""


class State:
    """Everything that a service has open. Close it with `close`."""

    def __init__(
        self,
        home: Home,
        catalog: Catalog,
        store: VectorStore,
        resources: ExitStack,
        server: str | None = None,
    ) -> None:
        """Use what is open; `server`: name of the Qdrant server, None where the vectors are embedded."""
        self.home, self.catalog, self.store = home, catalog, store
        self.tokens = Tokens(catalog)
        self.audit = Audit(catalog)
        self.metrics = Metrics()
        self.limit = RateLimit(settings().requests_per_minute)
        self.failures = RateLimit(_FAILURES_A_MINUTE)
        self.image_pool = ImagePool()
        self.thumbnails = ThumbnailCache()
        self.background = BackgroundQueue(home.folder)
        self._search_pool: IndexPool | None = None
        self.searcher = self._open_searcher(settings().search_workers)
        self.jobs = Jobs(catalog)
        self.readiness = Readiness()
        self.closing = threading.Event()
        self._runner: Runner | None = None
        self._server, self._belongs = server, False
        self._index = Index(home, catalog, store, resources, identity=catalog.identity())

    @classmethod
    def open(cls, folder: Path | None = None, on_wait: Callable[[str], None] | None = None) -> "State":
        """Open a home to serve it; this process then owns the vectors, where they are embedded.

        Raises:
            HomeError: home or database cannot be used.
            IndexInUse: another process owns the vectors, and did not end in time.
            WrongVectors: catalog and vectors are of two different indexes.
        """
        with ExitStack() as resources:
            home = Home.open(folder)
            catalog = Catalog.open(home)
            resources.callback(catalog.close)
            served = server_store(catalog.identity())
            if served is not None:
                resources.callback(served.close)
                return cls(home, catalog, served, resources.pop_all(), served.name)
            owned = resources.enter_context(owned_store(home, on_wait))
            check_embedded(home, catalog, owned, read_only=False)
            return cls(home, catalog, owned, resources.pop_all())

    def load_workers(self) -> None:
        """Let the processes that search load their encoders, where there are any."""
        if self._search_pool is not None:
            self._search_pool.load()

    def start_runner(self) -> None:
        """Run jobs from now on, first those that an earlier service left."""
        self._runner = Runner(self.jobs, self.home.folder, sole=settings().qdrant_url is None)

    def wake_runner(self) -> None:
        """Tell the runner that a job waits."""
        if self._runner is not None:
            self._runner.wake()

    def index(self) -> Index:
        """Return the index pinned to the version that is active at this moment, with its encoder loaded.

        Raises:
            EmptyIndex: the index is empty.
            EncoderError: the encoder's folder is missing or broken.
        """
        self._index.check_identity(self.catalog.identity())
        self._check_vectors()
        index = self._index.pinned()
        index.encoder  # noqa: B018  loading belongs to the start-up, not to a search
        return index

    def _check_vectors(self) -> None:
        """Compare the vectors with the catalog, once there are any: another machine may have filled it.

        Raises:
            WrongVectors: they are of two different indexes.
        """
        if self._belongs or not self.catalog.has_points():
            return
        if self._server is not None:
            check_server(self._server, self.catalog, self.store, read_only=True)
        self._belongs = True

    @property
    def loaded(self) -> bool:
        """Whether an encoder is loaded."""
        return self._index.loaded

    def _open_searcher(self, workers: int) -> Searcher:
        if not workers:
            return Searcher(self._prepare, self.metrics.batch.observe)
        self._search_pool = pool = IndexPool(
            self.home.folder, workers, "retrieval.service.index_worker:work", 1
        )

        def prepare(queries: Sequence[Query]) -> Callable[[], Sequence[Answer | Exception]]:
            from retrieval.search import search_each

            return partial(pool.call, search_each, [queries])

        return Searcher(prepare, self.metrics.batch.observe, workers)

    def _prepare(self, queries: Sequence[Query]) -> Callable[[], Sequence[Answer | Exception]]:
        from retrieval.search import prepare, search_prepared

        self._check_vectors()
        return partial(search_prepared, prepare(self._index, queries))

    def close(self) -> None:
        """Answer the waiting searches, end the processes, close the index."""
        self.closing.set()
        if self._runner is not None:
            self._runner.close()
        self.background.close()
        self.searcher.close()
        if self._search_pool is not None:
            self._search_pool.close()
        self.image_pool.close()
        self._index.close()


class Readiness:
    """Checks the parts of a service at once, in bounded time. Threads may share it.

    A check that hangs occupies one thread, not one more for each call, and only the call that began it waits.
    """

    def __init__(self, seconds: float = READINESS_SECONDS) -> None:
        self._seconds = seconds
        self._mutex = threading.Lock()
        self._running: dict[str, tuple[Future[str], float]] = {}

    def look(self, checks: Mapping[str, tuple[str, Callable[[], str]]]) -> dict[str, str]:
        """Return the outcome of each check.

        Args:
            checks: name → the outcome where the check raises or does not end in time, and the check.
        """
        running = {name: self._start(name, check) for name, (_, check) in checks.items()}
        return {name: _outcome(*running[name], fallback) for name, (fallback, _) in checks.items()}

    def _start(self, name: str, check: Callable[[], str]) -> "tuple[Future[str], float]":
        """Return the check that runs, and until when it is waited for."""
        with self._mutex:
            future, until = self._running.get(name, (None, 0.0))
            if future is None or future.done():
                future, until = Future(), time.monotonic() + self._seconds
                self._running[name] = future, until
                threading.Thread(
                    target=_run, args=(future, check), name=f"readiness-{name}", daemon=True
                ).start()
            return future, until


def _run(future: "Future[str]", check: Callable[[], str]) -> None:
    try:
        future.set_result(check())
    except Exception as error:  # each server's client raises its own
        future.set_exception(error)


def _outcome(future: "Future[str]", until: float, fallback: str) -> str:
    try:
        return future.result(max(0.0, until - time.monotonic()))
    except Exception as error:
        log.warning("not ready: %s (%s)", fallback, type(error).__name__)
        return fallback
