"""DICOM: the steps of the standard, pydicom's own files, and files that are broken."""

import io
import warnings
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydicom import Dataset
from pydicom.data import get_testdata_files
from pydicom.encaps import encapsulate
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut, apply_windowing
from pydicom.uid import (
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGExtended12Bit,
    JPEGLSLossless,
    RLELossless,
)

from corpus.dicom.display import Counts, apply_voi, apply_window
from corpus.dicom.file import Undecodable, decode, is_dicom, parse, render
from corpus.errors import UnreadableImage
from corpus.images.reader import read_image
from tests.corpus.grey import to_grey

RAMP = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
ANY_RADIOGRAPH = hnp.arrays(np.uint16, (16, 16), elements=st.integers(0, 4095)).filter(
    lambda a: a.min() < a.max()
)


def table(first: int, entries: list[int], bits: int = 16) -> list[Dataset]:
    item = Dataset()
    item.LUTDescriptor = [len(entries) % 65536, first, bits]
    item.LUTData = entries
    return [item]


@given(ANY_RADIOGRAPH)
def test_monochrome1_is_the_photographic_negative(make_dataset, radiograph: np.ndarray) -> None:
    window = {"WindowCenter": 2000, "WindowWidth": 3000, "BitsStored": 12, "HighBit": 11}
    positive = to_grey(radiograph, make_dataset(radiograph, **window))
    negative = to_grey(
        radiograph, make_dataset(radiograph, PhotometricInterpretation="MONOCHROME1", **window)
    )
    np.testing.assert_allclose(negative, 1 - positive, atol=1e-6)


@given(ANY_RADIOGRAPH)
def test_the_two_ways_of_saying_inverse_invert_once_together(make_dataset, radiograph: np.ndarray) -> None:
    one = make_dataset(radiograph, PresentationLUTShape="INVERSE")
    both = make_dataset(radiograph, PresentationLUTShape="INVERSE", PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(to_grey(radiograph, one), to_grey(radiograph, both))


@given(
    st.lists(st.floats(-5000, 5000), min_size=1, max_size=50),
    st.floats(-3000, 3000),
    st.floats(2, 5000),
    st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]),
)
def test_windows_are_those_of_pydicom(
    make_dataset, values: list[float], centre: float, width: float, function: str
) -> None:
    header = make_dataset(
        RAMP, BitsStored=16, WindowCenter=centre, WindowWidth=width, VOILUTFunction=function
    )
    header.WindowCenter, header.WindowWidth = centre, width
    array = np.array(values)
    with np.errstate(over="ignore"):
        theirs = apply_windowing(array.copy(), header) / 65535
    ours = apply_window(array, float(header.WindowCenter), float(header.WindowWidth), function)
    np.testing.assert_allclose(ours, theirs, atol=2e-5)


@given(st.floats(-1000, 1000), st.floats(2, 3000))
def test_a_window_is_half_way_at_its_centre_and_full_at_its_ends(centre: float, width: float) -> None:
    linear = apply_window(
        np.array([centre - 0.5, centre - 0.5 - (width - 1) / 2, centre + width]), centre, width
    )
    np.testing.assert_allclose(linear, [0.5, 0, 1], atol=1e-6)
    exact = apply_window(
        np.array([centre, centre - width / 2, centre + width / 2]), centre, width, "LINEAR_EXACT"
    )
    np.testing.assert_allclose(exact, [0.5, 0, 1], atol=1e-6)
    assert apply_window(np.array([centre]), centre, width, "SIGMOID")[0] == pytest.approx(0.5)


def test_a_window_of_width_one_is_a_threshold() -> None:
    np.testing.assert_array_equal(apply_window(np.array([9.0, 9.5, 9.6, 10.0]), 10, 1), [0, 0, 1, 1])


