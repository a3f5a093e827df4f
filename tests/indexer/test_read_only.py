"""An index that was opened for reading: nothing of it can be written, by any way in."""

import inspect
from collections.abc import Callable
from pathlib import Path

import pytest

from corpus.errors import EmptyIndex, HomeError, ReadOnlyIndex
from corpus.records import Problem
from corpus.sources import open_source
from indexer.catalog.ledger import Ledger
from indexer.catalog.ledger_records import Step, collection_of
from indexer.home import Home
from indexer.index import Index
from indexer.ingest.pipeline import add_source
from indexer.ingest.removal import remove_study, remove_subject
from indexer.ingest.repair import verify
from indexer.vectors.filters import FieldType
from indexer.vectors.store import VectorStore
from indexer.versions import activate, drop_version
from tests.indexer.cases import cohort
from tests.indexer.contents import contents
from trainer.runtime.encoder import Encoder

READINGS = {"collections", "search", "search_batch", "fetch", "ids", "count", "flush", "close"}


@pytest.fixture
def filled(database: str, tmp_path: Path, encoder: Encoder, encoder_folder: Path) -> Encoder:
    """An index of four studies on each kind of database; the encoder that made it."""
    source = open_source(cohort(tmp_path / "cases", 4))
    with Index.open(read_only=False) as index:
        add_source(index, source, encoder, origin="x", folder=str(encoder_folder), workers=0)
    return encoder


def test_no_way_in_writes_to_an_index_that_was_opened_for_reading(filled: Encoder, tmp_path: Path) -> None:
    fingerprint, more = filled.fingerprint, open_source(cohort(tmp_path / "more", 6))
    with Index.open() as index:
        pinned = index.pinned()
        before, images = contents(index), collection_of("image", fingerprint)
        point = next(index.store.ids(images))
        (stored,) = index.store.fetch(images, [point])
        ledger, store = Ledger(index.catalog, index.home), index.store
        problem = (None, None, Problem("x#y", "failed", "why"))
        ways: dict[str, Callable[[], object]] = {
            "add_source": lambda: add_source(index, more, filled, origin="y", folder="f", workers=0),
            "remove_study": lambda: remove_study(index, "manifest:s1"),
            "remove_subject": lambda: remove_subject(index, "manifest:p0"),
            "activate": lambda: activate(index, fingerprint),
            "calibrations": lambda: index.calibrations.keep(fingerprint, {"gate": {"a": 1}}),
            "calibrations of the pinned": lambda: pinned.calibrations.keep(fingerprint, {"gate": None}),
            "commit": lambda: ledger.commit(Step(problems=[problem]), fingerprint, "x"),
            "fields": lambda: ledger.add_fields({"own": FieldType.KEYWORD}),
            "forget": lambda: ledger.forget([point], fingerprint, "image"),
            "erase": lambda: ledger.erase(["manifest:s1"], None),
            "create": lambda: store.create("new", 4, {}),
            "delete": lambda: store.delete(images, [point]),
            "drop": lambda: store.drop(images),
            "upsert": lambda: store.upsert(images, [stored]),
            "set_payload": lambda: store.set_payload(images, {point: {}}),
            "optimize": lambda: store.optimize(images),
            "upsert of the pinned": lambda: pinned.store.upsert(images, [stored]),
        }
        for name, way in ways.items():
            with pytest.raises(ReadOnlyIndex, match="open it with read_only=False"):
                way()
            now = contents(index)
            assert now["ledger"] == before["ledger"], name
            assert now["points"].keys() == before["points"].keys(), name
        assert verify(index).faults == []


def test_every_call_of_a_store_is_known_to_read_or_refused() -> None:
    """A call that is new to `VectorStore` is of one kind or the other, and here it is decided."""
    from indexer.vectors.store import ReadOnlyStore

    calls = {name for name, _ in inspect.getmembers(VectorStore, inspect.isfunction) if name[0] != "_"}
    refused = {name for name in vars(ReadOnlyStore) if name[0] != "_"}
    assert refused | READINGS == calls
    assert not refused & READINGS


@pytest.mark.parametrize("made", [False, True])
def test_opening_for_reading_makes_nothing_where_there_is_no_index(tmp_path: Path, made: bool) -> None:
    folder = tmp_path / "home"
    if made:
        folder.mkdir()
    with pytest.raises(EmptyIndex, match="similarity index add"):
        Index.open(folder)
    assert folder.exists() == made
    assert not made or not list(folder.iterdir())


def test_opening_for_reading_a_home_without_a_catalog_makes_none(tmp_path: Path) -> None:
    home = Home.open(tmp_path / "home")
    with pytest.raises(EmptyIndex):
        Index.open(home)
    assert {path.name for path in home.folder.iterdir()} == {".key"}


def test_a_home_that_is_a_file_is_reported_as_such(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    with pytest.raises(HomeError, match="there is a file of that name"):
        Index.open(tmp_path / "home")


def test_dropping_a_version_of_an_index_opened_for_reading_is_refused(filled: Encoder) -> None:
    with Index.open(read_only=False) as index:
        version = index.active_version
        Ledger(index.catalog, index.home).register(
            type(version)("f" * 64, "other", version.dim, "f", "retired")
        )
    with Index.open() as index:
        with pytest.raises(ReadOnlyIndex):
            drop_version(index, "other")
        assert len(index.catalog.versions()) == 2
