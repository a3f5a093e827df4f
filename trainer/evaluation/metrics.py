"""The retrieval metrics of the contract, in numpy.

Relevance is read from findings: two items match when they share a present leaf finding, or are both normal.
Every metric here is a ratio of two sums over queries (lift is the difference of two such ratios, its macro
the mean of lifts), so that means, bootstrap draws and baselines are one matrix product each.

Shapes: Q queries, G gallery items, F leaf findings (`trainer.evaluation.labels.LEAVES`), K places of an
answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corpus.redaction import redacted
from trainer.evaluation.labels import LEAVES, Labels
from trainer.evaluation.ranking import BLOCK, Pairs, Ranking, pairs_of_block

PRECISION_AT = (1, 2, 5, 10)
RECALL_AT = (1, 5, 10)
LIFT_AT = 5
NDCG_AT = 10

MIN_QUERIES = 10
MIN_GALLERY = 8
"""A finding enters the macro lift only with this many queries and gallery items."""


@redacted
@dataclass(frozen=True, slots=True)
class Task:
    """What rankings are scored against.

    `subjects` (Q,): the person behind each query, any hashable codes; the bootstrap draws people.
    `excluded`: pairs that may not be answered (a query's own subject). `true_pairs`: pairs that belong to
    one study, for recall; None when the two sides hold none.
    """

    queries: Labels
    gallery: Labels
    subjects: NDArray[Any]
    excluded: Pairs
    true_pairs: Pairs | None = None


Ratios = Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
"""Metric name → numerators (Q,) and denominators (Q,); the metric is the ratio of their sums."""


def compare(queries: Labels, gallery: Labels) -> NDArray[np.float64]:
    """Return the gain of each gallery item for each query, (Q, G) in [0, 1]; it matches where gain > 0.

    Gain is shared / either, the Jaccard index of the present leaf findings; two normal items gain 1.
    """
    asked, held = queries.present.astype(np.float64), gallery.present.astype(np.float64)
    shared = asked @ held.T
    either = asked.sum(axis=1)[:, None] + held.sum(axis=1)[None, :] - shared
    gains: NDArray[np.float64] = np.divide(shared, either, out=np.zeros_like(shared), where=either > 0)
    gains[queries.normal[:, None] & gallery.normal[None, :]] = 1.0
    return gains


def ranked_gains(ranking: Ranking, task: Task) -> NDArray[np.float64]:
    """Return the gain at each place of the answers, (Q, K); a place without a hit gains 0."""
    asked, held = task.queries.present[:, None, :], task.gallery.present[ranking]
    shared, either = (asked & held).sum(axis=2), (asked | held).sum(axis=2)
    gains: NDArray[np.float64] = np.divide(shared, either, out=np.zeros(ranking.shape), where=either > 0)
    gains[task.queries.normal[:, None] & task.gallery.normal[ranking]] = 1.0
    gains[ranking < 0] = 0.0
    return gains


def ideal_gains(task: Task, depth: int = NDCG_AT) -> NDArray[np.float64]:
    """Return the best gains that the whole gallery could give each query, (Q, depth), highest first."""
    ideal = np.zeros((len(task.queries), depth))
    kept = min(depth, len(task.gallery))
    for start in range(0, len(task.queries) if kept else 0, BLOCK):
        gains = compare(task.queries.take(np.arange(start, min(start + BLOCK, len(ideal)))), task.gallery)
        excluded = pairs_of_block(task.excluded, start)
        gains[excluded[:, 0], excluded[:, 1]] = 0.0
        best = np.partition(gains, gains.shape[1] - kept, axis=1)[:, -kept:]
        ideal[start : start + BLOCK, :kept] = -np.sort(-best, axis=1)
    return ideal


def ndcg(gains: NDArray[np.float64], ideal: NDArray[np.float64], k: int = NDCG_AT) -> NDArray[np.float64]:
    """Return the normalised discounted cumulative gain at `k`, (Q,) in [0, 1].

    Gains are taken as they are (not 2^gain − 1) and discounted by log2(1 + place), as trec_eval does.
    A query for which nothing in the gallery has any gain scores 0, as there.

    Args:
        gains: (Q, ≥ k) gains in answered order.
        ideal: (Q, ≥ k) the best gains to be had, highest first.
        k: how many places count.
    """
    discount = 1.0 / np.log2(np.arange(2, k + 2))
    best = ideal[:, :k] @ discount[: ideal.shape[1]]
    got = gains[:, :k] @ discount[: gains.shape[1]]
    return np.divide(got, best, out=np.zeros(len(best)), where=best > 0)


def hit_pairs(ranking: Ranking, pairs: Pairs, k: int) -> NDArray[np.float64]:
    """Return how many of its true pairs each query has among its first `k` places, (Q,)."""
    found = (ranking[pairs[:, 0], :k] == pairs[:, 1, None]).any(axis=1)
    return np.bincount(pairs[:, 0], weights=found, minlength=len(ranking)).astype(np.float64)


def score_queries(ranking: Ranking, task: Task, ideal: NDArray[np.float64] | None = None) -> Ratios:
    """Score each query's answer.

    Args:
        ranking: (Q, ≥ 10) as `trainer.evaluation.ranking.rank` gives it.
        task: what is asked and held.
        ideal: `ideal_gains(task)`, where it is at hand already.

    Returns:
        Ratios named `precision_at.<k>`, `ndcg_at_10`, `recall_at.<k>` (only with true pairs; a query's
        recall is the share of its own pairs that came), and for each leaf finding `with.<finding>` and
        `without.<finding>`: the share of the first five places that have it, over abnormal queries that
        have it and over abnormal queries that do not.
    """
    gains = ranked_gains(ranking, task)
    everyone = np.ones(len(task.queries))
    ratios: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
    for k in PRECISION_AT:
        ratios[f"precision_at.{k}"] = ((gains[:, :k] > 0).sum(axis=1).astype(np.float64), everyone * k)
    ideal = ideal_gains(task) if ideal is None else ideal
    ratios[f"ndcg_at_{NDCG_AT}"] = (ndcg(gains, ideal), everyone)
    if task.true_pairs is not None:
        owed = np.bincount(task.true_pairs[:, 0], minlength=len(everyone)).astype(np.float64)
        paired = owed > 0
        for k in RECALL_AT:
            found = hit_pairs(ranking, task.true_pairs, k)
            share = np.divide(found, owed, out=np.zeros_like(owed), where=paired)
            ratios[f"recall_at.{k}"] = (share, paired.astype(np.float64))
    ratios.update(_score_findings(ranking[:, :LIFT_AT], task))
    return MappingProxyType(ratios)


def _score_findings(top: Ranking, task: Task) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Count each finding among the first places of queries with and without it, normal queries left out.

    Normal queries are left out of both sides: one that carries a device would else lend its normal
    neighbours to the comparison, and telling normal from abnormal would no longer score 0.
    """
    held = task.gallery.present[top]
    held[top < 0] = False
    counts = held.sum(axis=1).astype(np.float64)
    abnormal = ~task.queries.normal[:, None]
    ratios = {}
    for side, chosen in (
        ("with", abnormal & task.queries.present),
        ("without", abnormal & ~task.queries.present),
    ):
        for column, leaf in enumerate(LEAVES):
            asked = chosen[:, column].astype(np.float64)
            ratios[f"{side}.{leaf}"] = (counts[:, column] * asked, asked * LIFT_AT)
    return ratios


@redacted
@dataclass(frozen=True, slots=True)
class Scored:
    """What each query contributes to each metric: all that means, groups and bootstraps need.

    `ratios`: as `score_queries` gives them. `subjects` (Q,): the person behind each query. `held` (F,) bool:
    the leaf findings that the gallery has `MIN_GALLERY` items of.
    """

    ratios: Ratios
    subjects: NDArray[Any]
    held: NDArray[np.bool_]

    @classmethod
    def of(cls, ranking: Ranking, task: Task, ideal: NDArray[np.float64] | None = None) -> "Scored":
        """Score each query's answer; arguments as `score_queries`."""
        held = task.gallery.present.sum(axis=0) >= MIN_GALLERY
        return cls(score_queries(ranking, task, ideal), task.subjects, held)

    def __len__(self) -> int:
        return len(self.subjects)

    @property
    def counted(self) -> tuple[str, ...]:
        """The findings of the macro lift: enough abnormal queries with it, one without it, enough items."""
        asked, foils = (
            np.array([np.count_nonzero(self.ratios[f"{side}.{leaf}"][1]) for leaf in LEAVES])
            for side in ("with", "without")
        )
        enough = (asked >= MIN_QUERIES) & (foils > 0) & self.held
        return tuple(leaf for leaf, counts in zip(LEAVES, enough, strict=True) if counts)

    def take(self, index: NDArray[Any]) -> "Scored":
        """Return the chosen queries (indices or mask): a group of them is scored as a set of its own."""
        chosen = {name: (top[index], bottom[index]) for name, (top, bottom) in self.ratios.items()}
        return replace(self, ratios=MappingProxyType(chosen), subjects=self.subjects[index])

    def metrics(self, weights: NDArray[np.float64] | None = None) -> dict[str, NDArray[np.float64]]:
        """Turn the contributions into metrics; arguments and result as `add_up`."""
        return add_up(self.ratios, self.counted, self.subjects, weights)


def pool(parts: Sequence[Scored]) -> Scored:
    """Put queries that were asked of different galleries (the folds of a cross-validation) into one set.

    A finding counts as held where every gallery has enough of it. A query of a part without true pairs has
    no recall.
    """
    names = list(dict.fromkeys(name for part in parts for name in part.ratios))
    nothing = [(np.zeros(len(part)), np.zeros(len(part))) for part in parts]
    ratios = {}
    for name in names:
        held = [part.ratios.get(name, none) for part, none in zip(parts, nothing, strict=True)]
        ratios[name] = (np.concatenate([r[0] for r in held]), np.concatenate([r[1] for r in held]))
    subjects = np.concatenate([part.subjects for part in parts])
    return Scored(MappingProxyType(ratios), subjects, np.logical_and.reduce([p.held for p in parts]))


def average(runs: Sequence[Scored]) -> Scored:
    """Average the contributions of several answers to the same queries (training seeds).

    Denominators are the task's, the same in every run, so a metric of the average is the average of the
    runs' metrics, in every bootstrap draw as well.

    Raises:
        ValueError: the runs did not answer the same queries.
    """
    first = runs[0]
    if not all(same_queries(first, run) for run in runs):
        raise ValueError("the runs did not answer the same queries: they cannot be averaged")
    ratios = {
        name: (np.mean([run.ratios[name][0] for run in runs], axis=0), bottom)
        for name, (_, bottom) in first.ratios.items()
    }
    return replace(first, ratios=MappingProxyType(ratios))


def same_queries(first: Scored, second: Scored) -> bool:
    """Whether two answers were given to the same queries over galleries of the same findings."""
    return (
        np.array_equal(first.subjects, second.subjects)
        and np.array_equal(first.held, second.held)
        and first.ratios.keys() == second.ratios.keys()
        and all(np.array_equal(first.ratios[name][1], second.ratios[name][1]) for name in first.ratios)
    )


def draw_people(subjects: NDArray[Any], draws: int, seed: int) -> NDArray[np.float64]:
    """Draw people with replacement, as many as there are: (draws, S) how often each was drawn.

    S counts the distinct subjects in sorted order. The same subjects and seed give the same draws, so two
    encoders can be compared draw by draw.
    """
    people = len(np.unique(subjects))
    rng = np.random.default_rng(seed)
    return rng.multinomial(people, np.full(people, 1.0 / people), size=draws).astype(np.float64)


def add_up(
    ratios: Ratios, counted: Sequence[str], subjects: NDArray[Any], weights: NDArray[np.float64] | None = None
) -> dict[str, NDArray[np.float64]]:
    """Turn per-query ratios into metrics.

    Args:
        ratios: from `score_queries`.
        counted: findings of the macro lift (`Scored.counted`).
        subjects: (Q,) the person behind each query.
        weights: (D, S) how often each person counts (`draw_people`); None counts everyone once (D = 1).

    Returns:
        Metric name → (D,); NaN where nothing was asked. Beside the ratios' own names there are
        `lift_at_5.<finding>` and `lift_at_5.macro`.
    """
    _, person = np.unique(subjects, return_inverse=True)
    people = int(person.max()) + 1 if len(person) else 0
    weights = np.ones((1, people)) if weights is None else weights
    top, bottom = (
        np.stack([np.bincount(person, weights=r[part], minlength=people) for r in ratios.values()], axis=1)
        for part in (0, 1)
    )
    above, below = weights @ top, weights @ bottom
    values = np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)
    metrics = {name: values[:, column] for column, name in enumerate(ratios)}
    for leaf in LEAVES:
        metrics[f"lift_at_{LIFT_AT}.{leaf}"] = metrics[f"with.{leaf}"] - metrics[f"without.{leaf}"]
    lifts = np.array([metrics[f"lift_at_{LIFT_AT}.{leaf}"] for leaf in counted]).reshape(-1, len(weights))
    measured = np.isfinite(lifts)
    metrics[f"lift_at_{LIFT_AT}.macro"] = np.divide(
        np.where(measured, lifts, 0.0).sum(axis=0),
        measured.sum(axis=0),
        out=np.full(len(weights), np.nan),
        where=measured.any(axis=0),
    )
    return metrics