def test_rescale_comes_before_the_window(make_dataset) -> None:
    header = make_dataset(RAMP, RescaleSlope=2, RescaleIntercept=-1024, WindowCenter=40, WindowWidth=400)
    expected = apply_window(RAMP * 2.0 - 1024, 40, 400)
    np.testing.assert_allclose(to_grey(RAMP, header), expected, atol=1e-6)


def test_of_several_windows_the_first_counts(make_dataset) -> None:
    several = make_dataset(RAMP, WindowCenter=[1000, 3000], WindowWidth=[500, 100])
    first = make_dataset(RAMP, WindowCenter=1000, WindowWidth=500)
    np.testing.assert_array_equal(to_grey(RAMP, several), to_grey(RAMP, first))


@pytest.mark.parametrize(
    "window",
    [
        {"WindowCenter": "NaN", "WindowWidth": "NaN"},
        {"WindowCenter": 100, "WindowWidth": 0},
        {"WindowCenter": 100, "WindowWidth": -5},
        {"WindowCenter": 100},
        {"WindowCenter": None, "WindowWidth": None},
        {"WindowCenter": "", "WindowWidth": ""},
    ],
)
def test_a_window_that_is_none_gives_way_to_the_range_that_occurs(make_dataset, window: dict) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        grey = to_grey(RAMP, make_dataset(RAMP, **window))
    np.testing.assert_array_equal(grey, to_grey(RAMP, make_dataset(RAMP)))
    assert grey.min() == 0
    assert grey.max() == 1
    assert 0.4 < np.median(grey) < 0.6


def test_without_a_window_8_bits_are_as_they_are(make_dataset) -> None:
    radiograph = (RAMP % 200).astype(np.uint8)
    np.testing.assert_allclose(to_grey(radiograph, make_dataset(radiograph)), radiograph / 255, atol=1e-6)


def test_a_stray_bright_marker_does_not_darken_the_image(make_dataset) -> None:
    radiograph = np.random.default_rng(0).integers(1000, 1200, (64, 64)).astype(np.uint16)
    radiograph[:2, :2] = 65535
    assert 0.4 < np.median(to_grey(radiograph, make_dataset(radiograph))) < 0.6


def test_voi_table_is_that_of_pydicom_and_wins_over_a_window(make_dataset) -> None:
    entries = [int(v) for v in np.linspace(0, 1, 4096) ** 2 * 65535]
    header = make_dataset(
        RAMP, VOILUTSequence=table(0, entries), WindowCenter=5, WindowWidth=2, BitsStored=12, HighBit=11
    )
    np.testing.assert_allclose(to_grey(RAMP, header), apply_voi_lut(RAMP, header) / 65535, atol=1e-6)


def test_a_voi_table_that_promises_too_many_bits_is_not_dark(make_dataset) -> None:
    header = make_dataset(RAMP, VOILUTSequence=table(0, list(range(4096)), bits=16))
    assert to_grey(RAMP, header).max() == 1


def test_values_outside_a_table_take_its_ends(make_dataset) -> None:
    header = make_dataset(RAMP, VOILUTSequence=table(100, list(range(0, 256 * 16, 16)), bits=12))
    grey = to_grey(RAMP, header)
    assert (grey[RAMP < 100] == 0).all()
    assert (grey[RAMP > 400] == grey.max()).all()


def test_modality_table_is_that_of_pydicom(make_dataset) -> None:
    entries = [int(v) for v in np.linspace(0, 60000, 4096)]
    header = make_dataset(RAMP, ModalityLUTSequence=table(0, entries), WindowCenter=30000, WindowWidth=60000)
    expected = apply_window(apply_modality_lut(RAMP, header).astype(float), 30000, 60000)
    np.testing.assert_allclose(to_grey(RAMP, header), expected, atol=1e-6)


def test_padding_is_black_and_does_not_stretch_the_range(make_dataset) -> None:
    radiograph = np.random.default_rng(0).integers(1000, 2000, (64, 64)).astype(np.int16)
    radiograph[:10] = -2000
    for photometric in ("MONOCHROME1", "MONOCHROME2"):
        header = make_dataset(radiograph, PixelPaddingValue=-2000, PhotometricInterpretation=photometric)
        grey = to_grey(radiograph, header)
        assert (grey[:10] == 0).all()
        assert 0.4 < np.median(grey[10:]) < 0.6


