"""Means over pictures with intervals by a bootstrap over people: films of one person are drawn together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

DRAWS = 1000


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
    values: Sequence[float | bool | None], subjects: Sequence[str], *, seed: int = 0, draws: int = DRAWS
) -> Mean:
    """Average values, and bootstrap over the people they are of.

    Args:
        values: one a picture; None is left out.
        subjects: whose each value is.
        seed: of the draws.
        draws: how often people are drawn with replacement.
    """
    kept = [(float(v), s) for v, s in zip(values, subjects, strict=True) if v is not None]
    if not kept:
        return Mean(0, None, None, None)
    people = {subject: place for place, subject in enumerate(dict.fromkeys(s for _, s in kept))}
    sums, counts = np.zeros(len(people)), np.zeros(len(people))
    for value, subject in kept:
        sums[people[subject]] += value
        counts[people[subject]] += 1
    random = np.random.default_rng(seed)
    drawn = random.multinomial(len(people), np.full(len(people), 1 / len(people)), size=draws)
    means = (drawn @ sums) / (drawn @ counts)
    low, high = np.quantile(means, [0.025, 0.975])
    return Mean(len(kept), float(sums.sum() / counts.sum()), float(low), float(high))


def show_mean(mean: Mapping[str, Any]) -> str:
    """`0.71 (0.65 … 0.77)` of what `Mean.as_json` gives; a dash where there is nothing."""
    if mean["mean"] is None:
        return "–"
    low, high = mean["ci95"]
    return f"{mean['mean']:.2f} ({low:.2f} … {high:.2f})"
