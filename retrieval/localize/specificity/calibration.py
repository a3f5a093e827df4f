"""When a map is to be believed: fitted per encoder and method, kept in the home, found by fingerprint.

A logistic regression over the statistics of `retrieval.localize.specificity.evidence` tells maps of findings
that are there from maps of findings that are not, of random vectors, and of films whose rows were shuffled.
The threshold lets through a twentieth of each of these three, to stay under a tenth on other films, by what a
regression of other people's films says of them (cross-fitting): all films count, and none speaks for itself.
Films of the calibration stay beside it as vectors, to ask every later phrase on; so it lies in the home, with
what belongs to nobody else.
"""

import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from corpus.errors import EncoderError
from corpus.settings import settings
from retrieval.export.files import write_whole
from retrieval.localize.saliency.maps import METHODS
from retrieval.localize.specificity.evidence import STATISTICS, References

FOLDER = "calibrations"
_MEASURED = "v2"  # of how the statistics are measured: weights fitted to others mean nothing
REFUSED = 0.95
"""Share of each kind of map without a finding that the threshold refuses, of people not fitted on."""
_CLIP = 8.0  # deviations beyond which a statistic says no more
_RIDGE = 1.0
_STEPS = 50

UNTRAINED = "gscorecam"
"""The method where none is calibrated: patches tell where only in an encoder that learned to."""
UNCALIBRATED = 0.9
"""Without calibration, the share of other findings and random vectors that a peak has to beat for a mask."""


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """When a map is to be believed.

    `weights`: (len(STATISTICS) + 1,) of the standardised statistics, then the constant. `centre`, `spread`:
    by which they are standardised. `threshold`: of the probability. `rates`: of people fitted neither weights
    nor threshold on, the share of masks given to present findings and refused to each other kind.
    """

    weights: NDArray[np.float64]
    centre: NDArray[np.float64]
    spread: NDArray[np.float64]
    threshold: float
    references: References
    rates: Mapping[str, float]

    def believe(self, statistics: NDArray[np.float64]) -> NDArray[np.float64]:
        """(p,) probabilities in [0, 1] that maps show what their phrases name."""
        standard = (_clipped(statistics) - self.centre) / self.spread
        return _sigmoid(standard @ self.weights[:-1] + self.weights[-1])

    def weakest(self, statistics: NDArray[np.float64]) -> str:
        """The statistic that speaks most against one map."""
        standard = (_clipped(statistics) - self.centre) / self.spread
        return STATISTICS[int((standard * self.weights[:-1]).argmin())]


def fit(
    statistics: NDArray[np.float64],
    kinds: NDArray[np.str_],
    folds: NDArray[np.int64],
    references: References,
) -> Calibration:
    """Fit on maps of known kind.

    Args:
        statistics: (m, len(STATISTICS)).
        kinds: (m,) "present", "absent", "random", "shuffled".
        folds: (m,) which part of the people each map is of, at least three parts; every kind is in at least
            three of them.
        references: kept with it.
    """
    right = np.empty(len(kinds), dtype=bool)
    for fold in np.unique(folds):
        own, rest = folds == fold, folds != fold
        apart = _weighed(statistics[rest], kinds[rest], references)
        bar = _threshold(statistics[rest], kinds[rest], folds[rest], references)
        right[own] = (apart.believe(statistics[own]) >= bar) == (kinds[own] == "present")
    return replace(
        _weighed(statistics, kinds, references),
        threshold=_threshold(statistics, kinds, folds, references),
        rates={str(kind): float(right[kinds == kind].mean()) for kind in np.unique(kinds)},
    )


def _threshold(
    statistics: NDArray[np.float64],
    kinds: NDArray[np.str_],
    folds: NDArray[np.int64],
    references: References,
) -> float:
    """The probability that refuses `REFUSED` of each kind without a finding, each map by the other folds."""
    believed = np.empty(len(kinds))
    for fold in np.unique(folds):
        own, rest = folds == fold, folds != fold
        believed[own] = _weighed(statistics[rest], kinds[rest], references).believe(statistics[own])
    others = set(kinds.tolist()) - {"present"}
    return max(float(np.quantile(believed[kinds == kind], REFUSED)) for kind in others)


