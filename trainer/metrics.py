"""The retrieval metrics of the contract, in numpy.

Relevance is read from findings: two items match when they share a present leaf finding, or are both normal.
Every metric here is a ratio of two sums over queries (lift is the difference of two such ratios, its macro
the mean of lifts), so that means, bootstrap draws and baselines are one matrix product each.

Shapes: Q queries, G gallery items, F leaf findings (`LEAVES`), K places of an answer.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corpus.findings import NO_FINDING, VOCABULARY, Statuses, is_normal, present_leaves

LEAVES = VOCABULARY.leaves
CLASSES = (*LEAVES, NO_FINDING)
"""What a picture can be told to be: C classes, the leaf findings and normal."""

PRECISION_AT = (1, 2, 5, 10)
RECALL_AT = (1, 5, 10)
LIFT_AT = 5
NDCG_AT = 10
DEPTH = 10
"""How many places of an answer any metric looks at."""

MIN_QUERIES = 10
MIN_GALLERY = 8
"""A finding enters the macro lift only with this many queries and gallery items."""

_WEIGHTS_AT_ONCE = 4_000_000  # 32 MB of weights at a time
_BLOCK = 256  # queries ranked at a time: 256 × 100,000 gallery items are 100 MB

Ranking = NDArray[np.int64]
"""(Q, K) gallery indices, best first; −1 where an answer has fewer than K hits."""

Pairs = NDArray[np.int64]
"""(P, 2) rows of (query index, gallery index)."""


def no_pairs() -> Pairs:
    """Return an empty set of pairs."""
    return np.empty((0, 2), dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Labels:
    """What is known of n items: `present` (n, F) bool over `LEAVES`, `normal` (n,) bool."""

    present: NDArray[np.bool_]
    normal: NDArray[np.bool_]

    @classmethod
    def of(cls, statuses: Iterable[Statuses]) -> "Labels":
        """Read the labels of items from their statuses."""
        rows = list(statuses)
        present = np.zeros((len(rows), len(LEAVES)), dtype=np.bool_)
        for row, item in enumerate(rows):
            found = present_leaves(item)
            present[row] = [leaf in found for leaf in LEAVES]
        return cls(present, np.array([is_normal(item) for item in rows], dtype=np.bool_))

    def __len__(self) -> int:
        return len(self.normal)

    @property
    def known(self) -> NDArray[np.bool_]:
        """(n,) whether an item can match anything: it is normal or has a present leaf finding."""
        known: NDArray[np.bool_] = self.normal | self.present.any(axis=1)
        return known

    @property
    def classes(self) -> NDArray[np.int64]:
        """(n,) the class of each item, an index into `CLASSES`; −1 for none.

        An item is of a finding's class when that is its only present leaf and it is not normal, and of the
        class `no_finding` when it is normal and has no present leaf (a normal film with a device has none).
        """
        single = (self.present.sum(axis=1) == 1) & ~self.normal
        bare = self.normal & ~self.present.any(axis=1)
        classes: NDArray[np.int64] = np.where(single, self.present.argmax(axis=1), -1)
        classes[bare] = len(LEAVES)
        return classes

    def take(self, index: NDArray[Any]) -> "Labels":
        """Return the labels of the chosen items (indices or mask)."""
        return Labels(self.present[index], self.normal[index])


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


def rank(similarity: NDArray[Any], excluded: Pairs | None = None, depth: int = DEPTH) -> Ranking:
    """Rank the gallery for each query.

    Args:
        similarity: (Q, G), higher is more alike. Ties go to the earlier gallery item.
        excluded: pairs that may not be answered.
        depth: how many places to fill.

    Returns:
        (Q, depth) gallery indices, −1 where the gallery has no more to give.

    Raises:
        ValueError: a similarity is NaN: no order can be read from it.
    """
    scores: NDArray[Any] = np.array(
        similarity, dtype=np.float32 if similarity.dtype == np.float32 else np.float64
    )
    if np.isnan(scores).any():
        raise ValueError("a similarity is NaN: no order can be read from it")
    if excluded is not None and len(excluded):
        scores[excluded[:, 0], excluded[:, 1]] = -np.inf
    rows, size = scores.shape
    ranking = np.full((rows, depth), -1, dtype=np.int64)
    kept = min(depth, size)
    if kept == 0 or rows == 0:
        return ranking
    # Everything above the k-th score is in; among those equal to it the earlier items are.
    threshold = np.partition(scores, size - kept, axis=1)[:, size - kept, None]
    above, level = scores > threshold, scores == threshold
    chosen = above | (level & (np.cumsum(level, axis=1) <= kept - above.sum(axis=1, keepdims=True)))
    index = np.nonzero(chosen)[1].reshape(rows, kept)
    order = np.argsort(np.negative(np.take_along_axis(scores, index, axis=1)), axis=1, kind="stable")
    index = np.take_along_axis(index, order, axis=1)
    answered = np.isfinite(np.take_along_axis(scores, index, axis=1))
    ranking[:, :kept] = np.where(answered, index, -1)
    return ranking


def rank_vectors(
    queries: NDArray[Any], gallery: NDArray[Any], excluded: Pairs | None = None, depth: int = DEPTH
) -> Ranking:
    """Rank by the dot product of vectors, (Q, dim) against (G, dim), a block of queries at a time."""
    excluded = no_pairs() if excluded is None else excluded
    blocks = [
        rank(queries[start : start + _BLOCK] @ gallery.T, _pairs_of_block(excluded, start), depth)
        for start in range(0, len(queries), _BLOCK)
    ]
    return np.concatenate(blocks) if blocks else np.empty((0, depth), dtype=np.int64)


def _pairs_of_block(pairs: Pairs, start: int) -> Pairs:
    """Return the pairs of the queries of one block, counted from its first query."""
    inside = (pairs[:, 0] >= start) & (pairs[:, 0] < start + _BLOCK)
    within: Pairs = pairs[inside] - np.array([start, 0])
    return within


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
    for start in range(0, len(task.queries) if kept else 0, _BLOCK):
        gains = compare(task.queries.take(np.arange(start, min(start + _BLOCK, len(ideal)))), task.gallery)
        excluded = _pairs_of_block(task.excluded, start)
        gains[excluded[:, 0], excluded[:, 1]] = 0.0
        best = np.partition(gains, gains.shape[1] - kept, axis=1)[:, -kept:]
        ideal[start : start + _BLOCK, :kept] = -np.sort(-best, axis=1)
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
        ranking: (Q, ≥ 10) as `rank` gives it.
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


def auroc(
    scores: NDArray[Any], positive: NDArray[np.bool_], weights: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Return the area under the receiver operating characteristic, as the rank statistic it is.

    The probability that a positive item scores above a negative one, a tie counting half (Hanley and McNeil,
    1982).

    Args:
        scores: (n,), higher speaks for positive.
        positive: (n,) which items are.
        weights: (D, n) how often each item counts; None counts each once (D = 1).

    Returns:
        (D,) in [0, 1]; NaN where either side has no weight.

    Raises:
        ValueError: a score is NaN.
    """
    if np.isnan(scores).any():
        raise ValueError("a score is NaN: no order can be read from it")
    weights = np.ones((1, len(scores))) if weights is None else weights
    if not len(scores):
        return np.full(len(weights), np.nan)
    order = np.argsort(scores, kind="stable")
    ranked = scores[order]
    ties = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))  # where each level begins
    block = max(1, _WEIGHTS_AT_ONCE // len(scores))
    areas = np.empty(len(weights))
    for start in range(0, len(weights), block):
        drawn = weights[start : start + block][:, order]
        for_it = np.add.reduceat(drawn * positive[order], ties, axis=1)
        against = np.add.reduceat(drawn * ~positive[order], ties, axis=1)
        won = (for_it * (np.cumsum(against, axis=1) - against / 2)).sum(axis=1)
        pairs = for_it.sum(axis=1) * against.sum(axis=1)
        areas[start : start + block] = np.divide(won, pairs, out=np.full_like(won, np.nan), where=pairs > 0)
    return areas
