"""Means over images with intervals by a bootstrap over subjects: a subject's images are drawn together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

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


@dataclass(frozen=True, slots=True, eq=False)
class ColumnMeans:
    """The means of C columns and of each of D bootstrap draws.

    `counts`: (C,) values that are known.
    `means`: (C,), NaN where there is none.
    `drawn`: (D, C), NaN where a draw has none.
    """

    counts: NDArray[np.int64]
    means: NDArray[np.float64]
    drawn: NDArray[np.float64]

    def at(self, column: int) -> Mean:
        """The mean of one column with its interval."""
        if not self.counts[column]:
            return Mean(0, None, None, None)
        low, high = interval95(self.drawn[:, column]) or (None, None)
        return Mean(int(self.counts[column]), float(self.means[column]), low, high)

    def mean_with(self, others: Sequence["ColumnMeans"]) -> "ColumnMeans":
        """Means over tables with equal weights: of the means, and draw by draw.

        All must have been made with the same subjects in `among`. A table without a value in a column does
        not count there: `counts` is the number of tables that do.
        """
        tables = [self, *others]
        means, drawn = (np.stack([getattr(one, name) for one in tables]) for name in ("means", "drawn"))
        known = np.isfinite(means)
        return ColumnMeans(known.sum(axis=0), _mean_of_known(means), _mean_of_known(drawn))

    def replaced_by(self, other: "ColumnMeans", columns: NDArray[np.bool_]) -> "ColumnMeans":
        """These means with some columns, (C,) bool, of another table with the same number of draws."""
        return ColumnMeans(
            np.where(columns, other.counts, self.counts),
            np.where(columns, other.means, self.means),
            np.where(columns, other.drawn, self.drawn),
        )


def column_means(
    values: NDArray[np.float64],
    subjects: Sequence[str],
    *,
    among: Sequence[str] | None = None,
    seed: int = 0,
    draws: int = BOOTSTRAP_DRAWS,
) -> ColumnMeans:
    """Return the mean of every column, and of every column in each draw of subjects.

    Args:
        values: (n, C); NaN is skipped.
        subjects: (n,) of each row.
        among: the subjects that are drawn, those of `subjects` among them; None: those of `subjects`. Tables
            of the same subjects and seed have the same draws. Without subjects no mean is known.
        seed: of the draws.
        draws: D.
    """
    drawn_subjects = np.unique(np.array(list(subjects if among is None else among), dtype=str))
    rows = np.searchsorted(drawn_subjects, np.array(list(subjects), dtype=str))
    known = np.isfinite(values)
    sums, counts = (np.zeros((len(drawn_subjects), values.shape[1])) for _ in range(2))
    np.add.at(sums, rows, np.where(known, values, 0.0))
    np.add.at(counts, rows, known.astype(np.float64))
    drawn = draw_subjects(drawn_subjects, draws, seed) if len(drawn_subjects) else np.zeros((draws, 0))
    total = counts.sum(axis=0)
    return ColumnMeans(
        total.astype(np.int64), _ratio(sums.sum(axis=0), total), _ratio(drawn @ sums, drawn @ counts)
    )


def _ratio(sums: NDArray[np.float64], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    ratio: NDArray[np.float64] = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
    return ratio


def _mean_of_known(stacked: NDArray[np.float64]) -> NDArray[np.float64]:
    known = np.isfinite(stacked)
    return _ratio(np.where(known, stacked, 0.0).sum(axis=0), known.sum(axis=0).astype(np.float64))


def show_mean(mean: Mapping[str, Any]) -> str:
    """`0.71 (0.65 … 0.77)` for a result of `Mean.as_json`; a dash where there is no mean."""
    if mean["mean"] is None:
        return "–"
    low, high = mean["ci95"]
    return f"{mean['mean']:.2f} ({low:.2f} … {high:.2f})"
