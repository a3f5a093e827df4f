"""Comparison of two encoders on the same queries by a paired bootstrap over subjects.

Each draw gives a subject the same weight for both encoders, so that the difficulty of a subject cancels out
of the difference (Efron and Tibshirani, An Introduction to the Bootstrap, 1993).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corpus.statistics import BOOTSTRAP_DRAWS, draw_subjects, interval95
from trainer.evaluation.metrics import Scored, Task, average, ideal_gains, pool, same_queries
from trainer.evaluation.ranking import Ranking
from trainer.evaluation.scoring import HEADLINE

_TIE = 1e-12  # rounding error of sums in another order


@dataclass(frozen=True, slots=True)
class Difference:
    """One metric of two methods. A value is None where the metric could not be measured.

    `first`, `second`: the metric of each method.
    `difference`: `first` − `second`. `ci95`: its interval over the draws.
    `first_better`: share of draws with a difference above 0; a tie counts half.
    """

    first: float | None
    second: float | None
    difference: float | None
    ci95: tuple[float, float] | None
    first_better: float | None


def score_runs(tasks: Sequence[Task], runs: Sequence[Sequence[Ranking]]) -> Scored:
    """Score a method that was run several times.

    Args:
        tasks: the retrieval tasks; several where queries have different galleries (folds): they are pooled.
        runs: for each run (a training seed) one ranking per task, in the order of `tasks`; scores are
            averaged query by query.
    """
    ideals = [ideal_gains(task) for task in tasks]
    return average(
        [
            pool(
                [
                    Scored.of(ranking, task, ideal)
                    for ranking, task, ideal in zip(run, tasks, ideals, strict=True)
                ]
            )
            for run in runs
        ]
    )


def paired_bootstrap(
    first: Scored,
    second: Scored,
    *,
    draws: int = BOOTSTRAP_DRAWS,
    seed: int = 0,
    metrics: Sequence[str] = tuple(HEADLINE.values()),
) -> dict[str, Difference]:
    """Compare two methods on the same queries.

    Args:
        first: the first method's contributions, from `score_runs` or `Scored.of`.
        second: the second method's.
        draws: bootstrap draws.
        seed: of the draws; `score_ranking` draws the same subjects under the same seed.
        metrics: names of the metrics, as in `metrics.add_up`.

    Returns:
        Metric → difference.

    Raises:
        ValueError: the queries of the two differ.
    """
    if not same_queries(first, second):
        raise ValueError("the two did not answer the same queries: a paired comparison needs the same")
    weights = draw_subjects(first.subjects, draws, seed)
    (a, a_drawn), (b, b_drawn) = ((side.metrics(), side.metrics(weights)) for side in (first, second))
    return {
        name: _difference(float(a[name][0]), float(b[name][0]), a_drawn[name] - b_drawn[name])
        for name in metrics
    }


def _difference(first: float, second: float, drawn: NDArray[np.float64]) -> Difference:
    bounds = interval95(drawn)
    measured = drawn[np.isfinite(drawn)]
    if bounds is None or not np.isfinite(first - second):
        return Difference(None, None, None, None, None)
    better = float(np.mean((measured > _TIE) + 0.5 * (np.abs(measured) <= _TIE)))
    return Difference(first, second, first - second, (bounds[0], bounds[1]), better)


def describe_differences(differences: Mapping[str, Difference]) -> dict[str, Any]:
    """The differences of the `HEADLINE` metrics as in `evaluate --json`.

    The first method is the encoder, the second the one that it is compared with.
    """
    return {
        name: {
            "encoder": entry.first,
            "against": entry.second,
            "difference": entry.difference,
            "ci95": None if entry.ci95 is None else list(entry.ci95),
            "encoder_better": entry.first_better,
        }
        for name, entry in ((name, differences[metric]) for name, metric in HEADLINE.items())
    }
