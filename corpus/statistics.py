"""Statistics that every layer uses: bootstrap over subjects, ridge logistic regression, unit rows."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BOOTSTRAP_DRAWS = 1000


def draw_subjects(subjects: NDArray[Any], draws: int, seed: int) -> Floats:
    """Draw subjects with replacement, as many as there are: the bootstrap of clustered data.

    All items of a subject are drawn together, so that intervals do not take them for independent
    (Efron and Tibshirani, An Introduction to the Bootstrap, 1993). The same subjects and seed give the same
    draws: two methods can be compared draw by draw.

    Args:
        subjects: (n,) the subject of each item.
        draws: D.
        seed: of the draws.

    Returns:
        (D, S) how often each of the S distinct subjects, in sorted order, is in a draw.
    """
    count = len(np.unique(subjects))
    generator = np.random.default_rng(seed)
    return generator.multinomial(count, np.full(count, 1.0 / count), size=draws).astype(np.float64)


def interval95(values: Floats) -> list[float] | None:
    """Return the 2.5th and 97.5th percentile of bootstrap draws; None if no draw is finite.

    Args:
        values: (D,) a statistic of each draw; NaN where a draw had nothing to measure.
    """
    measured = values[np.isfinite(values)]
    if not len(measured):
        return None
    return [float(bound) for bound in np.percentile(measured, [2.5, 97.5])]


def ridge_logistic_regression(
    features: Floats,
    positive: NDArray[np.bool_],
    *,
    ridge: float | Floats,
    importance: Floats | None = None,
    offset: Floats | None = None,
) -> Floats:
    """Fit a logistic regression with an L2 penalty.

    Minimises Σᵢ importanceᵢ · logloss(positiveᵢ, featuresᵢ · w + offsetᵢ) + ½ Σⱼ ridgeⱼ · wⱼ² by L-BFGS; the
    problem is convex. An intercept is a column of ones with a ridge of 0.

    Args:
        features: (n, F).
        positive: (n,).
        ridge: penalty of each weight, (F,) or one for all; 0 leaves a weight free.
        importance: (n,) weight of each row; None: 1.
        offset: (n,) added to the logits; None: 0.

    Returns:
        w, (F,).
    """
    from scipy.optimize import minimize  # late: half of the time that a search takes to start

    penalty = np.broadcast_to(np.asarray(ridge, dtype=np.float64), features.shape[1:])
    rows = np.ones(len(features)) if importance is None else importance
    shift = np.zeros(len(features)) if offset is None else offset
    sign = np.where(positive, 1.0, -1.0)
    # Steps of one size for every weight: a logistic loss curves by at most a quarter along a feature.
    scale = 1.0 / np.sqrt(0.25 * (rows[:, None] * features**2).sum(axis=0) + penalty + 1e-300)

    def loss(scaled: Floats) -> tuple[float, Floats]:
        weights = scale * scaled
        margin = sign * (features @ weights + shift)
        value = float(rows @ np.logaddexp(0.0, -margin) + 0.5 * penalty @ weights**2)
        slope = features.T @ (-rows * sign * sigmoid(-margin)) + penalty * weights
        return value, scale * slope

    found = minimize(
        loss,
        np.zeros(features.shape[1]),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 2000, "maxfun": 4000, "ftol": 1e-16, "gtol": 1e-10},
    )
    weights: Floats = scale * found.x
    return weights


def sigmoid(logits: Floats) -> Floats:
    """Return 1 / (1 + exp(-x)) without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits)))


def unit_rows(rows: NDArray[Any]) -> NDArray[Any]:
    """Return rows of length 1, in the dtype given; a row of zeros stays zeros.

    Args:
        rows: (..., dim) floats.
    """
    length = np.linalg.norm(rows, axis=-1, keepdims=True)
    units: NDArray[Any] = np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)
    return units
