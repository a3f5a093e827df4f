"""The right of one run to write to an index, for as long as it is heard of (`indexer.catalog.leases`)."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from uuid import UUID, uuid4

from corpus.errors import HomeError, IndexInUse
from corpus.settings import settings
from indexer.catalog.catalog import Catalog
from indexer.catalog.leases import LEASE_SECONDS, RENEW_SECONDS, Lease, Leases, lease_lost

log = logging.getLogger(__name__)

OnWait = Callable[[str], None] | None

_LOOK_SECONDS = 0.25
"""How often a run in the way is looked for again."""


class WriteLease:
    """The lease of a run on a database server. A catalog in the home needs none: there `lease_id`
    is None, and every call succeeds."""

    def __init__(self, leases: Leases | None = None, on_wait: OnWait = None) -> None:
        """Hold no lease yet; `write_lease` acquires it.

        Args:
            leases: of the database; None for a catalog in the home.
            on_wait: gets a line when another run is waited for.
        """
        self._leases, self._on_wait = leases, on_wait
        self.lease_id: UUID | None = None if leases is None else uuid4()
        self._heard = _now()
        self._lost = False
        self._ended = threading.Event()

    def check(self) -> None:
        """Raise unless this run may still write: call it before every write to the vectors.

        Raises:
            LeaseLost: another run replaced it.
            ServerUnavailable: it cannot be known, since the database does not answer.
        """
        if self._lost:
            raise lease_lost()
        if self._leases is not None and _now() - self._heard > LEASE_SECONDS / 2:
            self._renew(self._leases)
            if self._lost:
                raise lease_lost()

    def claim(self, study_ids: Iterable[str]) -> bool:
        """Claim studies until the run commits them; return False where another run indexes one of them."""
        if self._leases is None or self.lease_id is None:
            return True
        return self._leases.claim(self.lease_id, study_ids)

    def wait_for(self, study_ids: Iterable[str]) -> None:
        """Claim studies as soon as no other run indexes them: it commits them, or ends.

        The caller has claimed nothing meanwhile, so that two runs never wait for each other.
        """
        named = list(study_ids)
        if not self.claim(named) and self._on_wait is not None:
            self._on_wait("waiting for another run, which is indexing the same studies")
        while not self.claim(named):
            time.sleep(_LOOK_SECONDS)

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Write alone for the length of a `with`, unless another run writes now; yield whether it is so."""
        if self._leases is None or self.lease_id is None:
            yield True
            return
        alone = self._leases.make_exclusive(self.lease_id)
        try:
            yield alone
        finally:
            if alone:
                self._leases.share(self.lease_id)

    def leave(self) -> bool:
        """End the run while others write, or let it write alone to its end; return whether it is the last."""
        if self._leases is None or self.lease_id is None:
            return True
        last = self._leases.leave(self.lease_id)
        if not last:
            self._ended.set()
        return last

    def _beat(self, leases: Leases) -> None:
        while not self._ended.wait(RENEW_SECONDS) and not self._lost:
            try:
                self._renew(leases)
            except Exception as error:  # `check` raises where it matters
                log.info("no heartbeat: %s", type(error).__name__)

    def _renew(self, leases: Leases) -> None:
        assert self.lease_id is not None
        sent = _now()
        if leases.renew(self.lease_id):
            self._heard = sent
        else:
            self._lost = True

    @contextmanager
    def _holding(self, command: str, exclusive: bool, catalog: Catalog, on_wait: OnWait) -> Iterator[None]:
        assert self._leases is not None
        assert self.lease_id is not None
        _wait(self._leases, self.lease_id, command, exclusive, catalog, on_wait)
        self._heard = _now()
        beat = threading.Thread(target=self._beat, args=(self._leases,), name="lease", daemon=True)
        beat.start()
        try:
            yield
        finally:
            self._ended.set()
            beat.join()
            # Where the database is away, the lease ends by itself.
            with suppress(HomeError):
                self._leases.release(self.lease_id)


def _now() -> float:
    """Return seconds that go on while the machine sleeps, where the system counts them."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


@contextmanager
def write_lease(
    catalog: Catalog, command: str, *, exclusive: bool = True, on_wait: OnWait = None
) -> Iterator[WriteLease]:
    """Hold the right to write to an index for the length of a `with`.

    Args:
        catalog: of the index.
        command: the name of the run, for the messages of others.
        exclusive: no other run may write beside it.
        on_wait: gets a line, once, when another run is in the way and this one waits.

    Raises:
        IndexInUse: the other did not end within `settings().lock_wait_seconds`.
        LeaseLost: this run was silent for too long, and another replaced it.
    """
    if catalog.engine.dialect.name != "postgresql":
        yield WriteLease()
        return
    lease = WriteLease(Leases(catalog), on_wait)
    with lease._holding(command, exclusive, catalog, on_wait):
        yield lease


def _wait(
    leases: Leases, lease_id: UUID, command: str, exclusive: bool, catalog: Catalog, on_wait: OnWait
) -> None:
    seconds = settings().lock_wait_seconds
    began = time.monotonic()
    notified = False
    while in_the_way := leases.acquire(lease_id, command, exclusive=exclusive):
        # A run that may have ended is waited for until that is known.
        limit = max(seconds, LEASE_SECONDS) if any(lease.silent for lease in in_the_way) else seconds
        if time.monotonic() - began >= limit:
            raise IndexInUse(
                f"{catalog.name} is being written by {_named(in_the_way)}; let it end, or wait longer with "
                "SIMILARITY_LOCK_WAIT_SECONDS"
            )
        if not notified and on_wait is not None:
            on_wait(f"waiting up to {limit:g} s: {catalog.name} is being written by {_named(in_the_way)}")
        notified = True
        time.sleep(_LOOK_SECONDS)


def _named(leases: list[Lease]) -> str:
    more = f" and {len(leases) - 1} more" if len(leases) > 1 else ""
    return f"{leases[0]}{more}"
