"""A backup brings back every row and every vector, onto either kind of database, or is refused whole."""

import io
import json
import stat
import tarfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from uuid import UUID

import jsonschema
import numpy as np
import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from corpus.errors import HomeError, IndexingError
from corpus.settings import settings
from corpus.sources import open_source
from indexer.backup import back_up, check, restore
from indexer.catalog.catalog import Catalog
from indexer.catalog.dump import restore_rows
from indexer.catalog.models import Base, IdentityRow
from indexer.home import Home
from indexer.index import Index
from indexer.ingest.pipeline import add_source
from indexer.ingest.repair import verify
from indexer.owner import owned_store
from indexer.servers import Servers
from indexer.vectors.store import Point
from similarity.cli.backup import backup
from tests.indexer.cases import cohort
from tests.indexer.postgres import fresh_database
from tests.indexer.qdrant import has_real_qdrant, index_servers, real_qdrant, servers_of
from trainer.runtime.encoder import Encoder

SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "contracts" / "backup.schema.json"


Fill = Callable[[Servers], Path]


@pytest.fixture
def fill(tmp_path: Path, encoder: Encoder, encoder_folder: Path) -> Fill:
    """Fills a home on these servers with a manifest's cases, their columns being filter fields."""

    def filled(servers: Servers) -> Path:
        folder = tmp_path / "filled"
        source = open_source(cohort(tmp_path / "cohort", 8))
        with Index.open(folder, read_only=False, servers=servers) as index:
            add_source(
                index, source, encoder, origin="x", folder=str(encoder_folder), workers=0, patches=True
            )
        return folder

    return filled


