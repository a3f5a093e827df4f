"""What all requests of one service share: the open index, its encoders, the people and the processes."""

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from corpus.settings import settings
from indexer.catalog.catalog import Catalog
from indexer.catalog.database import open_database
from indexer.home import Home
from indexer.index import Index, server_store
from indexer.owner import owned_store
from indexer.vectors.store import VectorStore
from retrieval.answer import Answer
from retrieval.query.query import Query
from retrieval.service.access import Tokens
from retrieval.service.audit import Audit
from retrieval.service.images import PicturePool
from retrieval.service.job_runner import Runner
from retrieval.service.jobs import Jobs
from retrieval.service.limits import RateLimit
from retrieval.service.middleware import Metrics
from retrieval.service.readiness import Readiness
from retrieval.service.searcher import Searcher
from retrieval.service.slow_lane import SlowLane
from retrieval.service.thumbnails import Thumbnails

_FAILURES_A_MINUTE = 30


class State:
    """Everything that a service holds open. Leave it with `close`."""

    def __init__(self, home: Home, catalog: Catalog, store: VectorStore, held: ExitStack) -> None:
        self.home, self.catalog, self.store = home, catalog, store
        self.tokens = Tokens(catalog.engine)
        self.audit = Audit(catalog.engine)
        self.metrics = Metrics()
        self.limit = RateLimit(settings().requests_per_minute)
        self.failures = RateLimit(_FAILURES_A_MINUTE)
        self.pictures = PicturePool()
        self.thumbnails = Thumbnails()
        self.slow = SlowLane(home.folder)
        self.searcher = Searcher(self._prepare, self.metrics.batch.observe)
        self.jobs = Jobs(catalog.engine)
        self.readiness = Readiness()
        self.closing = threading.Event()
        self._runner: Runner | None = None
        self._index = Index(home, catalog, store, held)

    @classmethod
    def open(cls, folder: Path | None = None, on_wait: Callable[[str], None] | None = None) -> "State":
        """Open a home to serve it; with the embedded vectors this process is then their owner.

        Raises:
            HomeError: home or database cannot be used.
            IndexInUse: another process owns the vectors, and did not end in time.
        """
        with ExitStack() as held:
            home = Home.open(folder)
            store = server_store()
            if store is None:
                store = held.enter_context(owned_store(home, on_wait))
            else:
                held.callback(store.close)
            engine = open_database(home)
            held.callback(engine.dispose)
            return cls(home, Catalog(engine), store, held.pop_all())

    def start_runner(self) -> None:
        """Have jobs done from now on, those first that an earlier service left."""
        self._runner = Runner(self.jobs, self.home.folder, sole=settings().qdrant_url is None)

    def wake_runner(self) -> None:
        """Say that a job waits."""
        if self._runner is not None:
            self._runner.wake()

    def index(self) -> Index:
        """The index as it is now: the version that is active at this moment, with its encoder.

        Raises:
            EmptyIndex: nothing was indexed yet.
            EncoderError: the encoder's folder is gone or broken.
        """
        index = self._index.pinned()
        index.encoder  # noqa: B018  to load it is part of the start-up, not of a search
        return index

    @property
    def loaded(self) -> bool:
        """Whether an encoder is ready."""
        return self._index.loaded

    def _prepare(self, queries: Sequence[Query]) -> Sequence[Callable[[], Answer]]:
        from retrieval.search import prepare

        return prepare(self.index(), queries)

    def close(self) -> None:
        """Answer what waits, end the processes, let go of the index."""
        self.closing.set()
        if self._runner is not None:
            self._runner.close()
        self.slow.close()
        self.searcher.close()
        self.pictures.close()
        self._index.close()
