"""What a caller in Python may give as a query: files, paths, and images in memory."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from corpus.errors import SimilarityError, UnreadableImage, UsageError
from corpus.geometry import Box
from indexer.index import Index
from retrieval.query.image import IN_MEMORY, make_query_image, read_query_image
from retrieval.query.query import Query
from retrieval.search import search

GREY = np.random.default_rng(0).integers(0, 256, (60, 50), np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (60, 50, 3), np.uint8)


def test_every_way_to_give_the_same_image_finds_the_same(index: Index, tmp_path: Path) -> None:
    file = tmp_path / "x.png"
    Image.fromarray(GREY).save(file)
    ways: list[Any] = [str(file), file, Image.open(file), GREY, GREY.astype(np.float32) / 255]
    found = [search(index, Query(image=way, k=4)) for way in ways]
    assert all([h.item_id for h in one.hits] == [h.item_id for h in found[0].hits] for one in found)
    assert found[3].as_json()["query"]["image"] == IN_MEMORY


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_pixels_in_memory_are_what_their_file_is_and_have_its_content(tmp_path: Path, kind: type) -> None:
    pixels = GREY.astype(kind) * (1 if kind == np.uint8 else 257)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    file, memory = read_query_image(tmp_path / "x.png"), make_query_image(pixels)
    assert memory.content == file.content
    assert make_query_image(pixels.astype(pixels.dtype.newbyteorder(">"))).content == file.content
    np.testing.assert_array_equal(memory.pixels, file.pixels)


def test_colour_becomes_grey_as_in_a_file(tmp_path: Path) -> None:
    Image.fromarray(COLOUR).save(tmp_path / "x.png")
    file = read_query_image(tmp_path / "x.png")
    assert make_query_image(COLOUR).content == file.content
    for other in (COLOUR.astype(np.float64) / 255, COLOUR.astype(np.uint16) * 257):
        np.testing.assert_allclose(make_query_image(other).pixels, file.pixels, atol=0.003)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I;16"])
def test_an_image_of_pillow_is_read_in_any_mode(mode: str) -> None:
    grey = Image.fromarray(GREY)
    image = Image.fromarray(GREY.astype(np.uint16)) if mode == "I;16" else grey.convert(mode)
    assert make_query_image(image).pixels.shape == GREY.shape


def test_the_orientation_of_a_photograph_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(GREY).save(tmp_path / "x.jpg", exif=exif, quality=95)
    with Image.open(tmp_path / "x.jpg") as image:
        assert make_query_image(image).content == read_query_image(tmp_path / "x.jpg").content


WRONG = {
    "a batch": (np.zeros((2, 60, 50, 3), np.uint8), "take one image"),
    "channels first": (np.zeros((3, 60, 50), np.uint8), "take one image"),
    "an alpha channel": (np.zeros((60, 50, 4), np.uint8), "take one image"),
    "a row": (np.zeros(60, np.uint8), "take one image"),
    "nothing": (np.zeros((0, 50), np.uint8), "no pixels"),
    "int64": (np.zeros((60, 50), np.int64), "not int64"),
    "bool": (np.zeros((60, 50), np.bool_), "not bool"),
    "complex": (np.zeros((60, 50), np.complex64), "not complex64"),
    "text": (np.array([["a", "b"]]), "not <U1"),
    "NaN": (np.full((60, 50), np.nan), "not finite"),
    "infinity": (np.full((60, 50), np.inf, np.float32), "not finite"),
    "floats to 255": (GREY.astype(np.float32), "in \\[0, 1\\]"),
    "negative floats": (GREY.astype(np.float32) - 1, "in \\[0, 1\\]"),
    "blank": (np.zeros((60, 50), np.uint8), "blank"),
    "blank floats": (np.zeros((60, 50)), "blank"),
    "tiny": (np.arange(4, dtype=np.uint8).reshape(2, 2), "too small"),
    "tiny floats": (np.arange(4).reshape(2, 2) / 4, "too small"),
    "bytes": (b"\x89PNG", "not bytes"),
    "a number": (3, "not int"),
    "a list": ([[0, 1]], "not list"),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_image_that_is_none_is_refused_in_one_sentence(name: str) -> None:
    image, message = WRONG[name]
    with pytest.raises((UsageError, UnreadableImage), match=message) as refused:
        Query(image=image)
    assert "\n" not in str(refused.value)


def test_parts_of_the_wrong_type_are_refused_and_single_ones_taken() -> None:
    for part in ("text", "case", "where", "subject", "finding"):
        with pytest.raises(UsageError, match=f"{part} is text"):
            Query(**{"image": "x.png", part: 5})
    for k in (True, 2.5, "3", None):
        with pytest.raises(UsageError, match="whole number"):
            Query(text="x", k=k)  # type: ignore[arg-type]
    for like in (5, [5], {"a": 1}):
        with pytest.raises(SimilarityError, match="like is a list"):
            Query(like=like)  # type: ignore[arg-type]
    assert Query(like="openi:1").like == ("openi:1",)  # type: ignore[arg-type]
    assert Query(like=[Path("a.png")]).like == ("a.png",)  # type: ignore[arg-type, list-item]
    region = Query(image="x.png", region=(1, 2, 30, 40), target="images").region  # type: ignore[arg-type]
    assert region == Box(1, 2, 30, 40)
