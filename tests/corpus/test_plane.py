"""A plane's hash and its square are those of its full-size pixels, made without them."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

from corpus.dicom.display import to_plane
from corpus.errors import UnreadableImage
from corpus.geometry import AS_STORED, Framing, Orientation
from corpus.images.plane import Plane
from corpus.images.reader import content_hash, frame_image, read_image
from corpus.resize import PART_PIXELS, resize
from tests.corpus.conftest import dicom_of

TOLERANCE = 1e-6
"""Of a grey in an encoder's square, beside Pillow's resizing in float64: a 200th of a step of 16 bits."""

ORIENTATIONS = [Orientation(*flags) for flags in np.ndindex(2, 2, 2)]


def plain_frame(image: NDArray[np.float32], framing: Framing) -> NDArray[np.float32]:
    """The letterbox by Pillow alone."""
    part = framing.placement(*image.shape)
    size = (part.width, part.height)
    small = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
    square = np.zeros((framing.size, framing.size), np.float32)
    square[part.top : part.top + part.height, part.left : part.left + part.width] = np.clip(small, 0, 1)
    return square


def plain_hash(image: NDArray[np.float32]) -> str:
    """The hash by which indexes know an image: of 8 bits where every step of 16 is a multiple of 257."""
    steps = np.rint(image * np.float32(65535)).astype("<u2")
    if not (steps % 257).any():
        steps = (steps // 257).astype(np.uint8)
    height, width = steps.shape
    return hashlib.sha256(
        f"grey{8 * steps.itemsize} {height}x{width}\n".encode() + steps.tobytes()
    ).hexdigest()


@st.composite
def planes(draw: st.DrawFn) -> Plane:
    """8 and 16 bits with a white or with shades, and floats; in every orientation, of one part or several."""
    tall = draw(st.booleans())
    height = draw(st.integers(16, 90))
    width = draw(st.integers(16, 90)) if tall else PART_PIXELS // draw(st.integers(8, 40))
    noise = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["bytes", "white", "shades", "byte shades", "float", "float of bytes"]))
    if kind == "white":
        white = draw(st.sampled_from([4095, 16383, 65535]))
        plane = Plane(noise.integers(0, white + 1, (height, width)).astype(np.uint16), white)
    elif kind == "float":
        plane = Plane(noise.random((height, width), np.float32))
    else:
        values = noise.integers(0, 256, (height, width)).astype(np.uint8)
        byte_shades = np.arange(256, dtype=np.float32) / np.float32(255)
        plane = {
            "bytes": Plane(values, 255),
            "shades": Plane(values.astype(np.uint16) + 700, shades=noise.random(956, np.float32)),
            "byte shades": Plane(values, shades=byte_shades[::-1].copy()),
            "float of bytes": Plane(byte_shades[values]),
        }[kind]
    return plane.oriented(draw(st.sampled_from(ORIENTATIONS)))


@settings(deadline=None, max_examples=60)
@given(planes(), st.sampled_from([32, 64, 224]))
def test_square_and_hash_are_those_of_the_full_size_pixels(plane: Plane, size: int) -> None:
    pixels, framing = plane.pixels(), Framing(size)
    framed, content = plane.framed(framing)
    np.testing.assert_allclose(framed, framing.apply(pixels), rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(framed, plain_frame(pixels, framing), rtol=0, atol=TOLERANCE)
    assert content == plane.content() == Plane(pixels).content() == plain_hash(pixels)
    again, hashed = plane.hashed_pixels()
    np.testing.assert_array_equal(again, pixels)
    assert hashed == content
    assert framed.min() >= 0
    assert framed.max() <= 1


@pytest.mark.parametrize("shape", [(2500, 2048), (16, 5000), (5000, 16), (224, 224), (37, 500)])
def test_resizing_agrees_with_pillow_at_every_size(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(3).random(shape, np.float32)
    for target in ((224, 183), (shape[0], 100), (100, shape[1]), shape, (1, 7)):
        resized = resize(lambda start, stop: image[start:stop], shape, target)
        expected = np.asarray(Image.fromarray(image).resize(target[::-1], Image.Resampling.BICUBIC))
        np.testing.assert_allclose(resized, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("bits", [8, 16])
def test_an_image_is_blank_where_no_two_pixels_differ_in_grey(bits: int) -> None:
    values = np.full((40, 40), 7, f"u{bits // 8}")
    values[20:, 20:] = 9
    assert not Plane(values, 255).is_blank
    assert Plane(np.full_like(values, 3), 255).is_blank
    shades = np.zeros(12, np.float32)
    assert Plane(values, shades=shades).is_blank
    shades[8] = 1  # between the lowest and the highest value, which are of one grey
    assert Plane(values, shades=shades).is_blank
    values[3, 3] = 8
    assert not Plane(values, shades=shades).is_blank


def plain_grey(stored: NDArray[Any], dataset: Dataset) -> NDArray[np.float64]:
    """pydicom's transforms, pixel by pixel in float64, from 0 to 1, inverted as the header says."""
    stored = stored.astype(np.int32)  # pydicom subtracts in the stored type, where 16 signed bits overflow
    modality = apply_modality_lut(stored, dataset).astype(np.float64)
    if "VOILUTSequence" in dataset:
        item = dataset.VOILUTSequence[0]
        grey = apply_voi_lut(apply_modality_lut(stored, dataset), dataset) / (
            2.0 ** item.LUTDescriptor[2] - 1
        )
    else:
        centre, width = float(dataset.WindowCenter), float(dataset.WindowWidth)
        if dataset.get("VOILUTFunction") == "SIGMOID":
            grey = 1 / (1 + np.exp(-4 * (modality - centre) / width))
        elif dataset.get("VOILUTFunction") == "LINEAR_EXACT":
            grey = (modality - centre) / width + 0.5
        else:
            grey = (modality - (centre - 0.5)) / (width - 1) + 0.5
    grey = np.clip(grey, 0.0, 1.0)
    inverse = (
        dataset.PhotometricInterpretation == "MONOCHROME1" or dataset.get("PresentationLUTShape") == "INVERSE"
    )
    return 1 - grey if inverse else grey


