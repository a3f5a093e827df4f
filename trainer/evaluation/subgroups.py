"""Subgroups: the metrics for the queries of each view, sex and age group."""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import numpy as np

from corpus.records import Sex, View
from corpus.statistics import BOOTSTRAP_DRAWS, draw_subjects, interval95
from trainer.evaluation.gallery import Item
from trainer.evaluation.metrics import MIN_QUERIES, Scored
from trainer.evaluation.scoring import HEADLINE

UNKNOWN = "unknown"
AGE_GROUPS = ("0-17", "18-39", "40-64", "65+")
_AGE_STARTS = (18, 40, 65)  # years

GROUPS: Mapping[str, tuple[str, ...]] = {
    "view": (*get_args(View), UNKNOWN),
    "sex": (*get_args(Sex), UNKNOWN),
    "age": (*AGE_GROUPS, UNKNOWN),
}
"""Grouping of queries → its groups, in order."""


def age_group(age: float | None) -> str:
    """The group of an age in years: `0-17`, `18-39`, `40-64`, `65+` or `unknown`."""
    return UNKNOWN if age is None else AGE_GROUPS[sum(age >= start for start in _AGE_STARTS)]


def group_items(items: Sequence[Item]) -> dict[str, list[str]]:
    """For each of `GROUPS` the group of every item. A report has no view."""
    return {
        "view": [_view(item) for item in items],
        "sex": [item.study.sex or UNKNOWN for item in items],
        "age": [age_group(item.study.age) for item in items],
    }


def _view(item: Item) -> str:
    views = {image.item_id: image.view for image in item.study.images}
    return views.get(item.item_id) or UNKNOWN


def score_groups(
    scored: Scored, grouped: Mapping[str, Sequence[str]], *, seed: int = 0, draws: int = BOOTSTRAP_DRAWS
) -> list[dict[str, Any]]:
    """Score each group of queries separately, over the whole gallery.

    Args:
        scored: the contributions of Q queries.
        grouped: for each of `GROUPS` the group of each query (`group_items`).
        seed: of the bootstrap.
        draws: bootstrap draws over the group's subjects; 0: no intervals.

    Returns:
        One row per group with a query: `by`, `group`, `queries`, `subjects`, the metrics (lift is the
        macro over findings with enough queries in the group), and `ci95` of each. In a group of fewer than
        ten queries every metric is None.
    """
    rows = []
    for by, names in GROUPS.items():
        members = np.asarray(grouped[by])
        for name in names:
            group = scored.take(members == name)
            if len(group):
                rows.append({"by": by, "group": name, **_score_group(group, seed, draws)})
    return rows


def _score_group(group: Scored, seed: int, draws: int) -> dict[str, Any]:
    row: dict[str, Any] = {"queries": len(group), "subjects": len(np.unique(group.subjects))}
    nothing: dict[str, Any] = dict.fromkeys(HEADLINE)
    if len(group) < MIN_QUERIES:
        return {**row, **nothing, "ci95": nothing}
    values = group.metrics()
    drawn = group.metrics(draw_subjects(group.subjects, draws, seed)) if draws else None
    for name, metric in HEADLINE.items():
        value = float(values[metric][0])
        row[name] = value if np.isfinite(value) else None
    bounds = nothing if drawn is None else {n: interval95(drawn[metric]) for n, metric in HEADLINE.items()}
    return {**row, "ci95": bounds}
