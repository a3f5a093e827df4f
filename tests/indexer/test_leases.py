"""Runs on several machines write to one index at once, and none deletes what another has not committed."""

import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
import sqlalchemy as sa

from corpus.errors import IndexInUse, LeaseLost, ServerUnavailable
from corpus.records import Study
from corpus.settings import settings
from corpus.sources import open_source
from indexer.backup import back_up
from indexer.catalog import identity
from indexer.catalog.catalog import Catalog
from indexer.catalog.leases import LEASE_SECONDS, SILENT_SECONDS, Leases, fence
from indexer.catalog.ledger import Ledger
from indexer.catalog.ledger_records import NewStudy, Step
from indexer.catalog.models import ClaimRow, LeaseRow, LedgerRow, TombstoneRow
from indexer.home import Home
from indexer.index import Index
from indexer.ingest import pending, pipeline
from indexer.ingest.added import Added, Observer, Stage
from indexer.ingest.pipeline import add_source
from indexer.ingest.removal import remove_study
from indexer.ingest.repair import repair_versions, verify
from indexer.servers import Servers
from tests.indexer.cases import PHRASES, case, cohort, write_manifest
from tests.indexer.postgres import fresh_database
from tests.indexer.qdrant import servers_of
from tests.waiting import DEADLINE_SECONDS, eventually
from trainer.runtime.encoder import Encoder

pytestmark = [
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning"),
    pytest.mark.filterwarnings("ignore:Local mode performs exact:UserWarning"),
]


class Machines:
    """Machines that share an index on servers; each has a home of its own, with the index's key."""

    def __init__(self, folder: Path, servers: Servers, encoder: Encoder) -> None:
        self.folder, self.servers, self.encoder = folder, servers, encoder

    def open(self, machine: str) -> Index:
        home, first = self.folder / machine, self.folder / "first"
        if not home.exists():
            home.mkdir(mode=0o700)
            Home.open(first)
            if home != first:
                shutil.copy(first / ".key", home / ".key")
        return Index.open(home, read_only=False, servers=self.servers)

    def add(self, machine: str, source: str, observer: Observer | None = None) -> Added:
        with self.open(machine) as index:
            return add_source(
                index,
                open_source(source),
                self.encoder,
                origin=source,
                folder="any",
                workers=0,
                observer=observer,
            )


@pytest.fixture
def machines(
    tmp_path: Path,
    encoder: Encoder,
    shared_qdrant: dict[str, str],
    postgres: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Machines]:
    monkeypatch.setattr(pipeline, "STEP_STUDIES", 4)
    monkeypatch.setattr(pending, "COMMIT_SECONDS", 0.0)  # commit every step
    with fresh_database(postgres) as own:
        environment = shared_qdrant | {"SIMILARITY_DATABASE_URL": own}
        machines = Machines(tmp_path, servers_of(environment), encoder)
        machines.open("first").close()
        yield machines
        with machines.open("first") as index:
            for collection in index.store.collections():
                index.store.drop(collection)


@pytest.fixture
def leases(machines: Machines) -> Iterator[Leases]:
    """The leases of the machines' catalog."""
    with closing(Catalog.open(Home.open(machines.folder / "first"), servers=machines.servers)) as catalog:
        yield Leases(catalog)


