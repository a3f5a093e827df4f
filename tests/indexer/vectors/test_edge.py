"""What only the embedded store promises: it survives its process, and its graph misses next to nothing."""

import shutil
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest

from indexer.vectors.edge.graph import finish_swap
from indexer.vectors.edge.shards import EdgeStore
from indexer.vectors.filters import Comparison
from indexer.vectors.store import Point


def clustered(n: int, dim: int = 32) -> list[Point]:
    """Vectors in clusters, as real ones lie: on purely random ones a graph finds little."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(40, dim))
    vectors = centres[rng.integers(0, 40, n)] + 0.3 * rng.normal(size=(n, dim))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return [
        Point(UUID(int=i + 1), v.astype(np.float32), {"kind": "image", "sex": "FMO"[i % 3]})
        for i, v in enumerate(vectors)
    ]


def test_points_outlive_the_store(tmp_path: Path) -> None:
    points = clustered(50)
    first = EdgeStore(tmp_path)
    first.create("images", 32, {})
    first.upsert("images", points)
    first.close()
    second = EdgeStore(tmp_path)
    stored = {p.id: p for p in second.fetch("images", [p.id for p in points])}
    assert {i: dict(p.payload) for i, p in stored.items()} == {p.id: dict(p.payload) for p in points}
    for point in points:
        np.testing.assert_array_equal(stored[point.id].vector, point.vector)
    second.close()


def test_the_graph_finds_what_comparison_finds_also_under_a_filter(tmp_path: Path) -> None:
    points = clustered(12_000)
    store = EdgeStore(tmp_path, graph_from=10_000)
    store.create("images", 32, {})
    store.upsert("images", points)
    assert store.optimize("images")
    assert not store.optimize("images")
    assert store.count("images") == len(points)
    found = wanted = 0
    for point in points[:60]:
        where = Comparison("sex", "=", "F")
        exact = {h.id for h in store.search("images", point.vector, 10, where, exact=True)}
        found += len(exact & {h.id for h in store.search("images", point.vector, 10, where)})
        wanted += len(exact)
    assert found / wanted >= 0.98
    store.close()


@pytest.mark.parametrize("moment", ["copying", "copied", "renamed", "in place"])
def test_a_swap_interrupted_at_any_moment_leaves_a_whole_collection(tmp_path: Path, moment: str) -> None:
    store = EdgeStore(tmp_path)
    store.create("images", 32, {})
    store.upsert("images", clustered(20))
    store.close()
    shard = tmp_path / "images"
    if moment == "copying":
        shutil.copytree(shard, tmp_path / "images.optimizing")
    elif moment == "copied":
        shutil.copytree(shard, tmp_path / "images.optimized")
    elif moment == "renamed":
        shutil.copytree(shard, tmp_path / "images.optimized")
        shard.rename(tmp_path / "images.before")
    else:
        shutil.copytree(shard, tmp_path / "images.before")
    finish_swap(tmp_path)
    again = EdgeStore(tmp_path)
    assert again.collections() == ["images"]
    assert again.count("images") == 20
    again.close()
