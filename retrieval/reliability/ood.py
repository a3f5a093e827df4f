"""The out-of-distribution detector: refuses images of another kind than those of the index.

It sees the feature map of the encoder's backbone averaged over the image. The projection after it was trained
to distinguish findings and discards everything else. The index's own images form a cloud of such points. The
distance of an image is half its Mahalanobis distance within the cloud's main directions and half its distance
off them (after Lee et al., NeurIPS 2018). Half of the index's subjects define the cloud; the distances of the
other half set the limit, so that of new images of the same kind about `REFUSED_IN_ERROR` are refused
(split-conformal).

A radiograph and its inverse show the same to a radiologist: the smaller of their two distances counts. The
detector is fitted on nothing but the index, so that an index of breast ultrasound refuses a chest radiograph.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from corpus.statistics import unit_rows
from indexer.index import Index

if TYPE_CHECKING:
    from trainer.runtime.encoder import Encoder

Pixels = NDArray[np.float32]
Numbers = NDArray[np.float64]

REFUSED_IN_ERROR = 0.004
"""Share of images of the index's own kind that are refused. More than one in fifty would not be accepted, and
other kinds are so distant (`benchmarks.ood`) that this margin costs nothing."""
FEWEST_SUBJECTS = 100
"""Fewer subjects make no detector: half of them set a limit that one in fifty of the others exceeds."""
MOST_IMAGES = 800
"""Images that it is fitted on at most: each is read and goes through the backbone twice."""
REFUSAL = (
    "this image is unlike every image of the index: by what the encoder sees in it, it is not of the "
    "kind that is indexed here, and nothing can be found for it."
)
_DIRECTIONS = 48  # of the cloud, at most a third of the images that define it


@dataclass(frozen=True, slots=True)
class OutOfDistributionDetector:
    """The cloud of an index's own images, and the distance from which on an image is refused.

    Attributes:
        mean: (d,) of the points.
        directions: (q, d) unit rows, the main directions.
        spread: (q,) variances along them.
        rest: mean squared distance off the directions.
        limit: largest distance that is accepted.
        subjects: number of subjects that it was fitted on.
    """

    mean: Numbers
    directions: Numbers
    spread: Numbers
    rest: float
    limit: float
    subjects: int

    def distance(self, points: Numbers) -> Numbers:
        """Return the distances of (n, d) points from the cloud, (n,); about 1 for one of its own."""
        centred = points - self.mean
        along = centred @ self.directions.T
        off = np.maximum((centred**2).sum(axis=1) - (along**2).sum(axis=1), 0.0)
        inside = (along**2 / self.spread).mean(axis=1)
        return np.asarray((inside + off / self.rest) / 2)

    def refuses(self, encoder: "Encoder", pixels: Pixels) -> bool:
        """Return whether an image is of another kind than those of the index.

        Args:
            encoder: the index's.
            pixels: (height, width) float32 grey in [0, 1].
        """
        upright = _points(encoder, [pixels])
        if self.distance(upright)[0] <= self.limit:
            return False
        inverted = _points(encoder, [np.float32(1.0) - pixels])
        return bool(self.distance(inverted)[0] > self.limit)

    def as_json(self) -> dict[str, Any]:
        """The form that the catalog stores, numbers to six significant digits."""
        return {
            "mean": _rounded(self.mean),
            "directions": _rounded(self.directions),
            "spread": _rounded(self.spread),
            "rest": self.rest,
            "limit": self.limit,
            "people": self.subjects,
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "OutOfDistributionDetector":
        """Read what `as_json` wrote."""
        mean, directions, spread = (np.array(stored[name]) for name in ("mean", "directions", "spread"))
        return cls(mean, directions, spread, stored["rest"], stored["limit"], stored["people"])


def backbone_features(encoder: "Encoder", images: Sequence[Pixels]) -> tuple[Numbers, Numbers]:
    """Return the averaged features of the backbone, (n, d) unit rows, of images and of their inverses."""
    inverses = [np.float32(1.0) - image for image in images]
    return _points(encoder, images), _points(encoder, inverses)


def fit_detector(
    upright: Numbers, inverted: Numbers, subjects: Sequence[str]
) -> OutOfDistributionDetector | None:
    """Fit the detector to images of one kind; None from fewer than `FEWEST_SUBJECTS`.

    Args:
        upright: (n, d) points of the index's images, in random order (`backbone_features`).
        inverted: (n, d) points of their inverses.
        subjects: the subject of each; no subject both defines the cloud and sets the limit.
    """
    order = {subject: number for number, subject in enumerate(dict.fromkeys(subjects))}
    if len(order) < FEWEST_SUBJECTS:
        return None
    defines = np.array([order[subject] % 2 == 0 for subject in subjects])
    mean, directions, spread, rest = _cloud(upright[defines])
    unlimited = OutOfDistributionDetector(mean, directions, spread, rest, np.inf, len(order))
    distances = np.minimum(unlimited.distance(upright[~defines]), unlimited.distance(inverted[~defines]))
    rank = min(ceil((len(distances) + 1) * (1 - REFUSED_IN_ERROR)), len(distances))
    limit = float(np.sort(distances)[rank - 1])
    return OutOfDistributionDetector(mean, directions, spread, rest, limit, len(order))


def load_detector(index: Index) -> OutOfDistributionDetector | None:
    """Return the detector of the active version; None where it was not calibrated."""
    fingerprint = index.active_version.fingerprint
    return index.calibrations.read(fingerprint, "gate", OutOfDistributionDetector.from_json)


def _cloud(points: Numbers) -> tuple[Numbers, Numbers, Numbers, float]:
    """Mean, main directions, variances along them, and the mean squared distance off them."""
    mean = points.mean(axis=0)
    _, lengths, rows = np.linalg.svd(points - mean, full_matrices=False)
    count = min(_DIRECTIONS, len(points) // 3)
    spread = lengths**2 / len(points)
    # A backbone of few channels may leave nothing off the directions.
    floor = 1e-6 * float(spread.sum()) + 1e-12
    return mean, rows[:count], np.maximum(spread[:count], floor), max(float(spread[count:].sum()), floor)


def _points(encoder: "Encoder", images: Sequence[NDArray[np.float32]]) -> Numbers:
    """Return the averaged features of the backbone as unit rows, (n, d) float64."""
    return unit_rows(encoder.encode_backbone(images).astype(np.float64))


def _rounded(numbers: Numbers) -> Any:
    """Numbers to six significant digits, as nested lists."""
    if numbers.ndim == 1:
        return [float(f"{number:.6g}") for number in numbers]
    return [_rounded(row) for row in numbers]