class Pause:
    """Holds a run at a stage until it is let go."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.reached, self.go = stage, threading.Event(), threading.Event()

    def __call__(self, stage: Stage, _added: Added) -> None:
        if stage == self.stage and not self.reached.is_set():
            self.reached.set()
            assert self.go.wait(DEADLINE_SECONDS)


@pytest.mark.parametrize("stage", ["vectors", "committing"])
def test_a_run_leaves_what_another_machine_has_not_committed(
    machines: Machines, tmp_path: Path, stage: Stage
) -> None:
    pause = Pause(stage)
    mine, other = cohort(tmp_path / "mine", 6), _renamed(tmp_path / "other", 5)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(machines.add, "second", mine, pause)
        assert pause.reached.wait(DEADLINE_SECONDS)
        machines.add("first", other)
        pause.go.set()
        running.result(DEADLINE_SECONDS)
    with machines.open("first") as index:
        assert not verify(index).faults
        assert index.catalog.counts()["studies"] == {"manifest": 11}


def _renamed(folder: Path, count: int) -> str:
    folder.mkdir()
    rows = [case(n, folder) | {"study_id": f"t{n}", "subject_id": f"q{n}"} for n in range(count)]
    return write_manifest(folder, rows)


def test_two_machines_that_index_the_same_studies_in_a_new_index_both_succeed(
    machines: Machines, tmp_path: Path
) -> None:
    source = cohort(tmp_path / "cases", 16)
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(machines.add, machine, source) for machine in ("first", "second")]
        added = [run.result(DEADLINE_SECONDS) for run in runs]
    with machines.open("first") as index:
        assert not verify(index).faults
        assert index.catalog.counts()["studies"] == {"manifest": 16}
        stored = index.catalog.counts()["vectors"]["report"]
    assert sum(one.embedded["report"] for one in added) == stored  # none was embedded twice


def test_a_run_that_waits_for_studies_of_another_goes_on_when_they_are_committed(
    machines: Machines, tmp_path: Path
) -> None:
    pause = Pause("vectors")
    source = cohort(tmp_path / "cases", 4)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(machines.add, "first", source, pause)
        assert pause.reached.wait(DEADLINE_SECONDS)
        second = pool.submit(machines.add, "second", source)
        eventually(lambda: second.running() and _claims(machines))
        pause.go.set()
        first.result(DEADLINE_SECONDS)
        assert second.result(DEADLINE_SECONDS).unchanged == 4


def _claims(machines: Machines) -> int:
    catalog = Catalog.open(Home.open(machines.folder / "first"), servers=machines.servers)
    with closing(catalog), catalog.engine.connect() as connection:
        return connection.scalar(sa.select(sa.func.count()).select_from(ClaimRow)) or 0


def test_a_sentence_that_one_run_drops_and_another_needs_stays(machines: Machines, tmp_path: Path) -> None:
    folder = tmp_path / "cases"
    folder.mkdir()
    row = case(0, folder, image=False) | {"report": PHRASES[0]}
    source = write_manifest(folder, [row])
    machines.add("first", source)
    other = tmp_path / "other"
    other.mkdir()
    needs = write_manifest(other, [case(1, other, image=False) | {"study_id": "u1", "report": PHRASES[0]}])
    pause = Pause("vectors")
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(machines.add, "second", needs, pause)
        assert pause.reached.wait(DEADLINE_SECONDS)  # it found the sentence's vector made, and wrote none
        write_manifest(folder, [row | {"report": PHRASES[1]}])
        machines.add("first", source)
        pause.go.set()
        running.result(DEADLINE_SECONDS)
    with machines.open("first") as index:
        assert not verify(index).faults
        assert {text for _, text in index.catalog.sentences()} == set(PHRASES[:2])


def test_a_removal_waits_for_a_run_and_names_it(
    machines: Machines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIMILARITY_LOCK_WAIT_SECONDS", "0")
    settings.cache_clear()
    pause = Pause("vectors")
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(machines.add, "second", cohort(tmp_path / "cases", 4), pause)
        assert pause.reached.wait(DEADLINE_SECONDS)
        with (
            machines.open("first") as index,
            pytest.raises(IndexInUse, match=r"index add \(process") as caught,
        ):
            remove_study(index, "manifest:s0")
        assert "\n" not in str(caught.value)
        pause.go.set()
        running.result(DEADLINE_SECONDS)
    with machines.open("first") as index:
        assert list(remove_study(index, "manifest:s0").studies) == ["manifest:s0"]
        assert not verify(index).faults
    settings.cache_clear()


def test_a_run_that_another_replaced_writes_nothing_more(
    machines: Machines, leases: Leases, tmp_path: Path
) -> None:
    pause = Pause("committing")
    source = cohort(tmp_path / "cases", 4)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(machines.add, "second", source, pause)
        assert pause.reached.wait(DEADLINE_SECONDS)
        _age(leases, LEASE_SECONDS + 1)  # a machine that slept
        with machines.open("first") as index:
            remove_study(index, "manifest:none")
        pause.go.set()
        with pytest.raises(LeaseLost, match="run the command again"):
            running.result(DEADLINE_SECONDS)
    with machines.open("first") as index:
        assert not list(index.catalog.study_ids())
    machines.add("first", source)
    with machines.open("first") as index:
        assert not verify(index).faults
        assert index.catalog.counts()["studies"] == {"manifest": 4}


def _age(leases: Leases, seconds: float) -> None:
    """Let every run have been silent for so long; a heartbeat makes it heard of again."""
    with leases.engine.begin() as connection:
        seen = sa.text("clock_timestamp() - make_interval(secs => :seconds)").bindparams(seconds=seconds)
        connection.execute(sa.update(LeaseRow).values(seen=seen))


def test_the_next_run_deletes_what_a_dead_run_left_and_nothing_else(
    machines: Machines, leases: Leases, tmp_path: Path
) -> None:
    class Died(BaseException):
        pass

    def die(stage: Stage, _added: Added) -> None:
        if stage == "committing":
            raise Died

    dead = leases.acquire
    source = cohort(tmp_path / "cases", 4)
    with pytest.raises(Died):
        machines.add("second", source, die)
    assert not leases.live()
    assert dead(uuid4(), "a run of a process that is gone", exclusive=True) == []
    with leases.engine.begin() as connection:
        connection.execute(sa.update(LeaseRow).values(process="0"))
    machines.add("first", _renamed(tmp_path / "other", 3))  # waits for no lease, and repairs
    with machines.open("first") as index:
        assert not verify(index).faults
        assert index.catalog.counts()["studies"] == {"manifest": 3}


def test_a_heartbeat_does_not_wait_for_a_transaction_of_its_own_run(leases: Leases) -> None:
    lease_id = uuid4()
    leases.acquire(lease_id, "add", exclusive=False)
    with ThreadPoolExecutor(1) as pool, leases.engine.begin() as connection:
        fence(connection, lease_id)
        assert pool.submit(leases.renew, lease_id).result(DEADLINE_SECONDS)
    leases.release(lease_id)


def test_a_run_that_is_heard_of_while_it_is_replaced_goes_on(leases: Leases) -> None:
    first, second = uuid4(), uuid4()
    leases.acquire(first, "add", exclusive=False)
    _age(leases, LEASE_SECONDS + 1)
    with ThreadPoolExecutor(1) as pool:
        with leases.engine.begin() as connection:
            heard = sa.update(LeaseRow).where(LeaseRow.lease_id == first)
            connection.execute(heard.values(seen=sa.func.clock_timestamp()))
            others = pool.submit(leases.acquire, second, "remove", exclusive=True)
            eventually(lambda: _waits_for_a_row(leases))
        assert [lease.lease_id for lease in others.result(DEADLINE_SECONDS)] == [first]
    assert leases.renew(first)
    leases.release(first)


def _waits_for_a_row(leases: Leases) -> bool:
    with leases.engine.connect() as connection:
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'transactionid'"
        return bool(connection.scalar(sa.text(waiting)))


def test_a_machine_that_sleeps_in_a_transaction_does_not_hold_up_the_others(
    leases: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "IDLE_SECONDS", 1)
    sleeping = leases.engine.connect()
    identity.lock_catalog(sleeping)
    with ThreadPoolExecutor(1) as pool:
        lease_id = uuid4()
        acquired = pool.submit(leases.acquire, lease_id, "add", exclusive=True)
        assert acquired.result(DEADLINE_SECONDS) == []
    with pytest.raises(ServerUnavailable, match=r"idle for too long|ended the connection"):
        sleeping.execute(sa.text("SELECT 1"))
    sleeping.close()
    leases.release(lease_id)


def test_a_commit_that_is_repeated_after_a_lost_reply_leaves_what_another_run_wrote_since(
    machines: Machines, leases: Leases
) -> None:
    ids = [uuid4() for _ in range(2)]
    with machines.open("first") as index:
        for lease_id in ids:
            leases.acquire(lease_id, "add", exclusive=False)
        ledgers = [Ledger(index.catalog, index.home, lease_id) for lease_id in ids]
        earlier, later = (Step([NewStudy(_study(age), ())], claimed=["m:s"]) for age in (40.0, 41.0))
        assert leases.claim(ids[0], ["m:s"])
        ledgers[0].commit(earlier, "f" * 64, "x")
        assert leases.claim(ids[1], ["m:s"])
        ledgers[0].commit(earlier, "f" * 64, "x")
        assert not leases.claim(ids[0], ["m:s"])  # it is still the other's
        ledgers[1].commit(later, "f" * 64, "x")
        ledgers[0].commit(earlier, "f" * 64, "x")
        assert index.catalog.studies(["m:s"])["m:s"].age == 41.0
    for lease_id in ids:
        leases.release(lease_id)


def _study(age: float) -> Study:
    return Study(study_id="m:s", subject_id="m:p", source="m", age=age)


def test_a_backup_of_a_run_that_was_replaced_is_none(
    machines: Machines, leases: Leases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machines.add("first", cohort(tmp_path / "cases", 4))

    def replaced(*_: object) -> None:
        with leases.engine.begin() as connection:
            connection.execute(sa.delete(LeaseRow))

    with machines.open("first") as index:
        monkeypatch.setattr("indexer.write_lease.RENEW_SECONDS", 0.01)
        monkeypatch.setattr("indexer.backup.os.fsync", replaced)
        monkeypatch.setattr("indexer.write_lease.LEASE_SECONDS", 0.0)
        with pytest.raises(LeaseLost):
            back_up(index, tmp_path / "backup")
    assert not (tmp_path / "backup").exists()


@pytest.mark.parametrize("left", ["tombstones", "orphans"])
def test_a_run_that_was_replaced_deletes_no_vectors(
    machines: Machines, leases: Leases, tmp_path: Path, left: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frozen between looking for what to delete and deleting it: by then it may be another's."""
    source = cohort(tmp_path / "cases", 4)
    machines.add("first", source)
    with machines.open("first") as index:
        collection, stored = index.collection("report"), index.store.count(index.collection("report"))
        points = list(index.store.ids(collection))
        with index.catalog.engine.begin() as connection:
            if left == "tombstones":
                rows = [{"collection": collection, "point_id": point} for point in points]
                connection.execute(sa.insert(TombstoneRow), rows)
            else:
                connection.execute(sa.delete(LedgerRow).where(LedgerRow.kind == "report"))
        monkeypatch.setattr("indexer.write_lease.LEASE_SECONDS", 0.0)  # ask at each step
        looked = index.store.collections

        def replaced() -> list[str]:
            with leases.engine.begin() as connection:
                connection.execute(sa.delete(LeaseRow))
            return looked()

        monkeypatch.setattr(index.store, "collections", replaced)
        with pytest.raises(LeaseLost):
            repair_versions(index)
        assert index.store.count(collection) == stored


