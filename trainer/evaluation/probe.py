"""Linear probe: logistic regression of each finding on an encoder's frozen image vectors.

One L2-regularised logistic regression per finding is fitted on the images of the train split; the strength of
the regularisation is chosen on the val split. The encoder does not change.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corpus.errors import EvaluationError
from corpus.statistics import BOOTSTRAP_DRAWS, ridge_logistic_regression
from trainer.evaluation.auroc import auroc
from trainer.evaluation.gallery import Encoded
from trainer.evaluation.labels import CLASSES
from trainer.evaluation.metrics import MIN_QUERIES
from trainer.evaluation.scoring import Contrasts, score_classes

STRENGTHS = (100.0, 10.0, 1.0, 0.1, 0.01, 0.001)
"""Strengths of the L2 regularisation over standardised features, the strongest first."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A fitted probe.

    `mean`, `scale`: (dim,) of the train split's vectors.
    `weights`, `bias`: (dim, C) and (C,) float64 over `CLASSES`; NaN for a class with too few training images.
    `strength`: of the regularisation.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    weights: NDArray[np.float64]
    bias: NDArray[np.float64]
    strength: float

    def scores(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """(n, dim) image vectors → (n, C) log-odds."""
        scores: NDArray[np.float64] = ((vectors - self.mean) / self.scale) @ self.weights + self.bias
        return scores


def train_probe(train: Encoded, val: Encoded) -> Probe:
    """Fit a probe.

    Positive images of a finding have it; negative ones are absent, normal or unmentioned (as lift compares);
    uncertain ones are excluded. All findings share one strength: the one with the highest mean AUROC on
    `val`, the stronger one of a tie.

    Args:
        train: images of the train split; classes with ten positive and ten negative images are learned.
        val: images of other subjects, to choose the strength.

    Raises:
        EvaluationError: no class has enough training images, or `val` has no class with both positive and
            negative images.
    """
    contrasts = _contrasts(train)
    without = contrasts.absent | contrasts.others
    enough = np.minimum(contrasts.present.sum(axis=0), without.sum(axis=0)) >= MIN_QUERIES
    if not enough.any():
        raise EvaluationError(
            f"no finding is shown by {MIN_QUERIES} of the {len(train.items)} images of the train split and "
            f"not by {MIN_QUERIES} others: there is nothing to probe with; leave out --probe"
        )
    mean, spread = train.vectors.mean(axis=0, dtype=np.float64), train.vectors.std(axis=0, dtype=np.float64)
    scale = np.where(spread > 0, spread, 1.0)
    features = (train.vectors - mean) / scale
    best: tuple[float, Probe] | None = None
    for strength in STRENGTHS:
        weights, bias = np.full((features.shape[1], len(CLASSES)), np.nan), np.full(len(CLASSES), np.nan)
        weights[:, enough], bias[enough] = fit_logistic(
            features, contrasts.present[:, enough], without[:, enough], strength
        )
        probe = Probe(mean, scale, weights, bias, strength)
        area = _mean_auroc(probe, val)
        if best is None or area > best[0]:
            best = area, probe
    assert best is not None
    return best[1]


def fit_logistic(
    features: NDArray[np.float64],
    positive: NDArray[np.bool_],
    negative: NDArray[np.bool_],
    strength: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fit one L2-regularised logistic regression per column, by L-BFGS on all rows at once.

    Minimises in each column mean log loss + strength / 2 · |weights|²; the bias is not regularised.

    Args:
        features: (n, dim).
        positive: (n, C) bool, rows of the column's class.
        negative: (n, C) bool, rows of other classes; a row in neither is excluded from that column.
        strength: above 0.

    Returns:
        Weights (dim, C) and bias (C,).
    """
    design = np.column_stack([features, np.ones(len(features))])
    ridge = np.array([strength] * features.shape[1] + [0.0])  # the bias is free
    fitted = np.empty((design.shape[1], positive.shape[1]))
    for column in range(positive.shape[1]):
        counted = positive[:, column] | negative[:, column]
        fitted[:, column] = ridge_logistic_regression(
            design[counted],
            positive[counted, column],
            ridge=ridge,
            importance=np.full(int(counted.sum()), 1.0 / counted.sum()),
        )
    return fitted[:-1], fitted[-1]


def score_probe(
    probe: Probe, images: Encoded, *, seed: int = 0, draws: int = BOOTSTRAP_DRAWS
) -> dict[str, Any]:
    """Score a probe on images of held-out subjects.

    Returns:
        "pictures", "strength" and the result of `scoring.score_classes`; a class that was not learned has
        no AUROC.
    """
    subjects = np.array([item.study.subject_id for item in images.items])
    scores = probe.scores(images.vectors)
    return {
        "pictures": len(images.items),
        "strength": probe.strength,
        **score_classes(scores, _contrasts(images), subjects, seed=seed, draws=draws),
    }


def _contrasts(images: Encoded) -> Contrasts:
    return Contrasts.of([item.statuses for item in images.items])


def _mean_auroc(probe: Probe, images: Encoded) -> float:
    """The mean AUROC over the learned classes, positive against negative images."""
    contrasts = _contrasts(images)
    scores = probe.scores(images.vectors)
    areas = []
    for column in np.flatnonzero(np.isfinite(probe.bias)):
        present = contrasts.present[:, column]
        chosen = present | contrasts.absent[:, column] | contrasts.others[:, column]
        areas.append(auroc(scores[chosen, column], present[chosen])[0])
    measured = np.array(areas)[np.isfinite(areas)]
    if not len(measured):
        raise EvaluationError(
            f"none of the {len(images.items)} images of the val split shows a learned finding beside "
            "images without it: the probe's regularisation cannot be chosen; leave out --probe"
        )
    return float(measured.mean())
