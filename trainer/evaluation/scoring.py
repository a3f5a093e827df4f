"""Scores of a ranking: the metrics with their intervals, and three baselines.

`score_ranking` gives the part of `evaluate --json` that depends on rankings and labels alone, so that the
same code scores everything that can rank: an encoder, raw features, a classifier.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corpus.findings import Status, Statuses
from corpus.statistics import BOOTSTRAP_DRAWS, draw_subjects, interval95
from trainer.evaluation.auroc import auroc
from trainer.evaluation.labels import CLASSES, LEAVES, Labels
from trainer.evaluation.metrics import (
    LIFT_AT,
    MIN_GALLERY,
    MIN_QUERIES,
    NDCG_AT,
    PRECISION_AT,
    RECALL_AT,
    Scored,
    Task,
    compare,
    ideal_gains,
    pool,
)
from trainer.evaluation.ranking import DEPTH, Pairs, Ranking, no_pairs, rank, rank_vectors

BASELINE_DRAWS = 20
_BLOCK = 256
_AGAINST = {"auroc": "absent", "auroc_abnormal": "others"}

HEADLINE: Mapping[str, str] = MappingProxyType(
    {
        "precision_at_1": "precision_at.1",
        "precision_at_5": "precision_at.5",
        f"lift_at_{LIFT_AT}": f"lift_at_{LIFT_AT}.macro",
        f"ndcg_at_{NDCG_AT}": f"ndcg_at_{NDCG_AT}",
    }
)
"""The metrics by which groups and encoders are compared: name in the record → name in `add_up`."""

Metrics = Mapping[str, NDArray[np.float64]]


def score_vectors(
    queries: NDArray[Any],
    gallery: NDArray[Any],
    query_statuses: Sequence[Statuses],
    gallery_statuses: Sequence[Statuses],
    *,
    subjects: Sequence[str] | None = None,
    seed: int = 0,
    draws: int = BOOTSTRAP_DRAWS,
    baselines: bool = True,
) -> dict[str, Any]:
    """Score query vectors against gallery vectors, without items that have no known finding.

    Args:
        queries: (Q, dim) unit rows.
        gallery: (G, dim) unit rows.
        query_statuses: Q statuses.
        gallery_statuses: G statuses.
        subjects: the subject of each query; default: a different one each.
        seed: of the bootstrap and the random baselines.
        draws: bootstrap draws; 0: no intervals (`ci95` is None).
        baselines: whether to score the baselines too (else `baselines` is None).

    Returns:
        As `score_ranking`.
    """
    left, right = Labels.of(query_statuses), Labels.of(gallery_statuses)
    owners = np.arange(len(left)) if subjects is None else np.asarray(subjects)
    task = Task(left.take(left.known), right.take(right.known), owners[left.known], no_pairs())
    ranking = rank_vectors(np.asarray(queries)[left.known], np.asarray(gallery)[right.known])
    return score_ranking(ranking, task, seed=seed, draws=draws, baselines=baselines)


def score_ranking(
    ranking: Ranking,
    task: Task,
    *,
    seed: int = 0,
    draws: int = BOOTSTRAP_DRAWS,
    baselines: bool = True,
) -> dict[str, Any]:
    """Score the ranking of a task.

    Args:
        ranking: (Q, ≥ 10), from `trainer.evaluation.ranking.rank`.
        task: the retrieval task; all its items have a known finding.
        seed: of the bootstrap and the random baselines.
        draws: bootstrap draws over subjects; 0: no intervals (`ci95` is None).
        baselines: whether to score the baselines too (else `baselines` is None).

    Returns:
        `precision_at`, `lift_at_5`, `ndcg_at_10`, `recall_at`, `per_finding`, `baselines`, `ci95`,
        `bootstrap_draws` and `seed`, as in the contract; a metric that cannot be measured is None.
    """
    return score_parts([ranking], [task], seed=seed, draws=draws, baselines=baselines)


def score_parts(
    rankings: Sequence[Ranking],
    tasks: Sequence[Task],
    *,
    seed: int = 0,
    draws: int = BOOTSTRAP_DRAWS,
    baselines: bool = True,
) -> dict[str, Any]:
    """Score the rankings of several tasks as one: the folds of a cross-validation, each with its gallery.

    Folds should be similar: if a finding is common in one fold's queries and in its gallery, even one
    constant ranking per fold has a small lift.

    Args:
        rankings: one per task, as `score_ranking` takes it.
        tasks: their queries are pooled (`metrics.pool`); gallery counts of findings are added up.
        seed: as `score_ranking`.
        draws: as `score_ranking`.
        baselines: as `score_ranking`.

    Returns:
        As `score_ranking`.
    """
    ideals = [ideal_gains(task) for task in tasks]
    scored = pool([Scored.of(*part) for part in zip(rankings, tasks, ideals, strict=True)])
    metrics = scored.metrics()
    drawn = scored.metrics(draw_subjects(scored.subjects, draws, seed)) if draws else None
    counted = scored.counted
    return {
        **_table({name: _number(value[0]) for name, value in metrics.items()}, counted),
        "per_finding": _findings(metrics, drawn, tasks, counted),
        "baselines": score_baselines(tasks, seed, ideals) if baselines else None,
        "ci95": None if drawn is None else _table({n: interval95(v) for n, v in drawn.items()}, counted),
        "bootstrap_draws": draws,
        "seed": seed,
    }


def score_baselines(
    tasks: Sequence[Task],
    seed: int = 0,
    ideals: Sequence[NDArray[np.float64]] | None = None,
    draws: int = BASELINE_DRAWS,
) -> dict[str, Any]:
    """Score the baselines, which need no encoder, on the same queries.

    `random`: a random order of the gallery for every query; the mean of `draws` draws and their standard
    deviation (`sd`).
    `constant`: one order for all queries of a task, the best in hindsight (items that match most of the
    queries first).
    `normal_abnormal`: a perfect classifier of normal and abnormal: items of the query's class first, in
    random order; mean and standard deviation of `draws` draws.

    Where the query's own subject is excluded, the constant order skips its items, so that the lift can differ
    slightly from 0.
    """
    ideals = [ideal_gains(task) for task in tasks] if ideals is None else ideals

    def measure(answer: Callable[[Task], Ranking]) -> tuple[dict[str, float], tuple[str, ...]]:
        parts = [Scored.of(answer(task), task, ideal) for task, ideal in zip(tasks, ideals, strict=True)]
        scored = pool(parts)
        return {name: float(value[0]) for name, value in scored.metrics().items()}, scored.counted

    def describe(answer: Callable[[Task], Ranking]) -> dict[str, Any]:
        measured = [measure(answer) for _ in range(draws)]
        tables, counted = [table for table, _ in measured], measured[0][1]
        columns = {name: np.array([table[name] for table in tables]) for name in tables[0]}
        return {
            **_table({name: _number(np.mean(column)) for name, column in columns.items()}, counted),
            "sd": _table({name: _number(np.std(column)) for name, column in columns.items()}, counted),
        }

    best, counted = measure(rank_constant)
    rng = np.random.default_rng(seed)
    return {
        "random": describe(lambda task: rank_at_random(task, rng)),
        "constant": _table({name: _number(value) for name, value in best.items()}, counted),
        "normal_abnormal": describe(lambda task: rank_at_random(task, rng, by_normal=True)),
    }


@dataclass(frozen=True, slots=True)
class Contrasts:
    """Positive and negative items of each class (`CLASSES`): three (n, C) bool tables over n items.

    `present`: items with the class.
    `absent`: items with the status absent, and normal items; for `no_finding`, items with a present leaf
    finding.
    `others`: abnormal items without the class, absent or unmentioned (as lift compares; uncertain is in no
    table); for `no_finding`, none.
    """

    present: NDArray[np.bool_]
    absent: NDArray[np.bool_]
    others: NDArray[np.bool_]

    @classmethod
    def of(cls, statuses: Sequence[Statuses]) -> "Contrasts":
        """The contrasts of items with these statuses."""
        labels = Labels.of(statuses)
        status = np.array([[item.get(leaf, Status.UNMENTIONED) for leaf in LEAVES] for item in statuses])
        status = status.reshape(len(statuses), len(LEAVES))
        normal, without = labels.normal[:, None], ~labels.present & (status != Status.UNCERTAIN)
        abnormal = labels.present.any(axis=1, keepdims=True) & ~normal
        return cls(
            np.concatenate([labels.present, normal], axis=1),
            np.concatenate([without & (normal | (status == Status.ABSENT)), abnormal], axis=1),
            np.concatenate([without & abnormal, np.zeros_like(normal)], axis=1),
        )


def score_classes(
    scores: NDArray[Any],
    contrasts: Contrasts,
    subjects: NDArray[Any],
    *,
    seed: int = 0,
    draws: int = BOOTSTRAP_DRAWS,
) -> dict[str, Any]:
    """Score a classifier, each class separately.

    Args:
        scores: (n, C) over `CLASSES`, higher for the class; a column of NaN is not measured.
        contrasts: of the n items.
        subjects: (n,) the subject of each item; the bootstrap draws subjects.
        seed: of the bootstrap.
        draws: bootstrap draws.

    Returns:
        `auroc` (present against absent) and `auroc_abnormal` (present against other abnormal items, where a
        classifier of normal and abnormal scores 0.5), each with `macro` over the `findings` of at least ten
        items on either side, and `ci95`; `per_finding` with counts, values and intervals. None where nothing
        can be measured.
    """
    weights = draw_subjects(subjects, draws, seed)[:, np.unique(subjects, return_inverse=True)[1]]
    rows: list[dict[str, Any]] = []
    areas: dict[str, dict[str, NDArray[np.float64]]] = {name: {} for name in _AGAINST}
    for column, name in enumerate(CLASSES):
        present = contrasts.present[:, column]
        row: dict[str, Any] = {"finding": name, "present": int(present.sum())}
        for metric, side in _AGAINST.items():
            against = getattr(contrasts, side)[:, column]
            chosen = present | against
            row[side] = int(against.sum())
            row[metric] = row[f"{metric}_ci95"] = None
            if present.any() and against.any() and not np.isnan(scores[chosen, column]).any():
                counted = np.concatenate([np.ones((1, chosen.sum())), weights[:, chosen]])
                area = auroc(scores[chosen, column], present[chosen], counted)
                row[metric], row[f"{metric}_ci95"] = _number(area[0]), interval95(area[1:])
                if name in LEAVES and min(row["present"], row[side]) >= MIN_QUERIES:
                    areas[metric][name] = area
        if present.any():
            rows.append(row)
    return {**{name: _macro(table) for name, table in areas.items()}, "per_finding": rows}


def _macro(areas: Mapping[str, NDArray[np.float64]]) -> dict[str, Any]:
    """The mean area over findings; in a draw, over the findings with a finite area."""
    if not areas:
        return {"macro": None, "findings": [], "ci95": None}
    table = np.stack(list(areas.values()))
    measured = np.isfinite(table)
    mean = np.where(measured, table, 0.0).sum(axis=0) / np.maximum(measured.sum(axis=0), 1)
    mean[~measured.any(axis=0)] = np.nan
    return {"macro": _number(mean[0]), "findings": list(areas), "ci95": interval95(mean[1:])}


def rank_constant(task: Task) -> Ranking:
    """One ranking for every query: the items that match most of the queries first."""
    matched = np.zeros(len(task.gallery))
    for start in range(0, len(task.queries), _BLOCK):
        chosen = np.arange(start, min(start + _BLOCK, len(task.queries)))
        matched += (compare(task.queries.take(chosen), task.gallery) > 0).sum(axis=0)
    return rank(np.broadcast_to(matched, (len(task.queries), len(matched))), task.excluded)


def rank_at_random(task: Task, rng: np.random.Generator, by_normal: bool = False) -> Ranking:
    """A random ranking for every query; `by_normal`: items as normal or abnormal as the query first."""
    ranking = np.empty((len(task.queries), DEPTH), dtype=np.int64)
    for start in range(0, len(ranking), _BLOCK):
        stop = min(start + _BLOCK, len(ranking))
        scores = rng.random((stop - start, len(task.gallery)), dtype=np.float32)
        if by_normal:
            scores += task.queries.normal[start:stop, None] == task.gallery.normal[None, :]
        inside = (task.excluded[:, 0] >= start) & (task.excluded[:, 0] < stop)
        excluded: Pairs = task.excluded[inside] - np.array([start, 0])
        ranking[start:stop] = rank(scores, excluded)
    return ranking


def _number(value: float | np.floating[Any]) -> float | None:
    return float(value) if np.isfinite(value) else None


def _table(values: Mapping[str, Any], counted: Sequence[str]) -> dict[str, Any]:
    """Flat metric names nested as in the contract."""
    recall = {str(k): values[f"recall_at.{k}"] for k in RECALL_AT if f"recall_at.{k}" in values}
    return {
        "precision_at": {str(k): values[f"precision_at.{k}"] for k in PRECISION_AT},
        f"lift_at_{LIFT_AT}": {
            "macro": values[f"lift_at_{LIFT_AT}.macro"],
            "findings": {leaf: values[f"lift_at_{LIFT_AT}.{leaf}"] for leaf in counted},
        },
        f"ndcg_at_{NDCG_AT}": values[f"ndcg_at_{NDCG_AT}"],
        "recall_at": recall or None,
    }


def _findings(
    metrics: Metrics, drawn: Metrics | None, tasks: Sequence[Task], counted: Sequence[str]
) -> list[dict[str, Any]]:
    """One row per leaf finding of either side: counts, precision and lift.

    `precision_at_5` is the mean share of the first five hits with the finding, over queries with it;
    `in_macro` says whether both sides have enough items (ten queries, eight gallery items) for the macro
    lift.
    """
    in_queries = np.sum([task.queries.present.sum(axis=0) for task in tasks], axis=0)
    in_gallery = np.sum([task.gallery.present.sum(axis=0) for task in tasks], axis=0)
    return [
        {
            "finding": leaf,
            "queries": int(in_queries[column]),
            "gallery": int(in_gallery[column]),
            "precision_at_5": _number(metrics[f"with.{leaf}"][0]),
            "lift_at_5": _number(metrics[f"lift_at_{LIFT_AT}.{leaf}"][0]),
            "ci95": None if drawn is None else interval95(drawn[f"lift_at_{LIFT_AT}.{leaf}"]),
            "in_macro": leaf in counted,
        }
        for column, leaf in enumerate(LEAVES)
        if in_queries[column] or in_gallery[column]
    ]


def chance(scores: Mapping[str, Any]) -> str:
    """A sentence with the chance level on these queries, from the result of `score_ranking`."""
    random = scores["baselines"]["random"]
    sentence = f"Chance here is P@1 {_show(random['precision_at']['1'])}"
    sentence += f", nDCG@10 {_show(random['ndcg_at_10'])}"
    lift, spread = random["lift_at_5"]["macro"], random["sd"]["lift_at_5"]["macro"]
    if lift is None:
        return (
            f"{sentence}; no finding has {MIN_QUERIES} queries and {MIN_GALLERY} gallery items, "
            "so there is no macro lift."
        )
    return (
        f"{sentence} and lift@5 0 ± {_show(spread)}; the constant and normal-abnormal baselines have lift 0."
    )


def _show(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
