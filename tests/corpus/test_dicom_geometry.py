"""The standard hanging of a radiograph, whatever PatientOrientation it is stored in, and its millimetres."""

import itertools
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from corpus.dicom.spacing import Spacing, orientation_of, spacing_of
from corpus.geometry import AS_STORED, Orientation
from corpus.images.reader import load_content, load_image, read_image

RADIOGRAPH = (np.arange(40 * 24).reshape(40, 24) * 4).astype(np.uint16)
SHOWN = {"WindowCenter": 2000, "WindowWidth": 4000}
FRONTAL = [
    f"{one}\\{other}" for pair in (("LR", "HF"), ("HF", "LR")) for one, other in itertools.product(*pair)
]
LATERAL = ["A\\F", "P\\F", "A\\H", "P\\H", "F\\A", "F\\P", "H\\A", "H\\P"]
HANGINGS = st.builds(Orientation, st.booleans(), st.booleans(), st.booleans())


def stored_as(shown: np.ndarray, orientation: str) -> np.ndarray:
    """Pixels as a device stores them with rows and columns in these directions, from L\\F or A\\F.

    Written from the definition (PS3.3 C.7.6.1.1.1), pixel by pixel, apart from the code under test.
    """
    row, column = orientation.split("\\")
    height, width = shown.shape
    turned = row in "HF"
    stored = np.empty((width, height) if turned else (height, width), shown.dtype)
    for y, x in np.ndindex(stored.shape):
        down, across = (x, y) if turned else (y, x)
        head_first = "F" in (row, column)
        to_right = "R" in (row, column)
        stored[y, x] = shown[
            down if head_first else height - 1 - down, width - 1 - across if to_right else across
        ]
    return stored


@given(hnp.arrays(np.int16, hnp.array_shapes(min_dims=2, max_dims=2, max_side=6)), HANGINGS)
def test_what_is_hung_and_taken_down_is_as_it_was(plane: np.ndarray, hanging: Orientation) -> None:
    np.testing.assert_array_equal(hanging.undo(hanging.apply(plane)), plane)
    np.testing.assert_array_equal(hanging.apply(hanging.undo(plane)), plane)


def test_there_are_eight_hangings() -> None:
    corners = np.arange(4).reshape(2, 2)
    every = {hanging_of_bits(bits).apply(corners).tobytes() for bits in range(8)}
    assert len(every) == 8


def hanging_of_bits(bits: int) -> Orientation:
    return Orientation(bool(bits & 1), bool(bits & 2), bool(bits & 4))


@pytest.mark.parametrize("orientation", FRONTAL)
def test_a_frontal_image_is_shown_the_same_in_whichever_of_eight_ways_it_is_stored(
    tmp_path: Path, make_dicom, orientation: str
) -> None:
    plain = read_image(make_dicom(tmp_path / "plain.dcm", RADIOGRAPH, **SHOWN))
    stored = stored_as(RADIOGRAPH, orientation)
    path = make_dicom(tmp_path / "a.dcm", stored, PatientOrientation=orientation.split("\\"), **SHOWN)
    image = load_image(path)
    np.testing.assert_allclose(image.pixels, plain, atol=1e-6)
    assert image.notes == ()
    assert image.content == load_image(tmp_path / "plain.dcm").content


@pytest.mark.parametrize("orientation", LATERAL)
def test_a_lateral_is_shown_head_up_and_faces_as_it_is_stored(make_dataset, orientation: str) -> None:
    facing = "A\\F" if "A" in orientation else "P\\F"
    hanging, note = orientation_of(make_dataset(RADIOGRAPH, PatientOrientation=orientation.split("\\")))
    np.testing.assert_array_equal(hanging.apply(stored_as(RADIOGRAPH, orientation)), RADIOGRAPH)
    assert note is None
    assert orientation_of(make_dataset(RADIOGRAPH, PatientOrientation=facing.split("\\"))) == (
        AS_STORED,
        None,
    )


@pytest.mark.filterwarnings("ignore:Invalid value for VR CS")
@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (["RP", "F"], "R\\F"),
        (["RA", "FP"], "R\\F"),
        (["LHA", "H"], "L\\H"),
        (["r", "f"], "R\\F"),
        ([" R", "F "], "R\\F"),
        (["FL", "RA"], "F\\R"),
        (["AL", "HP"], "A\\H"),
    ],
)
def test_the_first_letter_of_a_direction_is_the_one_that_counts(
    make_dataset, written: list[str], meant: str
) -> None:
    stated = orientation_of(make_dataset(RADIOGRAPH, PatientOrientation=written))
    assert stated == orientation_of(make_dataset(RADIOGRAPH, PatientOrientation=meant.split("\\")))
    assert stated != (AS_STORED, None)


@pytest.mark.parametrize("orientation", [None, "", ["", ""], ["L", "P"], ["R", "A"], ["L", "PF"]])
def test_without_a_direction_along_the_body_an_image_is_shown_as_stored(make_dataset, orientation) -> None:
    assert orientation_of(make_dataset(RADIOGRAPH, PatientOrientation=orientation)) == (AS_STORED, None)


