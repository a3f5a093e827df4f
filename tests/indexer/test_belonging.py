"""What is another index's is neither read, written nor deleted; a catalog refuses others' vectors."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

import migrations
from corpus.errors import EmptyIndex, HomeError, IndexingError, KeyMismatch, WrongVectors
from corpus.sources import open_source
from indexer.backup import back_up, restore
from indexer.catalog.identity import namespace_of
from indexer.catalog.ledger import Ledger
from indexer.catalog.models import IdentityRow
from indexer.catalog.state import Version
from indexer.home import Home
from indexer.index import Index
from indexer.ingest.added import Added
from indexer.ingest.pipeline import add_source
from indexer.ingest.repair import repair_versions, verify
from indexer.servers import Servers
from indexer.stores import server_store
from indexer.upgrade import upgrade
from tests.indexer.cases import cohort
from tests.indexer.contents import contents
from tests.indexer.postgres import fresh_database
from tests.indexer.qdrant import servers_of
from trainer.runtime.encoder import Encoder

pytestmark = [
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning"),
    pytest.mark.filterwarnings("ignore:Local mode performs exact:UserWarning"),
]


class World:
    """Homes, databases and one Qdrant server, on which indexes of one encoder are made."""

    def __init__(self, folder: Path, encoder: Encoder, qdrant: dict[str, str], postgres: list[str]) -> None:
        self.folder, self.encoder, self.qdrant, self.postgres = folder, encoder, qdrant, postgres
        self.opened: list[tuple[Path, Servers]] = []

    def servers(self, database: int | None = None, *, qdrant: bool = True) -> Servers:
        """The Qdrant server, and a database: of Postgres by number, or that in the home."""
        environment = self.qdrant if qdrant else {}
        if database is not None:
            environment = environment | {"SIMILARITY_DATABASE_URL": self.postgres[database]}
        return servers_of(environment)

    def add(self, home: str, servers: Servers, count: int, *, cases: str | None = None) -> Added:
        """Index a cohort; its cases are the same for one name."""
        source = cohort(self.folder / (cases or home), count)
        with self.open(home, servers) as index:
            return add_source(index, open_source(source), self.encoder, origin="x", folder="any", workers=0)

    def open(self, home: str, servers: Servers, *, read_only: bool = False, check: bool = True) -> Index:
        self.opened.append((self.folder / "homes" / home, servers))
        return Index.open(self.folder / "homes" / home, read_only=read_only, servers=servers, check=check)

    def drop_all(self) -> None:
        """Drop the collections of every index that was opened on the server."""
        for home, servers in self.opened:
            if home.exists() and servers.qdrant_url is not None:
                with ExitStack() as opened:
                    try:
                        index = opened.enter_context(
                            Index.open(home, read_only=False, servers=servers, check=False)
                        )
                    except HomeError:
                        continue
                    for collection in index.store.collections():
                        index.store.drop(collection)


@pytest.fixture
def world(tmp_path: Path, encoder: Encoder, shared_qdrant: dict[str, str], postgres: str) -> Iterator[World]:
    with fresh_database(postgres) as first, fresh_database(postgres) as second:
        world = World(tmp_path, encoder, shared_qdrant, [first, second])
        yield world
        world.drop_all()


def test_a_second_index_on_one_server_leaves_the_first_as_it_is(world: World) -> None:
    first, second = world.servers(0), world.servers(1)
    world.add("first", first, 8)
    with world.open("first", first, read_only=True) as index:
        before = contents(index)
    world.add("second", second, 5)
    with world.open("second", second) as index:
        assert not verify(index).faults
        assert set(contents(index)["points"]).isdisjoint(before["points"])
    with world.open("first", first) as index:
        assert not verify(index).faults
        after = contents(index)
    assert after["ledger"] == before["ledger"]
    assert after["points"].keys() == before["points"].keys()
    assert all(after["points"][key].payload == point.payload for key, point in before["points"].items())


def test_an_alias_names_the_live_collections_for_others_who_read_the_server(world: World) -> None:
    servers = world.servers(0)
    world.add("home", servers, 4)
    with world.open("home", servers) as index:
        namespace = index.catalog.identity().namespace
        stored = {index.store.count(index.collection("image"))}
        client = index.store._client  # type: ignore[attr-defined]
        assert {client.count(f"{namespace}images").count} == stored


def test_a_home_with_another_key_is_refused_and_learns_how_to_get_the_right_one(world: World) -> None:
    servers = world.servers(0)
    world.add("first", servers, 4)
    for read_only in (True, False):
        Home.open(world.folder / "homes" / "second")
        with pytest.raises(KeyMismatch, match=r"similarity key export.*similarity key import") as caught:
            world.open("second", servers, read_only=read_only)
        assert "\n" not in str(caught.value)
    with world.open("first", servers) as index:
        assert not verify(index).faults
    shutil.copy(world.folder / "homes/first/.key", world.folder / "homes/second/.key")
    assert sum(world.add("second", servers, 4, cases="first").embedded.values()) == 0


def test_a_catalog_of_the_version_before_adopts_only_the_key_that_it_was_made_with(world: World) -> None:
    servers = world.servers(0)
    world.add("first", servers, 3)
    with world.open("first", servers) as index, index.catalog.engine.begin() as connection:
        connection.execute(sa.delete(IdentityRow))
    Home.open(world.folder / "homes" / "second")
    with pytest.raises(KeyMismatch):
        world.open("second", servers)


def test_a_machine_without_a_home_learns_of_the_key_and_no_home_is_made(world: World) -> None:
    world.add("first", world.servers(0), 3)
    with pytest.raises(EmptyIndex, match="similarity key import"):
        world.open("elsewhere", world.servers(0), read_only=True)
    assert not (world.folder / "homes" / "elsewhere").exists()


def test_a_database_and_a_server_that_do_not_belong_together_are_both_named(
    world: World, tmp_path: Path
) -> None:
    world.add("home", world.servers(qdrant=False), 4)  # embedded
    with pytest.raises(WrongVectors, match=r"the catalog .* is of the index .*Qdrant at .* no vectors of it"):
        world.open("home", world.servers())
    with world.open("home", world.servers(qdrant=False)) as index:
        assert not verify(index).faults


@pytest.mark.parametrize("opened_before", [False, True])
def test_a_home_with_vectors_on_a_server_that_is_not_named_is_refused(
    world: World, opened_before: bool
) -> None:
    if opened_before:
        world.open("home", world.servers(qdrant=False)).close()
    world.add("home", world.servers(), 4)
    with pytest.raises(WrongVectors, match=r"not in the home .* or the Qdrant server"):
        world.add("home", world.servers(qdrant=False), 4)
    with world.open("home", world.servers()) as index:
        assert not verify(index).faults


def test_an_index_of_the_version_before_without_points_leaves_the_shared_collections_as_they_are(
    world: World,
) -> None:
    first, second = world.servers(0), world.servers(1)
    _make_as_before(world, first)
    with world.open("home", first, read_only=True) as index:
        before = contents(index)
    with world.open("second", second) as index:
        encoder = world.encoder
        version = Version(encoder.fingerprint, encoder.name, encoder.dim, "any", "building")
        Ledger(index.catalog, index.home).register(version)
        with index.catalog.engine.begin() as connection:
            connection.execute(sa.delete(IdentityRow))
    world.add("second", second, 3)
    with world.open("home", first, read_only=True) as index:
        assert contents(index)["points"].keys() == before["points"].keys()
    with world.open("second", second) as index:
        assert not verify(index).faults


def test_an_index_that_was_moved_while_a_command_waited_is_not_moved_again(world: World) -> None:
    servers = world.servers(0)
    _make_as_before(world, servers)
    with world.open("home", servers, check=False) as index:
        late = Index(
            index.home,
            index.catalog,
            index.store,
            ExitStack(),
            servers=servers,
            identity=index.catalog.identity(),
        )
        upgrade(index)
        with pytest.raises(IndexingError, match="run it again"):
            upgrade(late)


def test_a_key_is_not_replaced_while_a_run_with_it_writes(world: World) -> None:
    servers = world.servers(0)
    with world.open("first", servers) as index, index.writing("index add", exclusive=False):
        Home.open(world.folder / "homes" / "second")
        with pytest.raises(KeyMismatch):
            world.open("second", servers)
    world.open("second", servers).close()  # nothing was made with the first
    with world.open("second", servers) as index, index.writing("index add"):
        pass


def test_a_run_with_a_key_that_was_replaced_before_it_wrote_writes_nothing(world: World) -> None:
    servers = world.servers(0)
    with world.open("first", servers) as index:
        Home.open(world.folder / "homes" / "second")
        world.open("second", servers).close()
        with pytest.raises(IndexingError, match="another key"), index.writing("index add"):
            pass


def test_vectors_in_a_home_refuse_the_database_of_another_index(world: World) -> None:
    postgres = world.servers(0, qdrant=False)
    world.add("first", postgres, 4)
    world.add("second", world.servers(1, qdrant=False), 3)
    shutil.copy(world.folder / "homes/first/.key", world.folder / "homes/second/.key")
    with pytest.raises((WrongVectors, KeyMismatch)):
        world.open("second", postgres)
    with world.open("first", postgres) as index:
        assert not verify(index).faults


def test_another_home_with_the_key_is_refused_the_vectors_that_lie_elsewhere(world: World) -> None:
    postgres = world.servers(0, qdrant=False)
    world.add("first", postgres, 4)
    Home.open(world.folder / "homes/second")
    shutil.copy(world.folder / "homes/first/.key", world.folder / "homes/second/.key")
    with pytest.raises(WrongVectors, match="not in the home"):
        world.open("second", postgres)


def test_vectors_without_a_mark_are_recognised_by_their_points(world: World) -> None:
    postgres = world.servers(0, qdrant=False)
    world.add("home", postgres, 4)
    mark = Home.open(world.folder / "homes/home").mark
    mark.unlink()
    with world.open("home", postgres) as index:
        assert not verify(index).faults
    assert mark.exists()
    mark.unlink()
    with pytest.raises(WrongVectors, match="not of the index"):
        world.open("home", world.servers(1, qdrant=False))


def test_vectors_that_are_lost_for_good_are_embedded_again_once_the_user_says_so(world: World) -> None:
    servers = world.servers(0)
    world.add("home", servers, 4)
    with world.open("home", servers) as index:
        with pytest.raises(IndexingError, match="not lost"):
            index.accept_lost_vectors()
        for collection in index.store.collections():
            index.store.drop(collection)
    with pytest.raises(WrongVectors, match="repair --vectors-lost"):
        world.open("home", servers)
    with world.open("home", servers, check=False) as index:
        index.accept_lost_vectors()
        assert repair_versions(index).lost > 0
    added = world.add("home", servers, 4)
    assert added.embedded["report"] == 4
    assert added.missing == 0
    with world.open("home", servers) as index:
        assert not verify(index).faults


def test_what_the_store_lost_and_no_source_brings_back_is_counted(world: World) -> None:
    servers = world.servers(0)
    world.add("home", servers, 6)
    with world.open("home", servers) as index:
        index.store.drop(index.collection("report"))
    added = world.add("home", servers, 1, cases="other")  # one study of the index, and a new one of none
    assert added.missing == 5


def test_a_backup_has_the_vectors_of_its_index_only_and_restores_as_it_or_as_a_copy(world: World) -> None:
    original, foreign = world.servers(0), world.servers()
    world.add("first", original, 6)
    world.add("foreign", foreign, 9)
    file = world.folder / "backup"
    with world.open("first", original) as index:
        contents_of = back_up(index, file)
        identity = index.catalog.identity()
        points = contents(index)["points"].keys()
        stored = {name: index.store.count(name) for name in index.store.collections()}
    assert dict(contents_of.vectors) == stored
    onto = world.servers(1)
    with pytest.raises(HomeError, match="not written over: restore beside them with --copy"):
        restore(file, world.folder / "homes/restored", servers=onto)
    restore(file, world.folder / "homes/restored", copy=True, servers=onto)
    with pytest.raises(HomeError, match="holds an index already"):
        restore(file, world.folder / "homes/restored", copy=True, servers=onto)
    with world.open("restored", world.servers(1)) as index:
        assert index.catalog.identity().index_id != identity.index_id
        assert contents(index)["points"].keys() == points
        assert not verify(index).faults
        for collection in index.store.collections():
            index.store.drop(collection)
    with world.open("first", original) as index:
        assert not verify(index).faults
    with world.open("foreign", foreign) as index:
        assert not verify(index).faults


def test_an_interrupted_restore_is_refused_by_others_and_begun_anew(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.add("first", world.servers(qdrant=False), 4)
    file = world.folder / "backup"
    with world.open("first", world.servers(qdrant=False)) as index:
        back_up(index, file)
    onto = world.servers(0)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("indexer.backup.restore_rows", interrupted)
        with pytest.raises(KeyboardInterrupt):
            restore(file, world.folder / "homes/restored", servers=onto)
    with pytest.raises(IndexingError, match=r"restore into .* was interrupted"):
        world.open("restored", world.servers(0))
    restore(file, world.folder / "homes/restored", servers=onto)
    with world.open("restored", world.servers(0)) as index:
        assert not verify(index).faults
        assert index.catalog.counts()["studies"] == {"manifest": 4}


def test_an_interrupted_restore_deletes_nothing_on_a_server_that_it_did_not_write_to(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = world.servers(0)
    world.add("first", original, 4)
    file = world.folder / "backup"
    with world.open("first", original) as index:
        back_up(index, file)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    home = world.folder / "homes/restored"
    with monkeypatch.context() as patched:
        patched.setattr("indexer.backup.restore_rows", interrupted)
        with pytest.raises(KeyboardInterrupt):
            restore(file, home, servers=world.servers(1, qdrant=False))  # the server was not named
    for copy in (False, True):
        if not copy:
            with pytest.raises(HomeError, match="not written over"):
                restore(file, home, servers=world.servers(1))
        else:
            restore(file, home, copy=True, servers=world.servers(1))
        with world.open("first", original) as index:
            assert not verify(index).faults
    with world.open("restored", world.servers(1)) as index:
        assert not verify(index).faults


def test_an_index_of_the_version_before_is_moved_without_embedding_again(world: World) -> None:
    servers = world.servers(0)
    _make_as_before(world, servers)
    with pytest.raises(WrongVectors, match="similarity index upgrade"):
        world.open("home", servers)
    with world.open("home", servers, read_only=True) as index:  # searched as before, meanwhile
        before = contents(index)
        assert before["points"]
    with world.open("home", servers, check=False) as index:
        upgraded = upgrade(index)
        assert sum(upgraded.copied.values()) == len(before["points"])
        assert upgraded.lost == 0
        assert upgraded.earlier == upgraded.copied
    with world.open("home", servers) as index:
        assert index.catalog.identity().namespace == namespace_of(index.catalog.identity().index_id)
        assert contents(index)["points"].keys() == before["points"].keys()
        assert not verify(index).faults
    again = world.add("home", servers, 4)
    assert sum(again.embedded.values()) == 0
    with world.open("home", servers, check=False) as index:
        earlier = server_store(replace(index.catalog.identity(), namespace=""), servers=servers)
        assert earlier is not None
        reports = index.collection("report")
        (point, *_) = earlier.fetch(reports, list(earlier.ids(reports)))
        stray = replace(point, id=uuid4())  # of another index, with which the collection is shared
        earlier.upsert(reports, [stray])
        shared = upgrade(index, drop_earlier=True)
        assert shared.shared == {reports: 1}
        assert reports not in shared.dropped
        earlier.delete(reports, [stray.id])
        assert upgrade(index, drop_earlier=True).dropped == [reports]
        assert upgrade(index).earlier == {}
        earlier.close()
    with world.open("home", servers) as index:
        assert not verify(index).faults


def test_a_home_of_the_version_before_is_migrated_at_open_without_embedding_again(world: World) -> None:
    embedded = world.servers(qdrant=False)
    world.add("home", embedded, 4)
    with world.open("home", embedded) as index:
        before = contents(index)
        _downgrade(index)
    (Home.open(world.folder / "homes/home").mark).unlink()
    with world.open("home", embedded, read_only=True) as index:
        assert contents(index)["points"].keys() == before["points"].keys()
    assert sum(world.add("home", embedded, 4).embedded.values()) == 0
    with world.open("home", embedded) as index:
        assert index.catalog.identity().namespace
        assert not verify(index).faults
    assert (Home.open(world.folder / "homes/home").mark).exists()


def _downgrade(index: Index) -> None:
    """Bring a catalog to the tables of the version before, which knew no identity and no leases."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    with index.catalog.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0008")