def _weighed(statistics: NDArray[np.float64], kinds: NDArray[np.str_], references: References) -> Calibration:
    """The regression alone, without threshold and rates."""
    clipped = _clipped(statistics)
    centre, spread = clipped.mean(axis=0), np.maximum(clipped.std(axis=0), 1e-6)
    design = np.column_stack([(clipped - centre) / spread, np.ones(len(clipped))])
    # Each kind counts the same, and all that is refused as much as what is not.
    counts = {kind: int((kinds == kind).sum()) for kind in np.unique(kinds)}
    others = max(1, len(counts) - 1)
    importance = np.array([len(kinds) / (2 * counts[k] * (1 if k == "present" else others)) for k in kinds])
    weights = _logistic(design, kinds == "present", importance)
    return Calibration(weights, centre, spread, 1.0, references, {})


def place_of(fingerprint: str, method: str, home: Path | None = None) -> Path:
    """Where the calibration of an encoder and method lies."""
    return (home or settings().home_folder) / FOLDER / f"{fingerprint[:16]}-{method}-{_MEASURED}.npz"


def find_calibration(fingerprint: str, method: str, home: Path | None = None) -> Calibration | None:
    """The calibration of an encoder and method, or None where there is none.

    Args:
        fingerprint: of the encoder.
        method: one of `METHODS`.
        home: where it lies; default as the settings have it.

    Raises:
        EncoderError: its file is damaged.
    """
    path = place_of(fingerprint, method, home)
    if not path.is_file():
        return None
    with _opened(path) as held:
        told = json.loads(str(held["told"]))
        return Calibration(
            held["weights"], held["centre"], held["spread"], float(told["threshold"]),
            References(held["patches"].astype(np.float32), held["vectors"]), told["rates"],
        )  # fmt: skip


@contextmanager
def _opened(path: Path) -> Iterator[Mapping[str, NDArray[Any]]]:
    """What a calibration's file holds, each part read when it is asked for."""
    try:
        with np.load(path, allow_pickle=False) as held:
            yield held
    except (OSError, ValueError, KeyError, TypeError, BadZipFile) as error:
        raise EncoderError(
            f"the calibration {path} is damaged: remove it, or calibrate anew with "
            "`similarity localize --calibrate SOURCE`"
        ) from error


def best_method(fingerprint: str, home: Path | None = None) -> str | None:
    """The method whose calibration gives most present findings a mask, or None where there is no calibration.

    All refuse alike what is not there. Of equal ones the first of `METHODS`.

    Raises:
        EncoderError: as `find_calibration`.
    """
    given: dict[str, float] = {}
    for method in METHODS:
        path = place_of(fingerprint, method, home)
        if path.is_file():
            with _opened(path) as held:  # its films, which are most of it, are left alone
                given[method] = float(json.loads(str(held["told"]))["rates"].get("present", 0.0))
    return max(given, key=lambda method: given[method], default=None)


def method_for(fingerprint: str, asked: str | None, home: Path | None = None) -> str:
    """The method that is asked for, else the `best_method`, else that which needs no training of its own.

    Raises:
        EncoderError: as `find_calibration`.
    """
    return asked or best_method(fingerprint, home) or UNTRAINED


def find_references(fingerprint: str) -> References | None:
    """The films of an encoder's calibration by any method, or None where there is none.

    Raises:
        EncoderError: the file is damaged.
    """
    for method in METHODS:
        found = find_calibration(fingerprint, method)
        if found is not None:
            return found.references
    return None


def keep(calibration: Calibration, fingerprint: str, method: str, home: Path | None = None) -> Path:
    """Write a calibration to where `find_calibration` looks, whole or not at all.

    Raises:
        ExportError: the disk does not take it.
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
    return write_whole(place_of(fingerprint, method, home), written.getvalue())


def _clipped(statistics: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.clip(statistics, -_CLIP, _CLIP)


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-np.clip(x, -40, 40)))


def _logistic(
    design: NDArray[np.float64], truth: NDArray[np.bool_], importance: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Ridge logistic regression by Newton's steps; the last column, a constant, is not shrunk."""
    damping = _RIDGE * np.eye(design.shape[1])
    damping[-1, -1] = 1e-9
    weights = np.zeros(design.shape[1])
    for _ in range(_STEPS):
        believed = _sigmoid(design @ weights)
        slope = design.T @ (importance * (truth - believed)) - damping @ weights
        bend = (design * (importance * believed * (1 - believed))[:, None]).T @ design + damping
        step = np.linalg.solve(bend, slope)
        weights = weights + step
        if np.abs(step).max() < 1e-9:
            break
    return weights