def test_a_range_of_padding_is_padding(make_dataset) -> None:
    radiograph = RAMP.copy()
    grey = to_grey(radiograph, make_dataset(radiograph, PixelPaddingValue=4000, PixelPaddingRangeLimit=4095))
    assert (grey[radiograph >= 4000] == 0).all()


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.float32])
def test_every_kind_of_number_renders_in_range(make_dataset, kind: type) -> None:
    radiograph = np.random.default_rng(0).integers(0, 120, (32, 32)).astype(kind) * kind(1)
    grey = to_grey(radiograph, make_dataset(radiograph, BitsStored=min(16, 8 * radiograph.dtype.itemsize)))
    assert grey.dtype == np.float32
    assert 0 <= grey.min() <= grey.max() <= 1


def test_wide_numbers_render_like_narrow_ones(make_dataset) -> None:
    wide = RAMP.astype(np.int32) * 100_000 - 5
    np.testing.assert_allclose(
        to_grey(wide, make_dataset(wide)), to_grey(RAMP, make_dataset(RAMP)), atol=1e-4
    )


def test_pixels_that_are_no_number_are_black(make_dataset) -> None:
    radiograph = RAMP.astype(np.float32)
    radiograph[0, :5] = [np.nan, np.inf, -np.inf, np.nan, 3]
    grey = to_grey(radiograph, make_dataset(RAMP))
    assert (grey[0, :4] == 0).all()
    assert np.isfinite(grey).all()


def test_colour_becomes_luminance(tmp_path: Path, make_dicom) -> None:
    colours = np.zeros((32, 32, 3), np.uint8)
    colours[:16, :, 0] = colours[16:, :, 1] = 255
    path = make_dicom(
        tmp_path / "a.dcm", colours.transpose(2, 0, 1).reshape(3, 32, 32),
        PhotometricInterpretation="RGB", SamplesPerPixel=3, PlanarConfiguration=1, Rows=32, Columns=32,
    )  # fmt: skip
    image = read_image(path)
    assert image[0, 0] == pytest.approx(0.299, abs=1e-3)
    assert image[31, 0] == pytest.approx(0.587, abs=1e-3)


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless, RLELossless])
def test_lossless_compression_changes_no_pixel(tmp_path: Path, make_dicom, syntax: pydicom.uid.UID) -> None:
    plain = make_dicom(tmp_path / "a.dcm", RAMP, WindowCenter=2000, WindowWidth=4000)
    dataset = pydicom.dcmread(plain)
    dataset.compress(syntax, generate_instance_uid=False)
    dataset.save_as(tmp_path / "b.dcm")
    np.testing.assert_array_equal(read_image(plain), read_image(tmp_path / "b.dcm"))


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_every_uncompressed_encoding_gives_the_same_pixels(
    tmp_path: Path, make_dicom, make_dataset, syntax: pydicom.uid.UID
) -> None:
    dataset = make_dataset(RAMP.byteswap() if syntax == ExplicitVRBigEndian else RAMP)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset["PixelData"].VR = "OW"
    pydicom.dcmwrite(
        tmp_path / "a.dcm", dataset, implicit_vr=syntax == ImplicitVRLittleEndian,
        little_endian=syntax != ExplicitVRBigEndian, enforce_file_format=True,
    )  # fmt: skip
    np.testing.assert_array_equal(
        read_image(tmp_path / "a.dcm"), read_image(make_dicom(tmp_path / "b.dcm", RAMP))
    )