def table_item(entries: int, first: int, noise: np.random.Generator) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [entries, first, 16])
    table = np.sort(noise.integers(0, 65536, entries))  # as of a radiograph; it need not be even
    table[-1] = 65535
    item.add_new("LUTData", "OW", table.astype("<u2").tobytes())
    return item


@pytest.mark.filterwarnings("ignore:Applying a VOI LUT on a float")
@settings(deadline=None, max_examples=50)
@example(16, True, "MONOCHROME2", None, "LINEAR", "table", 0)
@example(16, True, "MONOCHROME2", None, "table", "none", 0)
@given(
    bits=st.integers(10, 16),
    signed=st.booleans(),
    photometric=st.sampled_from(["MONOCHROME1", "MONOCHROME2"]),
    shape=st.sampled_from([None, "IDENTITY", "INVERSE"]),
    voi=st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID", "table"]),
    modality=st.sampled_from(["none", "rescale", "table"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_grey_by_table_is_grey_by_arithmetic(
    bits: int, signed: bool, photometric: str, shape: str | None, voi: str, modality: str, seed: int
) -> None:
    noise = np.random.default_rng(seed)
    lowest = -(1 << bits - 1) if signed else 0
    stored = noise.integers(lowest, lowest + (1 << bits), (40, 52)).astype("i2" if signed else "u2")
    elements: dict[str, Any] = {
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PhotometricInterpretation": photometric,
        "PresentationLUTShape": shape,
    }
    middle, spread = lowest + (1 << bits - 1), 1 << bits
    if modality == "rescale":
        elements |= {"RescaleSlope": 0.5, "RescaleIntercept": 20}
        middle, spread = middle // 2 + 20, spread // 2
    elif modality == "table":
        elements["ModalityLUTSequence"] = [table_item(min(1 << bits, 65535), lowest, noise)]
        middle, spread = 1 << 15, 1 << 16
    if voi == "table":
        if modality == "rescale":
            elements["RescaleSlope"] = 1  # pydicom truncates halves, where this reader rounds
        first = 0 if modality == "table" else lowest + int(elements.get("RescaleIntercept", 0))
        entries = 65535 if modality == "table" else min(1 << bits, 65535)
        elements["VOILUTSequence"] = [table_item(entries, first, noise)]
    else:
        elements |= {"WindowCenter": middle, "WindowWidth": spread * 0.8, "VOILUTFunction": voi}
    dataset = dicom_of(stored, **elements)
    plane = to_plane(stored, dataset)
    np.testing.assert_allclose(plane.pixels(), plain_grey(stored, dataset), rtol=0, atol=TOLERANCE)
    assert plane.oriented(AS_STORED).content() == plain_hash(plane.pixels())


@pytest.mark.real_data
@pytest.mark.filterwarnings("ignore")
def test_real_files_have_the_hash_and_the_square_of_the_plain_way(data: Path) -> None:
    files = sorted(data.glob("dicom*/*.dcm"))
    for folder in ("nih-chestxray14", "covid-chestxray", "openi"):
        files += sorted((data / folder / "images").iterdir())[:3]
    framing, read = Framing(224), 0
    for file in files:
        try:
            image = frame_image(file, framing)
        except UnreadableImage:
            continue
        pixels = read_image(file)
        assert image.content == content_hash(file) == plain_hash(pixels), file
        np.testing.assert_allclose(image.framed, plain_frame(pixels, framing), rtol=0, atol=TOLERANCE)
        read += 1
    assert read == 17
