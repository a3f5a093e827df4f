"""The retrieval metrics of the contract, in numpy.

Relevance follows from findings: two items match when they share a present leaf finding, or are both normal.
Every metric is a ratio of two sums over queries (lift is the difference of two such ratios, its macro the
mean of lifts), so that means, bootstrap draws and baselines are one matrix product each.

Shapes: Q queries, G gallery items, F leaf findings (`trainer.evaluation.labels.LEAVES`), K ranks.
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
    """A retrieval task, against which rankings are scored.

    `queries`, `gallery`: the labels of both sides.
    `subjects`: (Q,) the subject of each query, any hashable codes; the bootstrap draws subjects.
    `excluded`: pairs that are no hits (the query's own subject).
    `true_pairs`: pairs of one study, for recall; None without such pairs.
    """

    queries: Labels
    gallery: Labels
    subjects: NDArray[Any]
    excluded: Pairs
    true_pairs: Pairs | None = None


Ratios = Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
"""Metric name → numerators (Q,) and denominators (Q,); the metric is the ratio of their sums."""


def compare(queries: Labels, gallery: Labels) -> NDArray[np.float64]:
    """The gain of each gallery item for each query, (Q, G) in [0, 1]; an item matches where gain > 0.

    Gain is shared / either, the Jaccard index of the present leaf findings; two normal items gain 1.
    """
    wanted, offered = queries.present.astype(np.float64), gallery.present.astype(np.float64)
    shared = wanted @ offered.T
    either = wanted.sum(axis=1)[:, None] + offered.sum(axis=1)[None, :] - shared
    gains: NDArray[np.float64] = np.divide(shared, either, out=np.zeros_like(shared), where=either > 0)
    gains[queries.normal[:, None] & gallery.normal[None, :]] = 1.0
    return gains


def ranked_gains(ranking: Ranking, task: Task) -> NDArray[np.float64]:
    """The gain at each rank, (Q, K); a rank without a hit gains 0."""
    wanted, offered = task.queries.present[:, None, :], task.gallery.present[ranking]
    shared, either = (wanted & offered).sum(axis=2), (wanted | offered).sum(axis=2)
    gains: NDArray[np.float64] = np.divide(shared, either, out=np.zeros(ranking.shape), where=either > 0)
    gains[task.queries.normal[:, None] & task.gallery.normal[ranking]] = 1.0
    gains[ranking < 0] = 0.0
    return gains


def ideal_gains(task: Task, depth: int = NDCG_AT) -> NDArray[np.float64]:
    """The best gains of the whole gallery for each query, (Q, depth), highest first."""
    ideal = np.zeros((len(task.queries), depth))
    filled = min(depth, len(task.gallery))
    for start in range(0, len(task.queries) if filled else 0, BLOCK):
        gains = compare(task.queries.take(np.arange(start, min(start + BLOCK, len(ideal)))), task.gallery)
        excluded = pairs_of_block(task.excluded, start)
        gains[excluded[:, 0], excluded[:, 1]] = 0.0
        best = np.partition(gains, gains.shape[1] - filled, axis=1)[:, -filled:]
        ideal[start : start + BLOCK, :filled] = -np.sort(-best, axis=1)
    return ideal


def ndcg(gains: NDArray[np.float64], ideal: NDArray[np.float64], k: int = NDCG_AT) -> NDArray[np.float64]:
    """The normalised discounted cumulative gain at `k`, (Q,) in [0, 1].

    Gains are linear (not 2^gain − 1) and discounted by log2(1 + rank), as in trec_eval. A query without any
    gain in the gallery scores 0, as there.

    Args:
        gains: (Q, ≥ k) gains by rank.
        ideal: (Q, ≥ k) the best possible gains, highest first.
        k: number of ranks.
    """
    discount = 1.0 / np.log2(np.arange(2, k + 2))
    best = ideal[:, :k] @ discount[: ideal.shape[1]]
    achieved = gains[:, :k] @ discount[: gains.shape[1]]
    return np.divide(achieved, best, out=np.zeros(len(best)), where=best > 0)


def hit_pairs(ranking: Ranking, pairs: Pairs, k: int) -> NDArray[np.float64]:
    """The number of true pairs of each query among its first `k` ranks, (Q,)."""
    found = (ranking[pairs[:, 0], :k] == pairs[:, 1, None]).any(axis=1)
    return np.bincount(pairs[:, 0], weights=found, minlength=len(ranking)).astype(np.float64)


def score_queries(ranking: Ranking, task: Task, ideal: NDArray[np.float64] | None = None) -> Ratios:
    """Score the ranking of each query.

    Args:
        ranking: (Q, ≥ 10), from `trainer.evaluation.ranking.rank`.
        task: the retrieval task.
        ideal: `ideal_gains(task)`, if already computed.

    Returns:
        Ratios named `precision_at.<k>`, `ndcg_at_10`, `recall_at.<k>` (only with true pairs; the recall of a
        query is the share of its pairs that are hits), and for each leaf finding `with.<finding>` and
        `without.<finding>`: the share of the first five hits that have it, over abnormal queries that have it
        and over abnormal queries that do not.
    """
    gains = ranked_gains(ranking, task)
    everyone = np.ones(len(task.queries))
    ratios: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
    for k in PRECISION_AT:
        ratios[f"precision_at.{k}"] = ((gains[:, :k] > 0).sum(axis=1).astype(np.float64), everyone * k)
    ideal = ideal_gains(task) if ideal is None else ideal
    ratios[f"ndcg_at_{NDCG_AT}"] = (ndcg(gains, ideal), everyone)
    if task.true_pairs is not None:
        relevant = np.bincount(task.true_pairs[:, 0], minlength=len(everyone)).astype(np.float64)
        paired = relevant > 0
        for k in RECALL_AT:
            found = hit_pairs(ranking, task.true_pairs, k)
            share = np.divide(found, relevant, out=np.zeros_like(relevant), where=paired)
            ratios[f"recall_at.{k}"] = (share, paired.astype(np.float64))
    ratios.update(_score_findings(ranking[:, :LIFT_AT], task))
    return MappingProxyType(ratios)


def _score_findings(top: Ranking, task: Task) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Count each finding among the first hits of abnormal queries with it and without it.

    Normal queries are excluded from both sides: otherwise a normal query with a device would contribute its
    normal neighbours, and a classifier of normal and abnormal would no longer score 0.
    """
    hits = task.gallery.present[top]
    hits[top < 0] = False
    counts = hits.sum(axis=1).astype(np.float64)
    abnormal = ~task.queries.normal[:, None]
    ratios = {}
    for side, chosen in (
        ("with", abnormal & task.queries.present),
        ("without", abnormal & ~task.queries.present),
    ):
        for column, leaf in enumerate(LEAVES):
            counted = chosen[:, column].astype(np.float64)
            ratios[f"{side}.{leaf}"] = (counts[:, column] * counted, counted * LIFT_AT)
    return ratios


@redacted
@dataclass(frozen=True, slots=True)
class Scored:
    """The contributions of each query to each metric, for means, groups and bootstraps.

    `ratios`: from `score_queries`.
    `subjects`: (Q,) the subject of each query.
    `in_gallery`: (F,) bool, leaf findings of at least `MIN_GALLERY` gallery items.
    """

    ratios: Ratios
    subjects: NDArray[Any]
    in_gallery: NDArray[np.bool_]

    @classmethod
    def of(cls, ranking: Ranking, task: Task, ideal: NDArray[np.float64] | None = None) -> "Scored":
        """Score the ranking of each query; arguments as `score_queries`."""
        in_gallery = task.gallery.present.sum(axis=0) >= MIN_GALLERY
        return cls(score_queries(ranking, task, ideal), task.subjects, in_gallery)

    def __len__(self) -> int:
        return len(self.subjects)

    @property
    def counted(self) -> tuple[str, ...]:
        """The findings of the macro lift: enough abnormal queries with it, one without it, enough items."""
        having, lacking = (
            np.array([np.count_nonzero(self.ratios[f"{side}.{leaf}"][1]) for leaf in LEAVES])
            for side in ("with", "without")
        )
        enough = (having >= MIN_QUERIES) & (lacking > 0) & self.in_gallery
        return tuple(leaf for leaf, counts in zip(LEAVES, enough, strict=True) if counts)

    def take(self, index: NDArray[Any]) -> "Scored":
        """The contributions of the chosen queries (indices or mask), for scores of a group."""
        chosen = {name: (top[index], bottom[index]) for name, (top, bottom) in self.ratios.items()}
        return replace(self, ratios=MappingProxyType(chosen), subjects=self.subjects[index])

    def metrics(self, weights: NDArray[np.float64] | None = None) -> dict[str, NDArray[np.float64]]:
        """The metrics of all queries; arguments and result as `add_up`."""
        return add_up(self.ratios, self.counted, self.subjects, weights)


def pool(parts: Sequence[Scored]) -> Scored:
    """Pool queries over different galleries (the folds of a cross-validation).

    A finding counts as `in_gallery` where every gallery has enough of it. A query of a part without true
    pairs has no recall.
    """
    names = list(dict.fromkeys(name for part in parts for name in part.ratios))
    nothing = [(np.zeros(len(part)), np.zeros(len(part))) for part in parts]
    ratios = {}
    for name in names:
        pairs = [part.ratios.get(name, none) for part, none in zip(parts, nothing, strict=True)]
        ratios[name] = (np.concatenate([r[0] for r in pairs]), np.concatenate([r[1] for r in pairs]))
    subjects = np.concatenate([part.subjects for part in parts])
    return Scored(MappingProxyType(ratios), subjects, np.logical_and.reduce([p.in_gallery for p in parts]))


def average(runs: Sequence[Scored]) -> Scored:
    """Average the contributions of several runs (training seeds) on the same queries.

    Denominators belong to the task and are the same in every run: a metric of the average is the average of
    the runs' metrics, in every bootstrap draw as well.

    Raises:
        ValueError: the queries of the runs differ.
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
    """Whether two methods were scored on the same queries, over galleries with the same findings."""
    return (
        np.array_equal(first.subjects, second.subjects)
        and np.array_equal(first.in_gallery, second.in_gallery)
        and first.ratios.keys() == second.ratios.keys()
        and all(np.array_equal(first.ratios[name][1], second.ratios[name][1]) for name in first.ratios)
    )


def add_up(
    ratios: Ratios, counted: Sequence[str], subjects: NDArray[Any], weights: NDArray[np.float64] | None = None
) -> dict[str, NDArray[np.float64]]:
    """The metrics of all queries from the ratios of each.

    Args:
        ratios: from `score_queries`.
        counted: findings of the macro lift (`Scored.counted`).
        subjects: (Q,) the subject of each query.
        weights: (D, S) weight of each subject in each draw (`draw_subjects`); None: all 1 (D = 1).

    Returns:
        Metric name → (D,); NaN without queries. Besides the ratios' own names there are `lift_at_5.<finding>`
        and `lift_at_5.macro`.
    """
    _, subject_index = np.unique(subjects, return_inverse=True)
    count = int(subject_index.max()) + 1 if len(subject_index) else 0
    weights = np.ones((1, count)) if weights is None else weights
    top, bottom = (
        np.stack(
            [np.bincount(subject_index, weights=r[part], minlength=count) for r in ratios.values()], axis=1
        )
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