def test_a_file_without_preamble_is_known_by_its_first_element(tmp_path: Path, make_dataset) -> None:
    for implicit in (True, False):
        buffer = io.BytesIO()
        dataset = make_dataset(RAMP)
        del dataset.file_meta
        dataset["PixelData"].VR = "OW"
        pydicom.dcmwrite(buffer, dataset, implicit_vr=implicit, little_endian=True, enforce_file_format=False)
        content = buffer.getvalue().removeprefix(b"\0" * 128 + b"DICM")
        assert is_dicom(content)
        assert render(content).plane.shape == (64, 64)


REFUSALS = [
    ({"NumberOfFrames": 3}, "holds 3 frames, not one image"),
    ({"Rows": 20000, "Columns": 20000}, "more than the 120,000,000"),
    ({"Rows": 60, "Columns": None}, r"has no Columns \(0028,0011\)"),
    ({"Rows": 128, "Columns": 64}, r"is truncated: PixelData \(7FE0,0010\) holds 8,192 bytes of the 16,384"),
    ({"Rows": 0}, "0 x 64 pixels"),
    ({"BitsAllocated": 13}, r"says 13 in BitsAllocated \(0028,0100\)"),
    ({"BitsStored": 17}, r"says 17 in BitsStored \(0028,0101\)"),
]


@pytest.mark.parametrize(("elements", "reason"), REFUSALS)
def test_a_header_that_cannot_be_is_refused_by_name(
    tmp_path: Path, make_dicom, elements: dict, reason: str
) -> None:
    path = make_dicom(tmp_path / "image.dcm", RAMP, **elements)
    with pytest.raises(UnreadableImage, match=reason) as refused:
        read_image(path)
    assert str(refused.value).startswith("'image.dcm' ")
    assert "P1" not in str(refused.value)


def test_a_file_without_pixels_is_refused(tmp_path: Path, make_dataset) -> None:
    dataset = make_dataset(RAMP)
    del dataset.PixelData
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    with pytest.raises(UnreadableImage, match="without pixels"):
        read_image(tmp_path / "a.dcm")


def test_a_single_frame_may_say_so(tmp_path: Path, make_dicom) -> None:
    assert read_image(make_dicom(tmp_path / "a.dcm", RAMP, NumberOfFrames=1)).shape == (64, 64)


def test_a_video_is_refused_by_the_name_of_its_encoding(tmp_path: Path, make_dataset) -> None:
    dataset = make_dataset(RAMP)
    dataset.file_meta.TransferSyntaxUID = MPEG2MPML
    dataset.PixelData = encapsulate([b"\0" * 64])
    dataset["PixelData"].is_undefined_length = True
    dataset["PixelData"].VR = "OB"
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    with pytest.raises(UnreadableImage, match="MPEG2"):
        read_image(tmp_path / "a.dcm")


def test_twelve_bit_jpeg_is_refused_by_name() -> None:
    (path,) = get_testdata_files("JPGExtended.dcm")
    with pytest.raises(UnreadableImage, match="12-bit JPEG Extended, which is not read: convert it"):
        read_image(path)
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == JPEGExtended12Bit


def test_a_codestream_larger_than_its_header_is_a_bomb(tmp_path: Path, make_dataset) -> None:
    from PIL import Image

    for kind, syntax in (("JPEG2000", JPEG2000Lossless), ("JPEG", "1.2.840.10008.1.2.4.50")):
        buffer = io.BytesIO()
        Image.new("L", (3000, 2000), 7).save(buffer, kind, **({"no_jp2": True} if kind == "JPEG2000" else {}))
        dataset = make_dataset(RAMP.astype(np.uint8))
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.PixelData = encapsulate([buffer.getvalue()])
        dataset["PixelData"].is_undefined_length = True
        dataset["PixelData"].VR = "OB"
        dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
        with pytest.raises(UnreadableImage, match="says 4,096 pixels but holds 2000 x 3000"):
            read_image(tmp_path / "a.dcm")


