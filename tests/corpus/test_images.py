"""Images: what the pixels are, whatever file they come in."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from corpus.images.reader import content_hash, hash_pixels, load_image, read_image

SIDES = st.integers(16, 40)


def save(folder: Path, file_image: Image.Image, name: str = "a.png", **options: object) -> Path:
    file_image.save(folder / name, **options)
    return folder / name


def gradient(height: int = 32, width: int = 48) -> np.ndarray:
    return np.add.outer(np.arange(height), np.arange(width)).astype(np.uint8) * 3


@given(hnp.arrays(np.uint8, st.tuples(SIDES, SIDES)).filter(lambda a: a.min() < a.max()))
def test_every_8_bit_png_is_its_values_over_255(
    tmp_path_factory: pytest.TempPathFactory, values: np.ndarray
) -> None:
    path = save(tmp_path_factory.mktemp("png"), Image.fromarray(values))
    image = read_image(path)
    assert image.dtype == np.float32
    np.testing.assert_array_equal(np.rint(image * 255), values)
    np.testing.assert_allclose(image, values / 255, atol=1e-7)


@given(hnp.arrays(np.uint16, st.tuples(SIDES, SIDES)).filter(lambda a: a.min() < a.max()))
def test_every_16_bit_png_keeps_all_its_steps(
    tmp_path_factory: pytest.TempPathFactory, values: np.ndarray
) -> None:
    image = read_image(save(tmp_path_factory.mktemp("png"), Image.fromarray(values)))
    white = next(w for w in (4095, 16383, 65535) if values.max() <= w)
    np.testing.assert_array_equal(np.rint(image * white), values)
    assert image.min() >= 0
    assert image.max() <= 1


def test_detector_values_of_12_bits_in_16_fill_the_range(tmp_path: Path) -> None:
    values = np.linspace(0, 4095, 32 * 32).reshape(32, 32).astype(np.uint16)
    assert read_image(save(tmp_path, Image.fromarray(values))).max() == 1.0


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "LA", "CMYK"])
def test_grey_saved_in_colour_reads_as_the_same_grey(tmp_path: Path, mode: str) -> None:
    grey = gradient()
    name = "a.jpg" if mode == "CMYK" else "a.png"
    coloured = Image.fromarray(grey).convert("RGB" if mode == "CMYK" else mode)
    path = save(tmp_path, coloured.convert(mode), name)
    assert np.abs(read_image(path) * 255 - grey).max() <= (3 if mode == "CMYK" else 1)


def test_colour_becomes_luminance(tmp_path: Path) -> None:
    file_image = Image.new("RGB", (32, 32), (0, 255, 0))
    file_image.paste((255, 0, 0), (0, 0, 16, 32))
    for name, tolerance in (("a.png", 0.003), ("a.jpg", 0.02)):
        image = read_image(save(tmp_path, file_image, name))
        assert image[16, 4] == pytest.approx(0.299, abs=tolerance)
        assert image[16, 28] == pytest.approx(0.587, abs=tolerance)


def test_transparent_parts_are_black_whatever_colour_they_hide(tmp_path: Path) -> None:
    pixels = np.full((32, 32, 4), 255, np.uint8)
    pixels[:16, :, 3] = 0
    image = read_image(save(tmp_path, Image.fromarray(pixels)))
    assert image[:16].max() == 0
    assert image[16:].min() == 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_a_turned_image_is_set_upright(tmp_path: Path, orientation: int, name: str) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path, Image.fromarray(gradient()), name, exif=exif)
    with Image.open(path) as file_image:
        upright = np.asarray(ImageOps.exif_transpose(file_image))
    np.testing.assert_array_equal(np.rint(read_image(path) * 255), upright)


def test_broken_exif_does_not_cost_the_image(tmp_path: Path) -> None:
    path = save(tmp_path, Image.fromarray(gradient()), "a.jpg", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert read_image(path).shape == (32, 48)


def test_content_decides_and_not_the_extension(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(gradient()).save(buffer, "JPEG")
    for name in ("a.png", "a.dcm", "a", "a.txt"):
        (tmp_path / name).write_bytes(buffer.getvalue())
        assert read_image(tmp_path / name).shape == (32, 48)


@pytest.mark.parametrize("name", ["a\nb.png", "a b\t'c\".png", "ä漢.png", "a\udcff.png"])
def test_any_name_a_file_can_have_is_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(save(tmp_path, Image.fromarray(gradient()), "plain.png").read_bytes())
    assert read_image(str(tmp_path / name)).shape == (32, 48)


def test_a_link_to_an_image_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link.png").symlink_to(save(tmp_path, Image.fromarray(gradient())))
    assert read_image(tmp_path / "link.png").shape == (32, 48)


def test_equal_pixels_hash_equal_in_every_file_format(tmp_path: Path, make_dicom) -> None:
    grey = gradient()
    wide = grey.astype(np.uint16) * 257
    files = [
        save(tmp_path, Image.fromarray(grey), "a.png"),
        save(tmp_path, Image.fromarray(grey), "b.png", compress_level=0),
        save(tmp_path, Image.fromarray(grey).convert("RGB"), "c.png"),
        save(tmp_path, Image.fromarray(wide), "d.png"),
        make_dicom(tmp_path / "e.dcm", grey),
    ]
    assert len({content_hash(path) for path in files}) == 1


def test_one_changed_pixel_or_another_shape_changes_the_hash() -> None:
    image = gradient().astype(np.float32) / 255
    changed = image.copy()
    changed[3, 4] += np.float32(1 / 255)
    assert len({hash_pixels(image), hash_pixels(changed), hash_pixels(image.reshape(48, 32))}) == 3


def test_hash_and_pixels_at_once_are_those_read_apart(tmp_path: Path) -> None:
    path = save(tmp_path, Image.fromarray(gradient()))
    image = load_image(path)
    np.testing.assert_array_equal(image.pixels, read_image(path))
    assert image.content == content_hash(path) == hash_pixels(image.pixels)
    assert (image.spacing, image.notes) == (None, ())


def test_a_phantom_is_drawn_where_a_file_is_read() -> None:
    image = read_image("phantom://0/3")
    assert image.dtype == np.float32
    assert 0 <= image.min() < image.max() <= 1
    np.testing.assert_array_equal(image, read_image("phantom://0/3"))
    assert content_hash("phantom://0/3") != content_hash("phantom://0/4")


def test_reading_images_and_sources_imports_no_model_and_no_database() -> None:
    code = (
        "import sys, json, corpus.images.reader, corpus.sources.dicom, corpus.sources.manifest;"
        "print(json.dumps(sorted({m.partition('.')[0] for m in sys.modules})))"
    )
    loaded = set(
        json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    )
    assert not loaded & {"torch", "torchvision", "open_clip", "transformers", "sqlalchemy", "qdrant_client"}


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("folder", "count"),
    [
        ("covid-chestxray/images", 524),
        ("nih-chestxray14/images", 2358),
        ("openi/images", 4),
        ("covid-cxr-segmentation/images", 70),
        ("busi/images", 361),
        ("not-radiographs", 38),
        ("dicom", 2),
    ],
)
def test_every_real_image_decodes(data: Path, folder: str, count: int) -> None:
    files = sorted(path for path in (data / folder).iterdir() if path.is_file())
    assert len(files) == count
    for path in files:
        image = read_image(path)
        assert image.dtype == np.float32
        assert image.ndim == 2
        assert 0 <= image.min() < image.max() <= 1