@pytest.mark.parametrize(
    "orientation",
    [["L", "R"], ["F", "H"], ["R"], ["R", "F", "H"], ["LR", "F"], ["LL", "F"], ["X", "F"], ["R", ""]],
)
def test_an_invalid_direction_is_noted_and_not_followed(
    tmp_path: Path, make_dicom, orientation: list[str]
) -> None:
    image = load_image(
        make_dicom(tmp_path / "image.dcm", RADIOGRAPH, PatientOrientation=orientation, **SHOWN)
    )
    np.testing.assert_array_equal(
        image.pixels, read_image(make_dicom(tmp_path / "b.dcm", RADIOGRAPH, **SHOWN))
    )
    [note] = image.notes
    assert note.startswith("'image.dcm' is shown as stored: its PatientOrientation (0020,0020)")


def test_directions_of_an_animal_are_not_followed(make_dataset) -> None:
    header = make_dataset(RADIOGRAPH, PatientOrientation=["R", "F"], AnatomicalOrientationType="QUADRUPED")
    assert orientation_of(header)[0] == AS_STORED


def test_a_flip_of_the_detectors_field_of_view_is_not_applied_to_the_pixels_again(make_dataset) -> None:
    header = make_dataset(
        RADIOGRAPH, PatientOrientation=["L", "F"], FieldOfViewHorizontalFlip="YES", FieldOfViewRotation=180,
        ImageLaterality="R",
    )  # fmt: skip
    assert orientation_of(header) == (AS_STORED, None)


SPACINGS = [
    ({"PixelSpacing": [0.2, 0.4]}, Spacing(0.2, 0.4)),
    ({"PixelSpacing": [0.2, 0.4], "ImagerPixelSpacing": [0.3, 0.6]}, Spacing(0.2, 0.4)),
    (
        {"ImagerPixelSpacing": [0.1, 0.1]},
        Spacing(0.1, 0.1, at_detector=True, element="ImagerPixelSpacing"),
    ),
    (
        {"ImagerPixelSpacing": [0.3, 0.6], "EstimatedRadiographicMagnificationFactor": 1.5},
        Spacing(0.2, 0.4, element="ImagerPixelSpacing"),
    ),
    (
        {"NominalScannedPixelSpacing": [0.5, 0.5]},
        Spacing(0.5, 0.5, at_detector=True, element="NominalScannedPixelSpacing"),
    ),
    ({"PixelSpacing": [0.1, 0.1], "ImagerPixelSpacing": [0.1, 0.1]}, Spacing(0.1, 0.1, at_detector=True)),
    (
        {
            "PixelSpacing": [0.1, 0.1],
            "ImagerPixelSpacing": [0.1, 0.1],
            "PixelSpacingCalibrationType": "GEOMETRY",
        },
        Spacing(0.1, 0.1),
    ),
    (
        {"ImagerPixelSpacing": [0.1, 0.1], "EstimatedRadiographicMagnificationFactor": 0},
        Spacing(0.1, 0.1, at_detector=True, element="ImagerPixelSpacing"),
    ),
    (
        {"PixelSpacing": [0, 0], "ImagerPixelSpacing": [0.1, 0.1]},
        Spacing(0.1, 0.1, at_detector=True, element="ImagerPixelSpacing"),
    ),
    ({"PixelSpacing": [0.2]}, None),
    ({"PixelSpacing": [0.2, 0.2, 0.2]}, None),
    ({"PixelSpacing": [-0.2, 0.2]}, None),
    ({}, None),
]


@pytest.mark.parametrize(("elements", "expected"), SPACINGS)
def test_the_best_that_the_header_says_of_millimetres_is_taken(
    make_dataset, elements: dict, expected: Spacing | None
) -> None:
    found = spacing_of(make_dataset(RADIOGRAPH, **elements))
    assert (found is None) == (expected is None)
    if found is not None and expected is not None:
        assert (found.down, found.across) == pytest.approx((expected.down, expected.across))
        assert (found.at_detector, found.element) == (expected.at_detector, expected.element)


@pytest.mark.parametrize(("orientation", "expected"), [(["L", "F"], (0.2, 0.4)), (["F", "L"], (0.4, 0.2))])
def test_a_turned_images_spacing_is_turned_with_it(
    tmp_path: Path, make_dicom, orientation: list[str], expected: tuple[float, float]
) -> None:
    path = make_dicom(tmp_path / "a.dcm", RADIOGRAPH, PatientOrientation=orientation, PixelSpacing=[0.2, 0.4])
    spacing = load_image(path).spacing
    assert spacing is not None
    assert (spacing.down, spacing.across) == expected


@pytest.mark.real_data
def test_a_real_image_stored_from_left_to_right_is_mirrored_once(data: Path) -> None:
    path = data / "dicom-varied" / "RG3_RLE.dcm"
    header = pydicom.dcmread(path)
    assert list(header.PatientOrientation) == ["R", "F"]
    unturned = path.read_bytes().replace(b"R\\F ", b"L\\F ", 1)
    assert unturned != path.read_bytes()
    mirrored = load_content(unturned, "the image", most=10**8).pixels
    np.testing.assert_array_equal(read_image(path), mirrored[:, ::-1])


@pytest.mark.real_data
def test_real_images_in_the_standard_hanging_are_left_as_they_are(data: Path) -> None:
    for folder in ("dicom", "dicom-varied"):
        for path in sorted((data / folder).glob("*.dcm")):
            header = pydicom.dcmread(path, stop_before_pixels=True, force=True)
            turned = list(header.get("PatientOrientation") or []) == ["R", "F"]
            assert (orientation_of(header) != (AS_STORED, None)) == turned, path.name
