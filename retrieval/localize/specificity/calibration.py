"""The specificity calibration: when a map is specific enough for a mask, per encoder and method.

A logistic regression over the statistics of `retrieval.localize.specificity.map_statistics`; it is fitted by
`retrieval.localize.specificity.calibration_fit`. A calibration is stored in the home and found by the
encoder's fingerprint. Images of the calibration are stored beside it as vectors, since every later phrase is
compared on them, too; the home holds what must not leave it.
"""

import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from corpus.errors import EncoderError
from corpus.settings import settings
from corpus.statistics import sigmoid
from retrieval.export.files import write_whole
from retrieval.localize.saliency.maps import METHODS
from retrieval.localize.specificity.map_statistics import STATISTICS, References

FOLDER = "calibrations"
_MEASURED = "v2"  # version of the statistics: weights fitted to others mean nothing
_CLIP = 8.0  # deviations beyond which a statistic carries no more information

UNTRAINED = "gscorecam"
"""The method where none is calibrated: patches localize only in an encoder that was trained to."""
UNCALIBRATED = 0.9
"""Without calibration, the share of other findings and random vectors that a peak must exceed for a mask."""


@dataclass(frozen=True, slots=True, eq=False)
class SpecificityCalibration:
    """When a map is specific to its phrase and its image.

    `weights`: (len(STATISTICS) + 1,) of the standardised statistics, then the constant.
    `centre`, `spread`: mean and standard deviation for standardising.
    `threshold`: of the specificity, from which a mask is returned.
    `references`: images that a phrase is compared on.
    `rates`: by cross-validation over subjects, the sensitivity ("present": share of present findings with a
    mask) and the specificity for each other kind of map (share without a mask).
    """

    weights: NDArray[np.float64]
    centre: NDArray[np.float64]
    spread: NDArray[np.float64]
    threshold: float
    references: References
    rates: Mapping[str, float]

    def specificity(self, statistics: NDArray[np.float64]) -> NDArray[np.float64]:
        """(p,) probabilities in [0, 1] that maps show the findings of their phrases.

        Args:
            statistics: (p, len(STATISTICS)).
        """
        standard = (clip(statistics) - self.centre) / self.spread
        return sigmoid(standard @ self.weights[:-1] + self.weights[-1])

    def weakest(self, statistics: NDArray[np.float64]) -> str:
        """The statistic that speaks most against one map; `statistics`: (len(STATISTICS),)."""
        standard = (clip(statistics) - self.centre) / self.spread
        return STATISTICS[int((standard * self.weights[:-1]).argmin())]


def clip(statistics: NDArray[np.float64]) -> NDArray[np.float64]:
    """Statistics limited to ±8 deviations."""
    return np.clip(statistics, -_CLIP, _CLIP)


def calibration_path(fingerprint: str, method: str, home: Path | None = None) -> Path:
    """The file of an encoder's and method's calibration."""
    return (home or settings().home_folder) / FOLDER / f"{fingerprint[:16]}-{method}-{_MEASURED}.npz"


def save_calibration(
    calibration: SpecificityCalibration, fingerprint: str, method: str, home: Path | None = None
) -> Path:
    """Write a calibration to its path, whole or not at all, and return the path.

    Raises:
        ExportError: the disk refuses it.
    """
    written = io.BytesIO()
    np.savez_compressed(
        written,
        weights=calibration.weights,
        centre=calibration.centre,
        spread=calibration.spread,
        patches=calibration.references.patches.astype(np.float16),
        vectors=calibration.references.vectors,
        told=np.array(json.dumps({"threshold": calibration.threshold, "rates": dict(calibration.rates)})),
    )
    return write_whole(calibration_path(fingerprint, method, home), written.getvalue())


def find_calibration(
    fingerprint: str, method: str, home: Path | None = None
) -> SpecificityCalibration | None:
    """The calibration of an encoder and method, or None where there is none.

    Args:
        fingerprint: of the encoder.
        method: one of `METHODS`.
        home: folder of the calibrations; default: the setting.

    Raises:
        EncoderError: its file is damaged.
    """
    path = calibration_path(fingerprint, method, home)
    if not path.is_file():
        return None
    with _open(path) as stored:
        summary = _summary(stored)
        return SpecificityCalibration(
            stored["weights"], stored["centre"], stored["spread"], float(summary["threshold"]),
            References(stored["patches"].astype(np.float32), stored["vectors"]), summary["rates"],
        )  # fmt: skip


def find_references(fingerprint: str) -> References | None:
    """The images of an encoder's calibration by any method, or None where there is none.

    Raises:
        EncoderError: the file is damaged.
    """
    for method in METHODS:
        calibration = find_calibration(fingerprint, method)
        if calibration is not None:
            return calibration.references
    return None


def best_method(fingerprint: str, home: Path | None = None) -> str | None:
    """The calibrated method with the highest sensitivity, or None where there is no calibration.

    All methods are calibrated to the same specificity. Of equal ones the first of `METHODS`.

    Raises:
        EncoderError: as `find_calibration`.
    """
    sensitivity: dict[str, float] = {}
    for method in METHODS:
        path = calibration_path(fingerprint, method, home)
        if path.is_file():
            with _open(path) as stored:  # its references, most of the file, are not read
                sensitivity[method] = float(_summary(stored)["rates"].get("present", 0.0))
    return max(sensitivity, key=lambda method: sensitivity[method], default=None)


def method_for(fingerprint: str, method: str | None, home: Path | None = None) -> str:
    """The given method, else the `best_method`, else the one that needs no training of its own.

    Raises:
        EncoderError: as `find_calibration`.
    """
    return method or best_method(fingerprint, home) or UNTRAINED


@contextmanager
def _open(path: Path) -> Iterator[Mapping[str, NDArray[Any]]]:
    """The arrays of a calibration's file, each read when it is accessed."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            yield stored
    except (OSError, ValueError, KeyError, TypeError, BadZipFile) as error:
        raise EncoderError(
            f"the calibration {path} is damaged: remove it, or calibrate anew with "
            "`similarity localize --calibrate SOURCE`"
        ) from error


def _summary(stored: Mapping[str, NDArray[Any]]) -> Mapping[str, Any]:
    """Threshold and rates."""
    summary: Mapping[str, Any] = json.loads(str(stored["told"]))
    return summary
