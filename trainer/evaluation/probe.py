"""Linear probe: how much of each finding can be read off an encoder's frozen picture vectors?

One logistic regression a finding, L2-regularised, fitted on the pictures of the train split; how strongly it
is damped is chosen on the val split. Nothing of the encoder changes.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from corpus.errors import EvaluationError
from trainer.evaluation.auroc import auroc
from trainer.evaluation.gallery import Encoded
from trainer.evaluation.labels import CLASSES
from trainer.evaluation.metrics import MIN_QUERIES
from trainer.evaluation.scoring import BOOTSTRAP_DRAWS, Contrasts, score_classes

STRENGTHS = (100.0, 10.0, 1.0, 0.1, 0.01, 0.001)
"""How strongly the squared weights are damped, over standardised features; the strongest is tried first."""

_MOST_STEPS = 300


@dataclass(frozen=True, slots=True)
class Probe:
    """A fitted probe.

    `mean`, `scale` (dim,): of the train split's vectors. `weights` (dim, C) and `bias` (C,) over `CLASSES`,
    float64; NaN for a class that the train split has too few pictures of.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    weights: NDArray[np.float64]
    bias: NDArray[np.float64]
    strength: float

    def scores(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """(n, dim) picture vectors → (n, C) log-odds."""
        scores: NDArray[np.float64] = ((vectors - self.mean) / self.scale) @ self.weights + self.bias
        return scores


def train_probe(train: Encoded, val: Encoded) -> Probe:
    """Fit a probe.

    A finding is learned from the pictures that show it against those that do not: absent, normal, or
    not mentioned (as lift compares); uncertain ones are left out. One damping serves all findings: the one
    with the highest mean AUROC on `val`, the stronger of equals.

    Args:
        train: pictures of the train split; classes with ten pictures on either side are learned.
        val: pictures of other people, to choose the damping by.

    Raises:
        EvaluationError: no class has enough pictures to learn from, or `val` shows none beside pictures
            without it.
    """
    contrasts = _contrasts(train)
    without = contrasts.absent | contrasts.others
    enough = np.minimum(contrasts.present.sum(axis=0), without.sum(axis=0)) >= MIN_QUERIES
    if not enough.any():
        raise EvaluationError(
            f"no finding is shown by {MIN_QUERIES} of the {len(train.items)} pictures of the train split and "
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
    """Fit one L2-regularised logistic regression a column, by L-BFGS on all rows at once.

    Minimises, column by column, mean log loss + strength / 2 · |weights|²; the bias is not damped.

    Args:
        features: (n, dim).
        positive: (n, C) rows that are of the column's class.
        negative: (n, C) rows that are not; a row in neither is left out of that column.
        strength: above 0.

    Returns:
        Weights (dim, C) and bias (C,).
    """
    x = torch.from_numpy(np.ascontiguousarray(features))
    y = torch.from_numpy(positive.astype(np.float64))
    counted = torch.from_numpy((positive | negative).astype(np.float64))
    share = counted / counted.sum(dim=0)
    # In steps that are of one size for weights and bias, however strong the damping: the curvature along a
    # standardised feature is at most a quarter, and the damping comes on top.
    size = (0.25 + strength) ** -0.5
    scaled = torch.zeros(features.shape[1], positive.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(positive.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [scaled, bias],
        max_iter=_MOST_STEPS,
        tolerance_grad=1e-7,
        tolerance_change=1e-15,
        line_search_fn="strong_wolfe",
    )

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        weights = size * scaled
        loss = (share * F.binary_cross_entropy_with_logits(x @ weights + bias, y, reduction="none")).sum()
        damped: torch.Tensor = loss + strength / 2 * weights.square().sum()
        damped.backward()  # type: ignore[no-untyped-call]
        return damped

    optimizer.step(step)  # type: ignore[no-untyped-call]
    return (size * scaled).detach().numpy(), bias.detach().numpy()


def score_probe(
    probe: Probe, pictures: Encoded, *, seed: int = 0, draws: int = BOOTSTRAP_DRAWS
) -> dict[str, Any]:
    """Score a probe on pictures of people it has not learned from.

    Returns:
        `pictures`, `strength` and the result of `scoring.score_classes`; a class that was not learned has
        no AUROC.
    """
    subjects = np.array([item.study.subject_id for item in pictures.items])
    scores = probe.scores(pictures.vectors)
    return {
        "pictures": len(pictures.items),
        "strength": probe.strength,
        **score_classes(scores, _contrasts(pictures), subjects, seed=seed, draws=draws),
    }


def _contrasts(pictures: Encoded) -> Contrasts:
    return Contrasts.of([item.statuses for item in pictures.items])


def _mean_auroc(probe: Probe, pictures: Encoded) -> float:
    """The mean over the learned classes that the pictures show, against all pictures without them."""
    contrasts = _contrasts(pictures)
    scores = probe.scores(pictures.vectors)
    areas = []
    for column in np.flatnonzero(np.isfinite(probe.bias)):
        present = contrasts.present[:, column]
        chosen = present | contrasts.absent[:, column] | contrasts.others[:, column]
        areas.append(auroc(scores[chosen, column], present[chosen])[0])
    measured = np.array(areas)[np.isfinite(areas)]
    if not len(measured):
        raise EvaluationError(
            f"none of the {len(pictures.items)} pictures of the val split shows a learned finding beside "
            "pictures without it: the probe's damping cannot be chosen; leave out --probe"
        )
    return float(measured.mean())
