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

from corpus.errors import IndexInUse, LeaseLost
from corpus.settings import settings
from corpus.sources import open_source
from indexer.catalog.catalog import Catalog
from indexer.catalog.leases import LEASE_SECONDS, SILENT_SECONDS, Leases
from indexer.catalog.models import ClaimRow, LeaseRow
from indexer.home import Home
from indexer.index import Index
from indexer.ingest import pipeline
from indexer.ingest.pipeline import Added, Observer, Stage, add_source
from indexer.ingest.removal import remove_study
from indexer.ingest.repair import verify
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
    monkeypatch.setattr(pipeline, "COMMIT_SECONDS", 0.0)  # commit every step
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
