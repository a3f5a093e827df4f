r"""The standard orientation of a DICOM image, and the millimetres of its pixels.

A frontal radiograph is displayed as if the patient faced the viewer: rows run towards the patient's left,
columns towards the feet (`PatientOrientation` L\\F). Any other orientation is mirrored and turned to this
one, so that laterality can be read off the displayed image. A lateral is displayed head up; whether it faces
left or right stays as stored: both are in use, and no laterality is read off it.

`FieldOfViewHorizontalFlip` (0018,7034) and `FieldOfViewRotation` (0018,7032) describe the stored pixels
relative to the detector, `ImageLaterality` the part of the body: neither determines the display.
"""

from dataclasses import dataclass, replace

from pydicom import Dataset

from corpus.dicom.elements import named, number_of, numbers_of, text_of
from corpus.geometry import AS_STORED, Orientation

_AXES = {"L": "side", "R": "side", "A": "depth", "P": "depth", "H": "height", "F": "height"}
_MOST_LETTERS = 3
_MAGNIFICATIONS = (1.0, 4.0)  # beyond these a factor is an error of the header


@dataclass(frozen=True, slots=True)
class Spacing:
    """Millimetres between the centres of neighbouring pixels.

    `down`: along a column; `across`: along a row.
    `at_detector`: measured at the detector (or on the scanned original), not in the patient, who is nearer
    to the tube and so enlarged.
    `element`: keyword of the element that it comes from.
    """

    down: float
    across: float
    at_detector: bool = False
    element: str = "PixelSpacing"

    @property
    def pixel_area(self) -> float:
        """Square millimetres of a pixel."""
        return self.down * self.across

    def oriented(self, orientation: Orientation) -> "Spacing":
        """Return the spacing of the image as displayed: a turn by 90° swaps the two."""
        return replace(self, down=self.across, across=self.down) if orientation.transposed else self


def orientation_of(dataset: Dataset) -> tuple[Orientation, str | None]:
    """Return the orientation that displays an image, by its PatientOrientation (PS3.3 C.7.6.1.1.1).

    The first letter of a value is the principal direction. Without the element, or where neither direction is
    along the body (an axial slice), the image is displayed as stored.

    Returns:
        The orientation, and a note where the element exists and cannot be followed.
    """
    text = text_of(dataset, "PatientOrientation").upper()
    if not text.strip("\\ "):
        return AS_STORED, None
    values = ["".join(value.split()) for value in text.split("\\")]
    animal = text_of(dataset, "AnatomicalOrientationType").upper() == "QUADRUPED"
    if animal or len(values) != 2 or not all(map(_is_direction, values)):
        return AS_STORED, _NOT_FOLLOWED
    row, column = values[0][0], values[1][0]
    if _AXES[row] == _AXES[column]:
        return AS_STORED, _NOT_FOLLOWED
    if "height" not in (_AXES[row], _AXES[column]):
        return AS_STORED, None
    transposed = _AXES[row] == "height"
    across, down = (column, row) if transposed else (row, column)
    return Orientation(transposed, up_down=down == "H", left_right=across == "R"), None


_NOT_FOLLOWED = f"is shown as stored: its {named('PatientOrientation')} names no two directions of a body"


def _is_direction(value: str) -> bool:
    axes = [_AXES.get(letter) for letter in value]
    return 1 <= len(value) <= _MOST_LETTERS and None not in axes and len(set(axes)) == len(axes)


def spacing_of(dataset: Dataset) -> Spacing | None:
    """Return the millimetres of a stored image's pixels, or None where the header has none.

    `PixelSpacing` comes first. Where it only repeats `ImagerPixelSpacing` and names no calibration, it is of
    the detector (PS3.3 10.7.1.1), as are `ImagerPixelSpacing` and `NominalScannedPixelSpacing`; these are
    divided by the `EstimatedRadiographicMagnificationFactor` where there is one.
    """
    imager = lengths_of(dataset, "ImagerPixelSpacing")
    for element, pair in (
        ("PixelSpacing", lengths_of(dataset, "PixelSpacing")),
        ("ImagerPixelSpacing", imager),
        ("NominalScannedPixelSpacing", lengths_of(dataset, "NominalScannedPixelSpacing")),
    ):
        if pair is None:
            continue
        calibrated = element == "PixelSpacing" and (
            pair != imager or bool(text_of(dataset, "PixelSpacingCalibrationType"))
        )
        if calibrated:
            return Spacing(*pair)
        factor = number_of(dataset, "EstimatedRadiographicMagnificationFactor")
        if factor is None or not _MAGNIFICATIONS[0] <= factor <= _MAGNIFICATIONS[1]:
            return Spacing(*pair, at_detector=True, element=element)
        return Spacing(pair[0] / factor, pair[1] / factor, element=element)
    return None


def lengths_of(dataset: Dataset, keyword: str) -> tuple[float, float] | None:
    """Return row and column spacing in mm (PS3.3 10.7.1.3), or None where they are absent or no lengths."""
    values = [value for value in numbers_of(dataset, keyword) if value is not None and 1e-4 < value < 1e3]
    return (values[0], values[1]) if len(values) == len(numbers_of(dataset, keyword)) == 2 else None
