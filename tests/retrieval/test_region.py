"""The patches of a box of an image, and the most similar box of another image."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from corpus.errors import UsageError
from corpus.geometry import Box
from corpus.images.reader import read_image
from corpus.sources.phantom import PhantomSource
from indexer.home import Home
from indexer.index import Index
from indexer.ingest.pipeline import add_source
from indexer.ingest.removal import remove_study
from indexer.ingest.repair import verify
from retrieval.query.query import Query
from retrieval.query.region import MOST_PATCHES, Grid, crop_region, find_region
from retrieval.search import search
from trainer.runtime.encoder import Encoder

SIDES = st.integers(20, 900)


@given(st.integers(2, 16), st.integers(2, 16), SIDES, SIDES, st.data())
def test_the_box_of_a_boxs_patches_covers_its_middle(
    rows: int, columns: int, height: int, width: int, data: st.DataObject
) -> None:
    grid = Grid(rows, columns, 224, height, width)
    left = data.draw(st.integers(0, width - 2))
    top = data.draw(st.integers(0, height - 2))
    box = Box(left, top, data.draw(st.integers(left + 1, width)), data.draw(st.integers(top + 1, height)))
    covered = grid.box(*grid.cells(box))
    assert 0 <= covered.left < covered.right <= width
    assert 0 <= covered.top < covered.bottom <= height
    assert covered.left - 1 <= (box.left + box.right) / 2 <= covered.right + 1
    assert covered.top - 1 <= (box.top + box.bottom) / 2 <= covered.bottom + 1


def test_the_grid_has_the_patches_that_the_encoder_calls_inside(encoder_folder: Path) -> None:
    encoder = Encoder.load(encoder_folder, "cpu")
    for height, width in ((64, 64), (200, 90), (31, 77), (500, 499)):
        patches = encoder.encode_patches([np.zeros((height, width), np.float32)])
        rows, columns = patches.vectors.shape[1:3]
        grid = Grid(rows, columns, patches.image_size, height, width)
        np.testing.assert_array_equal(grid.inside(), patches.inside(0))


def unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    made = rng.normal(size=shape).astype(np.float32)
    return np.asarray(made / np.linalg.norm(made, axis=-1, keepdims=True))


def test_a_region_is_found_where_it_was_pasted() -> None:
    rng = np.random.default_rng(0)
    query, other = unit(rng, 8, 8, 16), unit(rng, 8, 8, 16)
    region = crop_region(query, 224, 448, 448, Box(112, 168, 224, 280))  # columns 2 and 3, rows 3 and 4
    assert (region.rows, region.columns) == (2, 2)
    other[5:7, 1:3] = query[3:5, 2:4]
    assert find_region(region, other.reshape(-1, 16), 448, 448) == Box(56, 280, 168, 392)


def test_a_box_of_any_size_gives_patches_within_bounds() -> None:
    vectors = unit(np.random.default_rng(1), 14, 14, 4)
    for box in (Box(0, 0, 1, 1), Box(0, 0, 300, 200), Box(10, 10, 4000, 4000), Box(299, 199, 300, 200)):
        region = crop_region(vectors, 224, 200, 300, box)
        assert 1 <= len(region.vectors) <= MOST_PATCHES
    for outside in (Box(300, 0, 310, 10), Box(0, 200, 10, 210)):
        with pytest.raises(UsageError, match="300 × 200"):
            crop_region(vectors, 224, 200, 300, outside)


@pytest.fixture(scope="module")
def patched(tmp_path_factory: pytest.TempPathFactory, encoder_folder: Path) -> Index:
    """Sixteen phantoms with images and reports; twelve of them get patches."""
    encoder = Encoder.load(encoder_folder, "cpu")
    index = Index.open(Home.open(tmp_path_factory.mktemp("patched")), encoder, read_only=False)
    folder = str(encoder_folder)
    add_source(index, PhantomSource(16, seed=3), encoder, origin="a", folder=folder, workers=0)
    return index


def test_an_index_without_patches_says_how_to_get_them(patched: Index) -> None:
    with pytest.raises(UsageError, match="--patches"):
        search(patched, Query(image="phantom://3/1", region=Box(0, 0, 40, 40), target="images"))


def test_patches_are_added_on_request_searched_by_region_and_erased(
    patched: Index, encoder_folder: Path
) -> None:
    encoder, folder = patched.encoder, str(encoder_folder)
    whole = PhantomSource(16, seed=3)
    added = add_source(
        patched, PhantomSource(12, seed=3), encoder, origin="a", folder=folder, patches=True, workers=0
    )
    assert added.embedded == {"image": 0, "report": 0, "sentence": 0, "term": 0, "patch": 12}
    assert verify(patched).faults == []
    again = add_source(patched, whole, encoder, origin="a", folder=folder, workers=0)
    assert sum(again.embedded.values()) == 0

    query = Query(image="phantom://3/1", region=Box(20, 20, 120, 120), target="images", k=5)
    answer = search(patched, query)
    assert len(answer.hits) == 5
    scores = [hit.score for hit in answer.hits]
    assert scores == sorted(scores, reverse=True)
    for hit in answer.hits:
        (found,) = [item for item in hit.evidence if item.kind == "region"]
        assert found.box is not None
        assert found.contributed == hit.score
        assert -1.001 <= found.score <= 1.001
    everyone = search(
        patched, Query(image="phantom://3/1", region=Box(20, 20, 120, 120), target="images", k=50)
    )
    with_patches = {f"phantom:3-{n}" for n in range(12)}
    assert {hit.case.study_id for hit in everyone.hits} <= with_patches
    remove_study(patched, "phantom:3-2")
    point = patched.home.point_id("phantom:3-2#frontal")
    assert patched.store.fetch(patched.collection("patch"), [point]) == []
    assert verify(patched).faults == []


def test_the_region_of_a_noisy_copy_is_found_in_the_indexed_image(patched: Index, tmp_path: Path) -> None:
    pixels = read_image("phantom://3/5")
    noisy = pixels + np.random.default_rng(0).normal(0, 0.01, pixels.shape)
    Image.fromarray(np.rint(np.clip(noisy, 0, 1) * 255).astype(np.uint8)).save(tmp_path / "again.png")
    height, width = pixels.shape
    region = Box(width // 4, height // 4, width // 2, height // 2)
    answer = search(patched, Query(image=str(tmp_path / "again.png"), region=region, target="images", k=3))
    assert answer.hits[0].case.study_id == "phantom:3-5"
    (found,) = [item for item in answer.hits[0].evidence if item.kind == "region"]
    assert found.score > 0.99
