"""Means over images with intervals by a bootstrap over subjects: a subject's images are drawn together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from corpus.statistics import BOOTSTRAP_DRAWS, draw_subjects, interval95


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over `count` values and its 95 % interval; None where there is nothing to average."""

    count: int
    value: float | None
    low: float | None
    high: float | None

    def as_json(self) -> dict[str, Any]:
        """`{"count", "mean", "ci95"}`."""
        ci95 = None if self.low is None or self.high is None else [round(self.low, 6), round(self.high, 6)]
        return {
            "count": self.count,
            "mean": None if self.value is None else round(self.value, 6),
            "ci95": ci95,
        }


def mean_over(
    values: Sequence[float | bool | None],
    subjects: Sequence[str],
    *,
    seed: int = 0,
    draws: int = BOOTSTRAP_DRAWS,
) -> Mean:
    """Return the mean of values and its interval by a bootstrap over subjects.

    Args:
        values: one per image; None is skipped.
        subjects: of each value.
        seed: of the draws.
        draws: times that subjects are drawn with replacement.
    """
    known = [(float(v), s) for v, s in zip(values, subjects, strict=True) if v is not None]
    if not known:
        return Mean(0, None, None, None)
    each, of_subject = np.array([value for value, _ in known]), np.array([subject for _, subject in known])
    _, rows = np.unique(of_subject, return_inverse=True)
    sums, counts = np.bincount(rows, weights=each), np.bincount(rows)
    drawn = draw_subjects(of_subject, draws, seed)
    low, high = interval95((drawn @ sums) / (drawn @ counts)) or (None, None)
    return Mean(len(known), float(sums.sum() / counts.sum()), low, high)


def show_mean(mean: Mapping[str, Any]) -> str:
    """`0.71 (0.65 … 0.77)` for a result of `Mean.as_json`; a dash where there is no mean."""
    if mean["mean"] is None:
        return "–"
    low, high = mean["ci95"]
    return f"{mean['mean']:.2f} ({low:.2f} … {high:.2f})"
