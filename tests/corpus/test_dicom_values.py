"""Odd headers: packed tables, bits out of place, windows that show nothing, elements that are missing."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import DataElement, Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from corpus.dicom.file import decode
from corpus.errors import UnreadableImage
from corpus.images.reader import load_content, load_image, read_image
from tests.corpus.grey import to_grey

RAMP = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
BYTES = (RAMP % 256).astype(np.uint16)
NEGATIVE = np.arange(255, -1, -1, dtype=np.uint8)  # a table of 8 bits with 256 different entries


def table_of(descriptor: list[int], data: Any, vr: str) -> list[Dataset]:
    item = Dataset()
    item.add(DataElement("LUTDescriptor", "US" if min(descriptor) >= 0 else "SS", descriptor))
    item.add(DataElement("LUTData", vr, data))
    return [item]


def written(dataset: Dataset, syntax: pydicom.uid.UID) -> bytes:
    """A whole file in an encoding, pixels of 16 bits."""
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset["PixelData"].VR = "OW"
    little = syntax != ExplicitVRBigEndian
    if not little:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
    file = io.BytesIO()
    pydicom.dcmwrite(
        file, dataset, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=little,
        enforce_file_format=True,
    )  # fmt: skip
    return file.getvalue()


@pytest.mark.parametrize("sequence", ["VOILUTSequence", "ModalityLUTSequence"])
@pytest.mark.parametrize("form", ["packed OW", "words OW", "words US", "packed US", "OB"])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_a_table_of_bytes_maps_every_value_however_it_is_written(
    make_dataset, sequence: str, form: str, syntax: pydicom.uid.UID
) -> None:
    packing, vr = form.split() if " " in form else ("packed", form)
    little = syntax != ExplicitVRBigEndian
    low_first = np.frombuffer(NEGATIVE.tobytes(), "<u2")  # the low byte is the first entry
    words = low_first if packing == "packed" else NEGATIVE.astype(np.uint16)
    if vr == "OB":
        data: Any = NEGATIVE.tobytes()
    elif vr == "OW":
        data = words.astype("<u2" if little else ">u2").tobytes()
    else:
        data = words.tolist()
    header = make_dataset(BYTES, BitsStored=8, HighBit=7, **{sequence: table_of([256, 0, 8], data, vr)})
    if sequence == "ModalityLUTSequence":
        header.WindowCenter, header.WindowWidth = 128, 256
    image = load_content(written(header, syntax), "the image", most=10**6)
    assert image.notes == ()
    np.testing.assert_allclose(image.pixels, 1 - BYTES / 255, atol=3e-3)


@pytest.mark.parametrize("vr", ["OB", "OW"])
def test_a_table_of_one_byte_an_entry_is_read_so_whatever_bits_it_tells(make_dataset, vr: str) -> None:
    header = make_dataset(
        BYTES, BitsStored=8, HighBit=7, VOILUTSequence=table_of([256, 0, 16], NEGATIVE.tobytes(), vr)
    )
    np.testing.assert_allclose(to_grey(BYTES, header), 1 - BYTES / 255, atol=3e-3)


@pytest.mark.parametrize("bits", [8, *range(10, 17)])
def test_a_table_of_any_bits_reaches_from_black_to_white(make_dataset, bits: int) -> None:
    entries = np.linspace(0, (1 << bits) - 1, 4096).astype("<u2")
    data = entries.astype(np.uint8).tobytes() if bits == 8 else entries.tobytes()
    header = make_dataset(
        RAMP, BitsStored=12, HighBit=11, VOILUTSequence=table_of([4096, 0, bits], data, "OW")
    )
    np.testing.assert_allclose(to_grey(RAMP, header), RAMP / 4095, atol=0.005)


def test_a_descriptor_of_no_entries_means_as_many_as_fit(make_dataset) -> None:
    radiograph = RAMP * 16
    data = np.arange(65535, -1, -1, dtype="<u2").tobytes()
    header = make_dataset(radiograph, VOILUTSequence=table_of([0, 0, 16], data, "OW"))
    np.testing.assert_allclose(to_grey(radiograph, header), 1 - radiograph / 65535, atol=1e-6)


@pytest.mark.parametrize("first", [-2048, 0xF800])
def test_the_first_value_of_a_table_may_lie_below_zero(make_dataset, first: int) -> None:
    radiograph = RAMP.astype(np.int16) - 2048
    data = np.arange(4095, -1, -1, dtype="<u2").tobytes()
    header = make_dataset(radiograph, VOILUTSequence=table_of([4096, first, 12], data, "OW"))
    np.testing.assert_allclose(to_grey(radiograph, header), 1 - RAMP / 4095, atol=1e-6)
    above = np.clip(radiograph, 0, None).astype(np.int16)  # signed, but this image has no value below zero
    np.testing.assert_allclose(to_grey(above, header), 1 - (above + 2048) / 4095, atol=1e-6)


@pytest.mark.filterwarnings("ignore:Invalid value")
def test_a_count_that_was_read_as_signed_is_a_count(make_dataset) -> None:
    radiograph = RAMP * 9
    data = np.linspace(65535, 0, 40_000).astype("<u2").tobytes()
    header = make_dataset(radiograph, VOILUTSequence=table_of([40_000 - 65536, 0, 16], data, "OW"))
    np.testing.assert_allclose(to_grey(radiograph, header), 1 - radiograph / 39_999, atol=1e-4)


def test_a_table_with_fewer_entries_than_it_tells_ends_with_its_last(make_dataset) -> None:
    data = np.arange(2000, dtype="<u2").tobytes()
    header = make_dataset(RAMP, VOILUTSequence=table_of([4096, 0, 11], data, "OW"))
    grey = to_grey(RAMP, header)
    np.testing.assert_allclose(grey, np.minimum(RAMP, 1999) / 2047, atol=1e-6)


@pytest.mark.parametrize("left_out", ["LUTDescriptor", "LUTData"])
def test_a_table_without_its_descriptor_or_data_is_refused_by_name(
    tmp_path: Path, make_dicom, left_out: str
) -> None:
    [item] = table_of([4096, 0, 12], np.arange(4096, dtype="<u2").tobytes(), "OW")
    del item[left_out]
    with pytest.raises(UnreadableImage, match=rf"has a VOILUTSequence \(0028,3010\) without a? ?{left_out}"):
        read_image(make_dicom(tmp_path / "image.dcm", RAMP, VOILUTSequence=[item]))


@given(
    st.integers(1, 16).flatmap(lambda stored: st.tuples(st.just(stored), st.integers(stored - 1, 15))),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_a_value_is_read_from_where_its_high_bit_is(
    make_dataset, bits: tuple[int, int], signed: bool, seed: int
) -> None:
    stored, high = bits
    random = np.random.default_rng(seed)
    values = random.integers(0, 1 << stored, (16, 16))
    if signed:
        values -= 1 << (stored - 1)
    below = high + 1 - stored
    noise = random.integers(0, 1 << 16, values.shape)  # overlays and leftovers in every bit that is not used
    used = ((1 << stored) - 1) << below
    words = (((values << below) & used) | (noise & ~used & 0xFFFF)).astype(np.uint16)
    header = make_dataset(
        words.view(np.int16) if signed else words, BitsStored=stored, HighBit=high, BitsAllocated=16
    )
    np.testing.assert_array_equal(decode(header), values)


@pytest.mark.parametrize(
    "syntax",
    [
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
        RLELossless,
        DeflatedExplicitVRLittleEndian,
    ],
)
def test_an_image_in_the_upper_bits_is_the_image_in_the_lower_ones(
    tmp_path: Path, make_dicom, make_dataset, syntax: pydicom.uid.UID
) -> None:
    window = {"WindowCenter": 2048, "WindowWidth": 4096, "BitsStored": 12}
    plain = read_image(make_dicom(tmp_path / "a.dcm", RAMP, HighBit=11, **window))
    dataset = make_dataset(RAMP << 4, HighBit=15, **window)
    if syntax == RLELossless:
        dataset.compress(syntax, generate_instance_uid=False)
        dataset.save_as(tmp_path / "b.dcm", enforce_file_format=True)
    else:
        (tmp_path / "b.dcm").write_bytes(written(dataset, syntax))
    np.testing.assert_array_equal(read_image(tmp_path / "b.dcm"), plain)


def test_a_codestream_holds_values_whatever_the_high_bit(tmp_path: Path, make_dicom, make_dataset) -> None:
    window = {"WindowCenter": 2048, "WindowWidth": 4096, "BitsStored": 12}
    plain = read_image(make_dicom(tmp_path / "a.dcm", RAMP, HighBit=11, **window))
    dataset = make_dataset(RAMP, HighBit=11, **window)
    dataset.compress(JPEG2000Lossless, generate_instance_uid=False)
    dataset.HighBit = 15
    dataset.save_as(tmp_path / "b.dcm", enforce_file_format=True)
    np.testing.assert_array_equal(read_image(tmp_path / "b.dcm"), plain)


def test_a_high_bit_that_the_pixels_contradict_is_noted_and_not_followed(tmp_path: Path, make_dicom) -> None:
    image = load_image(make_dicom(tmp_path / "image.dcm", RAMP, BitsStored=12, HighBit=15))
    plain = make_dicom(tmp_path / "b.dcm", RAMP, BitsStored=12, HighBit=11)
    np.testing.assert_array_equal(image.pixels, read_image(plain))
    [note] = image.notes
    assert note.startswith("'image.dcm' is read from its 12 lowest bits: its HighBit (0028,0102) is 15")


def test_an_impossible_high_bit_is_noted_and_not_followed(tmp_path: Path, make_dicom) -> None:
    image = load_image(make_dicom(tmp_path / "image.dcm", RAMP, BitsStored=12, HighBit=3))
    np.testing.assert_array_equal(
        image.pixels, read_image(make_dicom(tmp_path / "b.dcm", RAMP, BitsStored=12, HighBit=11))
    )
    [note] = image.notes
    assert note.startswith("'image.dcm' is read from its 12 lowest bits: its HighBit (0028,0102) is 3")


USELESS = [
    {"WindowCenter": 60000, "WindowWidth": 100},
    {"WindowCenter": -500, "WindowWidth": 100},
    {"WindowCenter": 32768, "WindowWidth": 65536},
    {"WindowCenter": 2000, "WindowWidth": 65536},
    {"WindowCenter": 60000, "WindowWidth": 100, "VOILUTFunction": "LINEAR_EXACT"},
    {"WindowCenter": 60000, "WindowWidth": 100, "VOILUTFunction": "SIGMOID"},
    {"WindowCenter": [60000, -500], "WindowWidth": [100, 100]},
    {"WindowCenter": 60000, "WindowWidth": 100, "PhotometricInterpretation": "MONOCHROME1"},
    {"VOILUTSequence": table_of([4096, 0, 12], np.full(4096, 900, "<u2").tobytes(), "OW")},
    {"VOILUTSequence": table_of([2, 9000, 12], [0, 4095], "US")},
]


@pytest.mark.parametrize("elements", USELESS)
def test_a_window_without_contrast_gives_way_to_the_range_of_the_values_with_a_note(
    tmp_path: Path, make_dicom, elements: dict
) -> None:
    radiograph = {"BitsStored": 12, "HighBit": 11}
    image = load_image(make_dicom(tmp_path / "image.dcm", RAMP, **radiograph, **elements))
    photometric = {k: v for k, v in elements.items() if k == "PhotometricInterpretation"}
    plain = load_image(make_dicom(tmp_path / "plain.dcm", RAMP, **radiograph, **photometric))
    np.testing.assert_array_equal(image.pixels, plain.pixels)
    [note] = image.notes
    assert note.startswith("'image.dcm' is shown by the range of its values: its ")
    assert note.endswith(" would show next to nothing")
    assert plain.notes == ()


def test_of_several_windows_the_first_that_shows_something_is_taken(make_dataset) -> None:
    notes: list[str] = []
    several = make_dataset(RAMP, WindowCenter=[60000, 2000, 1000], WindowWidth=[100, 3000, 100])
    second = make_dataset(RAMP, WindowCenter=2000, WindowWidth=3000)
    np.testing.assert_array_equal(to_grey(RAMP, several, notes.append), to_grey(RAMP, second))
    assert notes == [
        "is shown by its window of centre 2000 and width 3000: its window of centre 60000 and width 100 "
        "would show next to nothing"
    ]


def test_a_table_that_shows_nothing_gives_way_to_a_window_that_does(make_dataset) -> None:
    level = table_of([4096, 0, 12], np.full(4096, 7, "<u2").tobytes(), "OW")
    notes: list[str] = []
    window = {"WindowCenter": 2000, "WindowWidth": 3000}
    both = make_dataset(RAMP, VOILUTSequence=level, **window)
    np.testing.assert_array_equal(
        to_grey(RAMP, both, notes.append), to_grey(RAMP, make_dataset(RAMP, **window))
    )
    assert len(notes) == 1


@pytest.mark.parametrize(
    "window",
    [(2048, 4096), (1000, 500), (2000, 200), (2048, 2), (3000, 8000), (0, 4096)],
)
def test_a_window_that_shows_a_part_of_the_image_is_followed(make_dataset, window: tuple[int, int]) -> None:
    notes: list[str] = []
    to_grey(RAMP, make_dataset(RAMP, WindowCenter=window[0], WindowWidth=window[1]), notes.append)
    assert notes == []


def test_padding_does_not_count_as_what_a_window_shows(make_dataset) -> None:
    radiograph = RAMP.astype(np.int16)
    radiograph[:60] = -2000
    header = make_dataset(radiograph, PixelPaddingValue=-2000, WindowCenter=4000, WindowWidth=250)
    notes: list[str] = []
    grey = to_grey(radiograph, header, notes.append)
    assert notes == []
    assert (grey[60:].min(), grey[60:].max()) < (0.1, 1.0)


def test_an_image_of_nearly_one_value_is_left_to_its_window(make_dataset) -> None:
    radiograph = np.full((64, 64), 1000, np.uint16)
    radiograph[0, :9] = 1800
    notes: list[str] = []
    grey = to_grey(radiograph, make_dataset(radiograph, WindowCenter=1000, WindowWidth=4000), notes.append)
    assert notes == []
    assert grey.max() - grey.min() == pytest.approx(0.2, abs=0.01)


NEEDED = {
    "Rows": "(0028,0010)",
    "Columns": "(0028,0011)",
    "BitsAllocated": "(0028,0100)",
    "BitsStored": "(0028,0101)",
    "PixelRepresentation": "(0028,0103)",
    "PhotometricInterpretation": "(0028,0004)",
}


@pytest.mark.parametrize(("keyword", "tag"), NEEDED.items())
def test_a_missing_element_is_named(tmp_path: Path, make_dicom, keyword: str, tag: str) -> None:
    path = make_dicom(tmp_path / "image.dcm", RAMP, **{keyword: None})
    with pytest.raises(UnreadableImage) as refused:
        read_image(path)
    assert str(refused.value).startswith(f"'image.dcm' has no {keyword} {tag}, without which")


def test_every_missing_element_is_named_at_once(tmp_path: Path, make_dicom) -> None:
    path = make_dicom(tmp_path / "image.dcm", RAMP, Rows=None, BitsStored=None)
    with pytest.raises(UnreadableImage, match=r"has no Rows \(0028,0010\) and no BitsStored \(0028,0101\)"):
        read_image(path)


def test_samples_per_pixel_follow_from_the_photometric_interpretation(tmp_path: Path, make_dicom) -> None:
    path = make_dicom(tmp_path / "image.dcm", RAMP, SamplesPerPixel=None)
    np.testing.assert_array_equal(read_image(path), read_image(make_dicom(tmp_path / "b.dcm", RAMP)))


def test_compressed_pixels_without_a_transfer_syntax_are_refused_by_its_name(make_dataset) -> None:
    dataset = make_dataset(RAMP)
    dataset.compress(JPEG2000Lossless, generate_instance_uid=False)
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    content = file.getvalue()
    syntax = b"\x02\0\x10\0UI\x16\0" + JPEG2000Lossless.encode()
    start = content.index(syntax)
    length = int.from_bytes(content[140:144], "little") - len(syntax)
    without = content[:140] + length.to_bytes(4, "little") + content[144:start] + content[start + 30 :]
    with pytest.raises(UnreadableImage, match=r"has no TransferSyntaxUID \(0002,0010\)"):
        load_content(without, "the image", most=10**6)


@pytest.mark.parametrize("spelling", ["monochrome1", " MONOCHROME1 ", "Monochrome1", "MONOCHROME 1"])
@pytest.mark.filterwarnings("ignore:Invalid value for VR CS")
def test_a_photometric_interpretation_is_read_however_it_is_spelt(
    tmp_path: Path, make_dicom, spelling: str
) -> None:
    path = make_dicom(tmp_path / "a.dcm", RAMP, PhotometricInterpretation=spelling)
    plain = make_dicom(tmp_path / "b.dcm", RAMP, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(read_image(path), read_image(plain))


def test_a_photometric_interpretation_that_is_none_is_refused_by_name(tmp_path: Path, make_dicom) -> None:
    path = make_dicom(tmp_path / "image.dcm", RAMP, PhotometricInterpretation="GREYISH")
    with pytest.raises(UnreadableImage, match=r"PhotometricInterpretation \(0028,0004\) GREYISH"):
        read_image(path)
