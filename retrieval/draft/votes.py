"""From what neighbours show to how likely this picture shows it.

A share of neighbours is no probability: half of all reports may be normal, and likeness tells some findings
better than others. What a share is worth is learned from the index's own films (`similarity index
calibrate`): each is asked about as if it were new, its own person left out, and a logistic regression over
all findings turns how much more often its neighbours show a finding than everyone does (the lift, a log
ratio) into how often it was there. The weights of the lifts are shared by the findings; a finding brings
its own frequency, as an offset. With some hundred films, weights of each finding's own would learn the
noise.

Where no film could be learned from, a share counts as it is, and only what nearly all neighbours show passes.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corpus.findings import NO_FINDING, VOCABULARY, Status
from indexer.index import Index
from indexer.vectors.filters import Condition
from retrieval.draft.neighbours import KINDS, VOTERS, Kind, Neighbour, agreeing, nearest, shares

SIDES: tuple[Status, ...] = (Status.PRESENT, Status.ABSENT)
FEWEST_AGREEING = 2
"""A finding that fewer neighbours show is not voted for, however frequent it is elsewhere."""
SURE_OF_ABSENCE = 0.9
"""How likely an absence is at least that is stated: a missed finding costs more than a missing sentence."""
UNCALIBRATED = 0.8
"""The share of neighbours that passes where nothing was calibrated."""
FEWEST_FILMS = 30
"""Fewer films than this calibrate nothing."""

_PSEUDO = 4.0  # neighbours' worth of everyone's frequency, mixed into a share before its logarithm
_DAMPING = 1.0  # of the regression's weights: a prior of one unit of variance


@dataclass(frozen=True, slots=True)
class Vote:
    """What the neighbours make of one finding on this picture.

    `probability`: that it is `status`, in [0, 1]. `agree` of `voters` neighbours say so. `stated`: it passes.
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
class Scale:
    """What lifts are worth for one status. `weights`: of a constant, then of each kind's lift (1 + kinds,).

    `frequency`: finding → how often the calibrating films have this status. `gate`: the least probability
    that is stated.
    """

    weights: tuple[float, ...]
    frequency: Mapping[str, float]
    gate: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """How votes are read in one index. `everyone`: kind → status → finding → its share of all studies.

    `films`: how many taught it.
    """

    scales: Mapping[Status, Scale]
    everyone: Mapping[Kind, Mapping[Status, Mapping[str, float]]]
    films: int

    def as_json(self) -> dict[str, Any]:
        """As the catalog keeps it."""
        return {
            "films": self.films,
            "scales": {
                s.value: {"weights": list(c.weights), "frequency": dict(c.frequency), "gate": c.gate}
                for s, c in self.scales.items()
            },
            "everyone": {
                kind: {s.value: dict(of) for s, of in told.items()} for kind, told in self.everyone.items()
            },
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> "Calibration":
        """Read what `as_json` wrote."""
        scales = {
            Status(s): Scale(tuple(c["weights"]), c["frequency"], c["gate"])
            for s, c in told["scales"].items()
        }
        everyone: dict[Kind, Mapping[Status, Mapping[str, float]]] = {
            kind: {Status(s): of for s, of in told["everyone"][kind].items()} for kind in KINDS
        }
        return cls(scales, everyone, told["films"])


@dataclass(frozen=True, slots=True)
class Ballot:
    """The neighbours of one film, by kind, nearest first."""

    neighbours: Mapping[Kind, Sequence[Neighbour]]

    def lifts(
        self, status: Status, everyone: Mapping[Kind, Mapping[Status, Mapping[str, float]]]
    ) -> NDArray[np.float64]:
        """How much more often the neighbours have each finding than everyone has, (findings, kinds), log
        ratio.
        """
        columns = []
        for kind in KINDS:
            near = self.neighbours.get(kind, ())
            if not near:
                columns.append(np.zeros(len(NAMES)))
                continue
            told = shares(near, status, NAMES)
            base = np.array([everyone[kind][status].get(name, 0.0) for name in NAMES]) + 1e-3
            share = np.array([told[name] for name in NAMES])
            mixed = (share * len(near) + _PSEUDO * base) / (len(near) + _PSEUDO)
            columns.append(np.log(mixed / base))
        return np.stack(columns, axis=1)

    def count(self, status: Status, name: str) -> tuple[int, int]:
        """How many neighbours give the finding this status, and how many there are."""
        near = [neighbour for kind in KINDS for neighbour in self.neighbours.get(kind, ())]
        return agreeing(near, status, name), len(near)


NAMES = VOCABULARY.names
"""What is voted on: every finding of the vocabulary, `no_finding` among them."""


def gather(
    index: Index,
    vector: NDArray[np.float32],
    k: int = VOTERS,
    *,
    subjects: Collection[str] = (),
    where: Condition | None = None,
) -> Ballot:
    """The neighbours that vote on a picture with this vector: k by their films, k by their reports."""
    return Ballot({kind: nearest(index, kind, vector, k, subjects=subjects, where=where) for kind in KINDS})


def load_votes(index: Index) -> Calibration | None:
    """What votes are worth in the active version; None where it was not calibrated."""
    return index.calibrations.read(index.active_version.fingerprint, "votes", Calibration.from_json)


def vote(ballot: Ballot, calibration: Calibration | None) -> list[Vote]:
    """Read the votes on every finding, present and absent, in the vocabulary's order."""
    votes = []
    for status in SIDES:
        likely, gate = _probabilities(ballot, status, calibration)
        for name, probability in zip(NAMES, likely, strict=True):
            agree, voters = ballot.count(status, name)
            # That a film is normal denies everything.
            bar = max(gate, SURE_OF_ABSENCE) if name == NO_FINDING and calibration is not None else gate
            stated = probability >= bar and agree >= FEWEST_AGREEING
            votes.append(Vote(name, status, float(probability), agree, voters, bool(stated)))
    return votes


def calibrate(
    ballots: Sequence[Ballot],
    truths: Sequence[Mapping[str, Status]],
    everyone: Mapping[Kind, Mapping[Status, Mapping[str, float]]],
) -> Calibration | None:
    """Learn what votes are worth, from films whose findings are known; None from fewer than `FEWEST_FILMS`.

    A film that says nothing of a finding counts as one without it, for presence and for absence alike: so an
    absence is stated only where films of this kind are truly called free of it.
    """
    if len(ballots) < FEWEST_FILMS:
        return None
    scales = {}
    for status in SIDES:
        lifts = np.stack([ballot.lifts(status, everyone) for ballot in ballots])
        held = np.array([[truth.get(name) is status for name in NAMES] for truth in truths])
        frequency = (held.sum(axis=0) + 0.5) / (len(held) + 1)
        offset = np.broadcast_to(np.log(frequency / (1 - frequency)), held.shape)
        features = np.concatenate([np.ones((*held.shape, 1)), lifts], axis=2)
        weights = _regress(features.reshape(-1, features.shape[2]), held.reshape(-1), offset.reshape(-1))
        likely = _sigmoid(features @ weights + offset)
        gate = _best_gate(likely, held) if status is Status.PRESENT else SURE_OF_ABSENCE
        known = dict(zip(NAMES, map(float, frequency), strict=True))
        scales[status] = Scale(tuple(map(float, weights)), known, gate)
    return Calibration(scales, everyone, len(ballots))


def _probabilities(
    ballot: Ballot, status: Status, calibration: Calibration | None
) -> tuple[NDArray[np.float64], float]:
    if calibration is None:
        near = [neighbour for kind in KINDS for neighbour in ballot.neighbours.get(kind, ())]
        told = shares(near, status, NAMES)
        return np.array([told[name] for name in NAMES]), UNCALIBRATED
    scale = calibration.scales[status]
    lifts = ballot.lifts(status, calibration.everyone)
    frequency = np.array([scale.frequency.get(name, 1e-3) for name in NAMES])
    logits = np.log(frequency / (1 - frequency)) + scale.weights[0] + lifts @ np.array(scale.weights[1:])
    return _sigmoid(logits), scale.gate


def _regress(
    features: NDArray[np.float64], held: NDArray[np.bool_], offset: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Damped logistic regression with an offset, by Newton's method. Weights (features,)."""
    weights = np.zeros(features.shape[1])
    for _ in range(25):
        likely = _sigmoid(features @ weights + offset)
        gradient = features.T @ (likely - held) + _DAMPING * weights
        spread = likely * (1 - likely)
        hessian = (features * spread[:, None]).T @ features + _DAMPING * np.eye(len(weights))
        step = np.linalg.solve(hessian, gradient)
        weights = weights - step
        if np.abs(step).max() < 1e-9:
            break
    return weights


def _best_gate(likely: NDArray[np.float64], held: NDArray[np.bool_]) -> float:
    """The gate under which findings were best: half of the highest F1 that any gate reaches.

    Where probabilities are calibrated, F1 is highest when everything above half of that highest F1 is stated
    (Lipton, Elkan and Naryanaswamy, ECML 2014).
    """
    leaves = [NAMES.index(name) for name in VOCABULARY.leaves]
    order = np.argsort(-likely[:, leaves].reshape(-1), kind="stable")
    right = np.cumsum(held[:, leaves].reshape(-1)[order])
    f1 = 2 * right / (np.arange(1, len(order) + 1) + max(int(right[-1]), 1))
    return float(np.clip(f1.max() / 2, 0.05, 0.5))


def _sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(logits, -30, 30))))
