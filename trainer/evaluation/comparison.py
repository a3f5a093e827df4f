"""Is one encoder better than another? Their metrics on the same queries, and a paired bootstrap over people.

Each draw weighs the people of both alike, so what makes a person easy or hard for both leaves the difference
(Efron and Tibshirani, An Introduction to the Bootstrap, 1993).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.evaluation.metrics import Scored, Task, average, draw_people, ideal_gains, pool, same_queries
from trainer.evaluation.ranking import Ranking
from trainer.evaluation.scoring import BOOTSTRAP_DRAWS, HEADLINE, interval

_TIE = 1e-12  # sums in another order differ by this much and mean nothing


@dataclass(frozen=True, slots=True)
class Difference:
    """One metric of two methods. A value is None where the metric could not be measured.

    `difference` is `first` − `second`, `ci95` its interval over the draws, and `first_better` the share of
    draws in which it is above 0; a draw without a difference counts half.
    """

    first: float | None
    second: float | None
    difference: float | None
    ci95: tuple[float, float] | None
    first_better: float | None


def score_runs(tasks: Sequence[Task], runs: Sequence[Sequence[Ranking]]) -> Scored:
    """Score a method that was run several times.

    Args:
        tasks: what is asked; several where queries have different galleries (folds): they are pooled.
        runs: for each run (a training seed) one ranking a task, in the order of `tasks`; their scores are
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
    """Compare two methods that answered the same queries.

    Args:
        first: the one method's contributions, from `score_runs` or `Scored.of`.
        second: the other's.
        draws: how often people are drawn, with replacement, as many as there are.
        seed: of the draws; `score_ranking` draws the same people under the same seed.
        metrics: which to compare, as `metrics.add_up` names them.

    Returns:
        Metric → difference.

    Raises:
        ValueError: the two did not answer the same queries.
    """
    if not same_queries(first, second):
        raise ValueError("the two did not answer the same queries: a paired comparison needs the same")
    weights = draw_people(first.subjects, draws, seed)
    (a, a_drawn), (b, b_drawn) = ((side.metrics(), side.metrics(weights)) for side in (first, second))
    return {
        name: _difference(float(a[name][0]), float(b[name][0]), a_drawn[name] - b_drawn[name])
        for name in metrics
    }


def _difference(first: float, second: float, drawn: NDArray[np.float64]) -> Difference:
    bounds = interval(drawn)
    measured = drawn[np.isfinite(drawn)]
    if bounds is None or not np.isfinite(first - second):
        return Difference(None, None, None, None, None)
    better = float(np.mean((measured > _TIE) + 0.5 * (np.abs(measured) <= _TIE)))
    return Difference(first, second, first - second, (bounds[0], bounds[1]), better)


def describe_differences(differences: Mapping[str, Difference]) -> dict[str, Any]:
    """Return the differences of the `HEADLINE` metrics as `evaluate --json` gives them.

    The first method is the encoder, the second the one it was put against.
    """
    return {
        name: {
            "encoder": told.first,
            "against": told.second,
            "difference": told.difference,
            "ci95": None if told.ci95 is None else list(told.ci95),
            "encoder_better": told.first_better,
        }
        for name, told in ((name, differences[metric]) for name, metric in HEADLINE.items())
    }