def test_leases_exclude_each_other_as_they_say(leases: Leases) -> None:
    ids = [uuid4() for _ in range(4)]
    assert leases.acquire(ids[0], "add", exclusive=False) == []
    assert leases.acquire(ids[1], "add", exclusive=False) == []
    assert [lease.lease_id for lease in leases.acquire(ids[2], "remove", exclusive=True)] == ids[:2]
    assert not leases.make_exclusive(ids[0])
    leases.release(ids[1])
    assert leases.make_exclusive(ids[0])
    assert leases.acquire(ids[1], "add", exclusive=False)
    leases.share(ids[0])
    assert leases.acquire(ids[1], "add", exclusive=False) == []
    assert leases.claim(ids[0], ["a", "b"])
    assert leases.claim(ids[0], ["b", "c"])  # its own
    assert not leases.claim(ids[1], ["c", "d"])
    assert leases.claim(ids[1], ["d"])  # of the refused claim nothing was entered
    leases.release(ids[0])
    assert leases.claim(ids[1], ["a", "b", "c", "d"])
    leases.release(ids[1])


def test_a_silent_run_is_waited_for_until_it_is_heard_of_or_has_ended(leases: Leases) -> None:
    first, second = uuid4(), uuid4()
    assert leases.acquire(first, "add", exclusive=False) == []
    _age(leases, SILENT_SECONDS + 1)
    (silent,) = leases.acquire(second, "add", exclusive=False)
    assert silent.silent
    assert leases.renew(first)
    assert leases.acquire(second, "add", exclusive=False) == []
    leases.release(second)
    _age(leases, LEASE_SECONDS + 1)
    assert leases.acquire(second, "remove", exclusive=True) == []
    assert not leases.renew(first)
    with pytest.raises(LeaseLost):
        leases.claim(first, ["a"])
    leases.release(second)


def test_a_lease_names_its_command_and_machine_and_no_argument(leases: Leases) -> None:
    lease_id = uuid4()
    leases.acquire(lease_id, "index add", exclusive=True)
    (lease,) = leases.live()
    assert str(lease).startswith("index add (process ")
    assert lease.host in str(lease)
    leases.release(lease_id)


def test_the_lease_of_a_lost_connection_stays_when_the_database_is_back(
    machines: Machines, leases: Leases, tmp_path: Path, postgres: str
) -> None:
    """A restart of Postgres ends every connection: the run goes on, since no other replaced it."""
    pause = Pause("committing")
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(machines.add, "second", cohort(tmp_path / "cases", 4), pause)
        assert pause.reached.wait(DEADLINE_SECONDS)
        _end_connections(machines, postgres)
        pause.go.set()
        running.result(DEADLINE_SECONDS)
    with machines.open("first") as index:
        assert not verify(index).faults


def _end_connections(machines: Machines, postgres: str) -> None:
    assert machines.servers.database_url is not None
    name = sa.make_url(machines.servers.database_url.get_secret_value()).database
    with psycopg.connect(postgres, autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
