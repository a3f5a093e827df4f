"""`index add --patches` reads and letterboxes each image once, for its hash, its vector and its patches."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corpus import geometry
from corpus.images import reader
from corpus.sources import open_source
from indexer.index import Index
from indexer.ingest.added import Added
from indexer.ingest.pipeline import add_source
from tests.indexer.cases import cohort
from trainer.runtime.encoder import Encoder


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts by file how often its pixels are read, and under "resized" every resizing."""
    counts: Counter[str] = Counter()
    read_bytes, resize = reader.read_bytes, geometry.resize

    def read(path: str | Path, **options: Any) -> bytes:
        counts[Path(path).name] += 1
        return read_bytes(path, **options)

    def resized(*arguments: Any) -> Any:
        counts["resized"] += 1
        return resize(*arguments)

    monkeypatch.setattr(reader, "read_bytes", read)
    monkeypatch.setattr(geometry, "resize", resized)
    return counts


def add(folder: Path, source: str, encoder: Encoder, patches: bool) -> Added:
    with Index.open(folder, read_only=False) as index:
        return add_source(
            index, open_source(source), encoder, origin="x", folder="", workers=0, patches=patches
        )


def test_an_image_is_read_and_resized_once_for_its_vector_and_its_patches(
    tmp_path: Path, encoder: Encoder, reads: Counter[str]
) -> None:
    source = cohort(tmp_path / "cases", 6)
    images = {path.name: 1 for path in (tmp_path / "cases").glob("*.png")}
    added = add(tmp_path / "home", source, encoder, patches=True)
    assert added.embedded["image"] == added.embedded["patch"] == len(images) == 5
    assert reads == images | {"resized": 5}


def test_an_image_goes_through_the_network_once_for_its_vector_and_its_patches(
    tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: Counter[str] = Counter()

    class CountedTowers:
        def __getattr__(self, name: str) -> Any:
            method = getattr(towers, name)
            if name not in ("images", "patches", "images_and_patches"):
                return method

            def counted(framed: Any) -> Any:
                passes[name] += len(framed)
                return method(framed)

            return counted

    towers = encoder.towers
    monkeypatch.setattr(encoder, "towers", CountedTowers())
    source = cohort(tmp_path / "cases", 6)
    add(tmp_path / "home", source, encoder, patches=True)
    assert passes == {"images_and_patches": 5}
    passes.clear()
    add(tmp_path / "plain", source, encoder, patches=False)
    add(tmp_path / "plain", source, encoder, patches=True)
    assert passes == {"images": 5, "patches": 5}
    for kind in ("image", "patch"):
        once, twice = (vectors(tmp_path / name, kind) for name in ("home", "plain"))
        assert once.keys() == twice.keys()
        for item_id, vector in once.items():
            np.testing.assert_allclose(vector, twice[item_id], atol=1e-5)


def vectors(folder: Path, kind: str) -> dict[str, Any]:
    """Item id → its vectors of a kind."""
    with Index.open(folder) as index:
        collection = index.collection(kind)
        points = index.store.fetch(collection, index.store.ids(collection))
        items = index.catalog.items_of_points([point.id for point in points])
    return {items[point.id].item_id: point.vector for point in points}


def test_patches_of_an_index_without_them_take_one_reading_and_a_second_run_none(
    tmp_path: Path, encoder: Encoder, reads: Counter[str]
) -> None:
    source = cohort(tmp_path / "cases", 6)
    add(tmp_path / "home", source, encoder, patches=False)
    reads.clear()
    added = add(tmp_path / "home", source, encoder, patches=True)
    assert (added.embedded["image"], added.embedded["patch"]) == (0, 5)
    assert set(reads.values()) == {1, 5}
    assert reads["resized"] == 5
    reads.clear()
    add(tmp_path / "home", source, encoder, patches=True)
    assert not reads