@pytest.fixture
def filled(fill: Fill) -> Path:
    """A home with a manifest's cases, in which everything is embedded."""
    return fill(Servers())


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Back up and restore across kinds of stores; where a Qdrant server is named, across servers, too."""
    if "onto" in metafunc.fixturenames:
        pairs = [("embedded", "embedded"), ("embedded", "postgres")]
        if has_real_qdrant(metafunc.config):
            pairs += [("embedded", "servers"), ("servers", "embedded"), ("servers", "servers")]
        metafunc.parametrize(("source", "onto"), pairs)


Points = dict[str, dict[UUID, Point]]


def contents(index: Index) -> tuple[dict[str, list[str]], Points]:
    """Every row, and every point by its collection."""
    with index.catalog.engine.connect() as connection:
        rows = {
            table.name: sorted(
                repr([value.replace(tzinfo=None) if isinstance(value, datetime) else value for value in row])
                for row in connection.execute(sa.select(table))
            )
            for table in Base.metadata.sorted_tables
        }
    points = {
        name: {point.id: point for point in index.store.fetch(name, list(index.store.ids(name)))}
        for name in index.store.collections()
    }
    return rows, points


def assert_same_points(found: Points, wanted: Points) -> None:
    """Two stores have the same points: what one computes in half a unit of the last digit may differ."""
    assert {name: points.keys() for name, points in found.items()} == {
        name: points.keys() for name, points in wanted.items()
    }
    for name, points in found.items():
        for point_id, point in points.items():
            other = wanted[name][point_id]
            assert dict(point.payload) == dict(other.payload)
            np.testing.assert_allclose(point.vector, other.vector, atol=1e-6)
            terms, other_terms = (
                None if one.terms is None else dict(zip(one.terms.ids, one.terms.weights, strict=True))
                for one in (point, other)
            )
            assert terms == pytest.approx(other_terms)


@contextmanager
def stores(kind: str, request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """The environment of a new index, by where it is."""
    if kind == "postgres":
        with fresh_database(request.getfixturevalue("postgres")) as url:
            yield {"SIMILARITY_DATABASE_URL": url}
    elif kind == "servers":
        qdrant = real_qdrant(request.config)
        assert qdrant is not None
        with index_servers(qdrant, request.getfixturevalue("postgres")) as environment:
            yield environment
    else:
        yield {}


def test_what_is_restored_is_what_was_backed_up_also_onto_other_stores(
    fill: Fill,
    tmp_path: Path,
    source: str,
    onto: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "backup"
    opened = ExitStack()
    request.addfinalizer(opened.close)
    original = servers_of(opened.enter_context(stores(source, request)))
    filled = fill(original)
    with Index.open(filled, read_only=False, servers=original) as index:
        backed_up = back_up(index, file)
        before = contents(index)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert backed_up.rows["study"] == 8
    kinds = {name.partition("__")[0] for name, count in backed_up.vectors.items() if count}
    assert kinds == {"images", "patches", "reports", "sentences", "terms"}
    for name, value in opened.enter_context(stores(onto, request)).items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    opened.callback(settings.cache_clear)
    opened.callback(monkeypatch.undo)
    beside = source == onto == "servers"  # on one Qdrant server
    if beside:
        with pytest.raises(HomeError, match="has vectors of the index"):
            restore(file, tmp_path / "again")
    restore(file, tmp_path / "again", copy=beside)
    with Index.open(tmp_path / "again") as index:
        rows, points = contents(index)
        identities = [rows.pop(IdentityRow.__tablename__), before[0].pop(IdentityRow.__tablename__)]
        assert (identities[0] != identities[1]) is beside
        assert rows == before[0]
        assert_same_points(points, before[1])
        assert not verify(index).faults
        assert index.home.key == Home.open(filled).key


def test_a_home_that_holds_an_index_is_not_written_over(filled: Path, tmp_path: Path) -> None:
    with Index.open(filled, read_only=False) as index:
        back_up(index, tmp_path / "backup")
    with pytest.raises(HomeError, match="holds an index already"):
        restore(tmp_path / "backup", filled)


def test_a_table_that_was_dropped_since_the_backup_is_skipped(home: Path) -> None:
    catalog = Catalog.open(Home.open(home))
    try:
        row = json.dumps(["s", "k", "p", "x", *[None] * 6, {}, {}, None, "c", None, None, None, None])
        restore_rows(catalog, [("study", [row]), ("localization", ['["s#i", "f", "nodule", "patches", {}]'])])
        assert list(catalog.study_ids()) == ["s"]
    finally:
        catalog.close()


def test_a_damaged_backup_is_refused_before_anything_is_written(filled: Path, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    with Index.open(filled, read_only=False) as index:
        back_up(index, file)
    whole = file.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:200] + b"\0" * 50 + whole[250:], b"", b"nonsense"):
        file.write_bytes(damaged)
        with pytest.raises(IndexingError, match="backup"):
            restore(file, tmp_path / "never")
    assert not (tmp_path / "never").exists()


def test_a_backup_is_made_beside_a_service_and_never_half(
    filled: Path, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIMILARITY_HOME", str(filled))
    settings.cache_clear()
    file = tmp_path / "backup"
    with owned_store(Home.open()):
        result = CliRunner().invoke(backup, [str(file), "--json"])
    assert result.exit_code == 0, result.output
    jsonschema.validate(json.loads(result.stdout), json.loads(SCHEMA.read_text()))
    assert check(file).rows["study"] == 8
    refused = CliRunner().invoke(backup, [str(tmp_path / "not-there" / "backup")])
    assert isinstance(refused.exception, HomeError)
    assert [p.name for p in tmp_path.iterdir() if p.name.endswith(".part")] == []


def test_a_backup_of_the_version_before_is_restored_with_an_identity_of_its_own(
    filled: Path, tmp_path: Path
) -> None:
    file, earlier = tmp_path / "backup", tmp_path / "earlier"
    with Index.open(filled, read_only=False) as index:
        back_up(index, file)
        original = index.catalog.identity()
    with tarfile.open(file, "r:gz") as old, tarfile.open(earlier, "w:gz") as new:
        for member in old:
            content = old.extractfile(member)
            assert content is not None
            data = content.read()
            if member.name == "backup.json":
                header = json.loads(data)
                del header["index"]  # it named none
                data = json.dumps(header | {"revision": "0008"}).encode()
            member.size = len(data)
            new.addfile(member, io.BytesIO(data))
    restore(earlier, tmp_path / "again")
    with Index.open(tmp_path / "again") as index:
        assert not verify(index).faults
        assert index.catalog.identity().index_id != original.index_id
        assert index.catalog.counts()["studies"] == {"manifest": 8}
