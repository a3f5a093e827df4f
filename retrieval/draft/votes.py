"""Votes: the probability of each finding in an image, from the findings of its neighbours.

A share of neighbours is no probability: half of all reports may be normal, and similarity separates some
findings better than others. Votes are calibrated on the index's own images ("similarity index calibrate"):
each is treated as new, with its own subject excluded, and a logistic regression over all findings maps the
lift (the log ratio of the finding's share among the neighbours and among all studies) to the finding's
frequency. The findings share the weights of the lifts; a finding's own frequency is an offset. With some
hundred images, separate weights of each finding would fit the noise.

Without calibration a share is taken as the probability, and only findings of nearly all neighbours are
stated.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corpus.findings import NO_FINDING, VOCABULARY, Status
from corpus.statistics import ridge_logistic_regression, sigmoid
from indexer.index import Index
from indexer.vectors.filters import Condition
from retrieval.draft.neighbours import KINDS, VOTERS, Kind, Neighbour, agreeing, nearest, shares
from retrieval.reliability.own_images import OwnImage

NAMES = VOCABULARY.names
"""The findings that are voted on: all of the vocabulary, `no_finding` among them."""
VOTED_STATUSES: tuple[Status, ...] = (Status.PRESENT, Status.ABSENT)
FEWEST_AGREEING = 2
"""A finding of fewer neighbours is not stated, however frequent it is elsewhere."""
SURE_OF_ABSENCE = 0.9
"""The probability from which an absence is stated: a missed finding costs more than a missing sentence."""
UNCALIBRATED = 0.8
"""The share of neighbours from which a finding is stated without calibration."""
MIN_CALIBRATION_IMAGES = 30
"""Images that a calibration needs."""

_PSEUDO_COUNT = 4.0  # neighbours with the overall frequency, added to a share before its logarithm
_RIDGE = 1.0  # of the regression's weights: a prior of one unit of variance


@dataclass(frozen=True, slots=True)
class Vote:
    """The vote on one status of one finding.

    `probability`: of the status in this image, in [0, 1].
    `agree`: neighbours with this status, of `voters`.
    `stated`: the probability passes the threshold.
    """

    finding: str
    status: Status
    probability: float
    agree: int
    voters: int
    stated: bool

    def as_json(self) -> dict[str, Any]:
        """The contract's form."""
        return {
            "finding": self.finding,
            "status": self.status.value,
            "probability": round(self.probability, 4),
            "agree": self.agree,
            "of": self.voters,
        }


@dataclass(frozen=True, slots=True)
class StatusCalibration:
    """The regression of one status.

    `weights`: (1 + kinds,) of a constant, then of each kind's lift.
    `frequency`: finding → share of the calibration's images with this status.
    `threshold`: the probability from which it is stated.
    """

    weights: tuple[float, ...]
    frequency: Mapping[str, float]
    threshold: float