def test_a_deflated_bomb_is_refused_before_it_is_inflated(make_dataset) -> None:
    dataset = make_dataset(RAMP)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    content = buffer.getvalue()
    meta_end = 144 + int.from_bytes(content[140:144], "little")
    packer = zlib.compressobj(wbits=-15)
    bomb = b"".join(packer.compress(b"\0" * 1_000_000) for _ in range(50)) + packer.flush()
    with pytest.raises(Undecodable, match="inflates to more than the 8,000,000 bytes"):
        render(content[:meta_end] + bomb, max_pixels=1_000_000)


@pytest.fixture(scope="session")
def whole_file(make_dataset) -> bytes:
    buffer = io.BytesIO()
    make_dataset(RAMP[:20, :20], WindowCenter=200, WindowWidth=400).save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@given(st.data())
def test_damaged_files_are_read_or_refused_and_never_crash(whole_file: bytes, data: st.DataObject) -> None:
    damaged = bytearray(whole_file)
    for index in data.draw(st.lists(st.integers(0, len(damaged) - 1), min_size=1, max_size=5)):
        damaged[index] = data.draw(st.integers(0, 255))
    content = bytes(damaged[: data.draw(st.integers(140, len(damaged)))])
    try:
        grey = render(content, max_pixels=1_000_000).plane.pixels()
    except Undecodable:
        return
    assert 0 <= grey.min() <= grey.max() <= 1


def wheel_files() -> list[Path]:
    """The test files inside pydicom's wheel: the others would be fetched from the network."""
    inside = Path(pydicom.__file__).parent
    return sorted(p for p in inside.rglob("*") if p.suffix in ("", ".dcm") and p.is_file())


def test_pydicoms_own_files_decode_as_pydicom_decodes_them() -> None:
    with_pixels = decoded = 0
    for path in wheel_files():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = pydicom.dcmread(path, force=True)
            if "PixelData" not in theirs:
                continue
            with_pixels += 1
            try:
                expected = pydicom.pixels.utils.pixel_array(theirs)
            except Exception:
                expected = None
            try:
                ours = decode(parse(path.read_bytes(), max_bytes=1 << 30))
            except Undecodable:
                ours = None
        if expected is None or ours is None:
            continue
        decoded += 1
        if theirs.PhotometricInterpretation != "PALETTE COLOR":
            np.testing.assert_array_equal(ours, expected, err_msg=path.name)
    assert with_pixels == 107
    assert decoded >= 100


def test_pydicoms_own_files_are_read_or_refused_by_name() -> None:
    read, refused = 0, []
    for path in wheel_files():
        try:
            grey = render(path.read_bytes()).plane.pixels()
        except Undecodable as reason:
            refused.append(str(reason))
        else:
            read += 1
            assert grey.dtype == np.float32
            assert grey.ndim == 2
            assert 0 <= grey.min() <= grey.max() <= 1
    assert read == 93
    assert all(reason.split()[0] in ("is", "has", "holds", "does", "says") for reason in refused)


def test_the_range_that_occurs_is_found_from_a_histogram(make_dataset) -> None:
    radiograph = np.random.default_rng(1).normal(30000, 4000, (200, 200)).astype(np.uint16)
    low, high = np.quantile(radiograph, [0.005, 0.995])
    expected = np.clip((radiograph - low) / (high - low), 0, 1)
    np.testing.assert_allclose(to_grey(radiograph, make_dataset(radiograph)), expected, atol=0.01)
    ones = np.ones(radiograph.shape)
    counts = Counts(lambda step: ones, ones.size, np.zeros(ones.shape, bool))
    np.testing.assert_allclose(
        apply_voi(radiograph.astype(float), make_dataset(radiograph), counts).clip(0, 1),
        expected,
        atol=0.01,
    )


@pytest.mark.real_data
def test_the_two_real_images_are_each_others_negative(data: Path) -> None:
    positive = read_image(data / "dicom" / "1.2.276.0.7230010.3.1.4.8323329.6904.1517875201.850819.dcm")
    negative = read_image(data / "dicom" / "Fake_MONOHR1.dcm")
    assert positive.shape == (1024, 1024)
    np.testing.assert_allclose(positive, 1 - negative, atol=1e-6)