def _make_as_before(world: World, servers: Servers) -> None:
    """Fill an index as the version before did: collections named by the encoder alone, and no identity."""
    with world.open("home", servers, check=False) as index, index.catalog.engine.begin() as connection:
        connection.execute(sa.update(IdentityRow).values(namespace=""))
    source = cohort(world.folder / "home", 4)
    with world.open("home", servers, check=False) as index:
        add_source(index, open_source(source), world.encoder, origin="x", folder="any", workers=0)
        # Outside the run: its lease is a table of this version.
        _downgrade(index)


def test_a_search_refuses_a_server_that_has_nothing_of_the_index(world: World) -> None:
    servers = world.servers(0)
    world.add("home", servers, 3)
    with world.open("home", servers) as index:
        for collection in index.store.collections():
            index.store.drop(collection)
    with pytest.raises(WrongVectors, match="has no vectors of it"):
        world.open("home", servers, read_only=True)


def test_two_keys_on_an_empty_index_never_mix(world: World) -> None:
    servers = world.servers(0)
    source = cohort(world.folder / "cases", 3)
    with world.open("first", servers) as first:
        world.open("second", servers).close()  # of another key, on a catalog in which nothing was made yet
        with pytest.raises(IndexingError, match="another key"):
            add_source(first, open_source(source), world.encoder, origin="x", folder="any", workers=0)
    world.add("second", servers, 3)
    with pytest.raises(KeyMismatch):
        world.open("first", servers)
    with world.open("second", servers) as index:
        assert not verify(index).faults


def test_a_restore_takes_the_key_of_the_backup_where_nothing_was_made_with_the_homes(world: World) -> None:
    world.add("first", world.servers(qdrant=False), 3)
    file = world.folder / "backup"
    with world.open("first", world.servers(qdrant=False)) as index:
        back_up(index, file)
    Home.open(world.folder / "homes/restored")  # any command makes a key
    restore(file, world.folder / "homes/restored", servers=world.servers(0))
    with world.open("restored", world.servers(0)) as index:
        assert not verify(index).faults