@dataclass(frozen=True, slots=True)
class VoteCalibration:
    """The calibration of votes in one index.

    `statuses`: status → regression.
    `everyone`: kind → status → finding → its share of all studies.
    `images`: the number of images that it was fitted on.
    """

    statuses: Mapping[Status, StatusCalibration]
    everyone: Mapping[Kind, Mapping[Status, Mapping[str, float]]]
    images: int

    def as_json(self) -> dict[str, Any]:
        """The form in the catalog."""
        return {
            "films": self.images,
            "scales": {
                s.value: {"weights": list(c.weights), "frequency": dict(c.frequency), "gate": c.threshold}
                for s, c in self.statuses.items()
            },
            "everyone": {
                kind: {s.value: dict(of) for s, of in shares.items()}
                for kind, shares in self.everyone.items()
            },
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "VoteCalibration":
        """Read what `as_json` wrote."""
        statuses = {
            Status(s): StatusCalibration(tuple(c["weights"]), c["frequency"], c["gate"])
            for s, c in record["scales"].items()
        }
        everyone: dict[Kind, Mapping[Status, Mapping[str, float]]] = {
            kind: {Status(s): of for s, of in record["everyone"][kind].items()} for kind in KINDS
        }
        return cls(statuses, everyone, record["films"])


@dataclass(frozen=True, slots=True)
class Ballot:
    """The neighbours of one image, by kind, nearest first."""

    neighbours: Mapping[Kind, Sequence[Neighbour]]

    def lifts(
        self, status: Status, everyone: Mapping[Kind, Mapping[Status, Mapping[str, float]]]
    ) -> NDArray[np.float64]:
        """(findings, kinds) log ratios of each finding's share among the neighbours and among all studies."""
        columns = []
        for kind in KINDS:
            near = self.neighbours.get(kind, ())
            if not near:
                columns.append(np.zeros(len(NAMES)))
                continue
            by_name = shares(near, status, NAMES)
            base = np.array([everyone[kind][status].get(name, 0.0) for name in NAMES]) + 1e-3
            share = np.array([by_name[name] for name in NAMES])
            mixed = (share * len(near) + _PSEUDO_COUNT * base) / (len(near) + _PSEUDO_COUNT)
            columns.append(np.log(mixed / base))
        return np.stack(columns, axis=1)

    def count(self, status: Status, name: str) -> tuple[int, int]:
        """The number of neighbours that give the finding this status, and of all."""
        near = [neighbour for kind in KINDS for neighbour in self.neighbours.get(kind, ())]
        return agreeing(near, status, name), len(near)


def gather(
    index: Index,
    vector: NDArray[np.float32],
    k: int = VOTERS,
    *,
    subjects: Collection[str] = (),
    where: Condition | None = None,
) -> Ballot:
    """The neighbours that vote on an image with this vector: k by their images, k by their reports."""
    return Ballot({kind: nearest(index, kind, vector, k, subjects=subjects, where=where) for kind in KINDS})


def load_votes(index: Index) -> VoteCalibration | None:
    """The calibration of votes of the active version; None where it was not calibrated."""
    return index.calibrations.read(index.active_version.fingerprint, "votes", VoteCalibration.from_json)


def vote(ballot: Ballot, calibration: VoteCalibration | None) -> list[Vote]:
    """The votes on every finding, present and absent, in the vocabulary's order."""
    votes = []
    for status in VOTED_STATUSES:
        probabilities, threshold = _probabilities(ballot, status, calibration)
        for name, probability in zip(NAMES, probabilities, strict=True):
            agree, voters = ballot.count(status, name)
            # A normal image denies every finding.
            strict = name == NO_FINDING and calibration is not None
            least = max(threshold, SURE_OF_ABSENCE) if strict else threshold
            stated = probability >= least and agree >= FEWEST_AGREEING
            votes.append(Vote(name, status, float(probability), agree, voters, bool(stated)))
    return votes


def calibrate_votes(index: Index, images: Sequence[OwnImage]) -> VoteCalibration | None:
    """Fit what votes are worth, each image queried as if it were new; None where there are too few images.

    Args:
        index: that contains them.
        images: with known findings.
    """
    return fit_vote_calibration(
        [gather(index, image.vector, subjects=[image.study.subject_id]) for image in images],
        [image.study.findings for image in images],
        {kind: _prevalences(index, kind) for kind in KINDS},
    )


def fit_vote_calibration(
    ballots: Sequence[Ballot],
    truths: Sequence[Mapping[str, Status]],
    everyone: Mapping[Kind, Mapping[Status, Mapping[str, float]]],
) -> VoteCalibration | None:
    """Calibrate votes on images with known findings; None from fewer than `MIN_CALIBRATION_IMAGES`.

    An image without a status of a finding counts as one that is neither present nor absent, so that an
    absence is stated only where images of this kind are really called free of the finding.

    Args:
        ballots: of each image.
        truths: finding → status, of each image.
        everyone: kind → status → finding → its share of all studies.
    """
    if len(ballots) < MIN_CALIBRATION_IMAGES:
        return None
    statuses = {}
    for status in VOTED_STATUSES:
        lifts = np.stack([ballot.lifts(status, everyone) for ballot in ballots])
        positive = np.array([[truth.get(name) is status for name in NAMES] for truth in truths])
        frequency = (positive.sum(axis=0) + 0.5) / (len(positive) + 1)
        offset = np.broadcast_to(np.log(frequency / (1 - frequency)), positive.shape)
        features = np.concatenate([np.ones((*positive.shape, 1)), lifts], axis=2)
        weights = ridge_logistic_regression(
            features.reshape(-1, features.shape[2]),
            positive.reshape(-1),
            ridge=_RIDGE,
            offset=offset.reshape(-1),
        )
        probabilities = sigmoid(features @ weights + offset)
        threshold = _best_threshold(probabilities, positive) if status is Status.PRESENT else SURE_OF_ABSENCE
        by_name = dict(zip(NAMES, map(float, frequency), strict=True))
        statuses[status] = StatusCalibration(tuple(map(float, weights)), by_name, threshold)
    return VoteCalibration(statuses, everyone, len(ballots))


def _prevalences(index: Index, kind: Kind) -> Mapping[Status, Mapping[str, float]]:
    """Return each status's share for each finding, among studies with an item of `kind` and any finding."""
    counts = {status: dict.fromkeys(NAMES, 0) for status in VOTED_STATUSES}
    studies = 0
    for findings in index.catalog.findings_of_studies_with(kind):
        studies += bool(findings)
        for name, status in findings.items():
            if status in counts and name in counts[Status(status)]:
                counts[Status(status)][name] += 1
    return {
        status: {name: count / max(studies, 1) for name, count in of.items()} for status, of in counts.items()
    }


def _probabilities(
    ballot: Ballot, status: Status, calibration: VoteCalibration | None
) -> tuple[NDArray[np.float64], float]:
    if calibration is None:
        near = [neighbour for kind in KINDS for neighbour in ballot.neighbours.get(kind, ())]
        by_name = shares(near, status, NAMES)
        return np.array([by_name[name] for name in NAMES]), UNCALIBRATED
    fitted = calibration.statuses[status]
    lifts = ballot.lifts(status, calibration.everyone)
    frequency = np.array([fitted.frequency.get(name, 1e-3) for name in NAMES])
    logits = np.log(frequency / (1 - frequency)) + fitted.weights[0] + lifts @ np.array(fitted.weights[1:])
    return sigmoid(logits), fitted.threshold


def _best_threshold(probabilities: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """The threshold with the highest F1: half of the highest F1 of any threshold.

    Where probabilities are calibrated, F1 is highest when everything above half of that highest F1 is stated
    (Lipton, Elkan and Naryanaswamy, ECML 2014).
    """
    leaves = [NAMES.index(name) for name in VOCABULARY.leaves]
    order = np.argsort(-probabilities[:, leaves].reshape(-1), kind="stable")
    right = np.cumsum(positive[:, leaves].reshape(-1)[order])
    f1 = 2 * right / (np.arange(1, len(order) + 1) + max(int(right[-1]), 1))
    return float(np.clip(f1.max() / 2, 0.05, 0.5))
