"""Means and intervals of an evaluation of localizers: per structure, over structures, and per group.

Means are over questions, and over structures with equal weights. Intervals are by a bootstrap over subjects;
annotated and normal subjects are drawn separately, so that no interval of an annotated metric depends on the
number of normal images. Differences from the mean mask are paired: of each question, before averaging.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corpus.redaction import redacted
from corpus.statistics import BOOTSTRAP_DRAWS, interval95
from retrieval.localize.evaluation.baselines import BASELINES
from retrieval.localize.evaluation.evaluate import (
    BOX_METRICS,
    METRICS,
    LocalizationEvaluation,
    ScoredQuestion,
    phrase_of,
)
from retrieval.localize.evaluation.intervals import ColumnMeans, column_means
from retrieval.localize.evaluation.measures import TOLERANCE

COMPARED = ("pointing", "iou", "dice", "nsd", *(name for name in BOX_METRICS if name != "false_boxes"))
"""Metrics with a difference from the mean mask."""
REFERENCE = "mean_mask"
GROUPS = ("view", "sex")
FEWEST = 5
"""Annotations of a structure from which it counts in a group."""


def tabulate(
    evaluation: LocalizationEvaluation, methods: Sequence[str], seed: int = 0, draws: int = BOOTSTRAP_DRAWS
) -> dict[str, Any]:
    """Aggregate the questions: for every structure, over all and per group, every row and metric.

    Args:
        evaluation: the scored questions.
        methods: the localizers' rows, in order; baselines follow.
        seed, draws: of the bootstrap.

    Returns:
        `structures`, `macro` and `groups` of `docs/contracts/evaluate-localization.schema.json`.
    """
    scores = _ScoreTable.of(evaluation, (*methods, *BASELINES), seed, draws)
    names = sorted({question.structure for question in evaluation.questions})
    table, macro = [], []
    for name in names:
        phrase, finding = phrase_of(name)
        chosen = scores.of_structure(name)
        means = scores.means(chosen)
        table.append(
            {
                "structure": name,
                "finding": finding,
                "phrase": phrase,
                "questions": int((chosen & scores.annotated).sum()),
                "absent_questions": int((chosen & ~scores.annotated).sum()),
                "rows": [scores.row(means, row) for row in scores.rows],
            }
        )
        macro.append(scores.means(chosen, inside=scores.everywhere))
    every = macro[0].mean_with(macro[1:])
    return {
        "structures": table,
        "macro": [scores.macro_row(every, table, row) for row in scores.rows],
        "groups": _groups(scores, names),
    }


def _groups(scores: "_ScoreTable", names: Sequence[str]) -> list[dict[str, Any]]:
    """Means over structures within each view and sex, of structures with at least `FEWEST` annotations."""
    groups = []
    for group in GROUPS:
        values = scores.groups[group]
        for value in sorted(set(values[scores.annotated].tolist()) - {""}):
            inside = values == value
            parts = [inside & scores.of_structure(name) for name in names]
            parts = [part for part in parts if (part & scores.annotated).sum() >= FEWEST]
            if not parts:
                continue
            united = np.logical_or.reduce(parts)
            means = [scores.means(part, inside=united) for part in parts]
            every = means[0].mean_with(means[1:])
            annotated = united & scores.annotated
            groups.append(
                {
                    "group": group,
                    "value": value,
                    "structures": len(parts),
                    "questions": int(annotated.sum()),
                    "subjects": len(np.unique(scores.subjects[annotated])),
                    "rows": [
                        {
                            "method": row,
                            "baseline": row in BASELINES,
                            **{m: every.at(scores.column(row, m)).as_json() for m in METRICS},
                        }
                        for row in scores.rows
                    ],
                }
            )
    return groups


@redacted
@dataclass(frozen=True, slots=True, eq=False)
class _ScoreTable:
    """The scores of n questions, normal images' after annotated ones', and of C columns.

    `rows`: localizers, then baselines.
    `values`: (n, C) scores of every row and metric, then their differences from the mean mask; NaN: none.
    `structures`, `subjects`: (n,) of each question.
    `annotated`: (n,) bool, whether the image shows the structure.
    `groups`: name → (n,) value, "" where it is unknown.
    `everywhere`: (n,) bool, all true.
    """

    rows: tuple[str, ...]
    values: NDArray[np.float64]
    structures: NDArray[np.str_]
    subjects: NDArray[np.str_]
    annotated: NDArray[np.bool_]
    groups: Mapping[str, NDArray[np.str_]]
    everywhere: NDArray[np.bool_]
    seed: int
    draws: int

    @classmethod
    def of(
        cls, evaluation: LocalizationEvaluation, rows: tuple[str, ...], seed: int, draws: int
    ) -> "_ScoreTable":
        questions = [*evaluation.questions, *evaluation.absent_questions]
        scores = np.array([_matrix(question, rows) for question in questions], np.float64)
        differences = scores - scores[:, rows.index(REFERENCE)][:, None]
        subjects = np.array([question.subject for question in questions])
        return cls(
            rows,
            np.concatenate([scores.reshape(len(questions), -1), differences.reshape(len(questions), -1)], 1),
            np.array([question.structure for question in questions]),
            subjects,
            np.arange(len(questions)) < len(evaluation.questions),
            {group: np.array([getattr(q, group) or "" for q in questions]) for group in GROUPS},
            np.ones(len(questions), np.bool_),
            seed,
            draws,
        )

    def of_structure(self, name: str) -> NDArray[np.bool_]:
        chosen: NDArray[np.bool_] = self.structures == name
        return chosen

    def means(self, chosen: NDArray[np.bool_], inside: NDArray[np.bool_] | None = None) -> ColumnMeans:
        """Means over the chosen questions; specificity is of normal subjects, all else of annotated ones.

        Args:
            chosen: (n,) of the questions that are averaged.
            inside: (n,) of the questions with the subjects that are drawn; None: `chosen`.
        """
        inside = chosen if inside is None else inside
        annotated, normal = (
            column_means(
                self.values[chosen & part],
                self.subjects[chosen & part].tolist(),
                among=self.subjects[inside & part].tolist(),
                seed=self.seed,
                draws=self.draws,
            )
            for part in (self.annotated, ~self.annotated)
        )
        return annotated.replaced_by(normal, self._of_normals())

    def _of_normals(self) -> NDArray[np.bool_]:
        """(C,) whether a column is measured on normal images."""
        return np.tile(np.array(METRICS) == "specificity", 2 * len(self.rows))

    def column(self, row: str, metric: str, difference: bool = False) -> int:
        position = self.rows.index(row) * len(METRICS) + METRICS.index(metric)
        return position + difference * len(self.rows) * len(METRICS)

    def row(self, means: ColumnMeans, row: str) -> dict[str, Any]:
        """One row of a structure."""
        return {
            "method": row,
            "baseline": row in BASELINES,
            **{metric: means.at(self.column(row, metric)).as_json() for metric in METRICS},
            "over_mean_mask": None
            if row == REFERENCE
            else {m: means.at(self.column(row, m, difference=True)).as_json() for m in COMPARED},
        }

    def macro_row(
        self, means: ColumnMeans, structures: Sequence[Mapping[str, Any]], row: str
    ) -> dict[str, Any]:
        """One row over structures; `structures`: their entries, with rows."""
        of_row = [next(r for r in entry["rows"] if r["method"] == row) for entry in structures]
        return {
            "method": row,
            "baseline": row in BASELINES,
            **{metric: _rounded(means.means[self.column(row, metric)]) for metric in METRICS},
            "ci95": {metric: _interval(means, self.column(row, metric)) for metric in METRICS},
            "over_mean_mask": None
            if row == REFERENCE
            else {
                metric: {
                    "mean": _rounded(means.means[self.column(row, metric, difference=True)]),
                    "ci95": _interval(means, self.column(row, metric, difference=True)),
                    **_above([one["over_mean_mask"][metric] for one in of_row]),
                }
                for metric in COMPARED
            },
        }


def _matrix(question: ScoredQuestion, rows: Sequence[str]) -> list[list[float]]:
    """(rows, metrics) scores of one question; NaN where there is none."""
    empty: Mapping[str, float | None] = {}
    found = [[question.scores.get(row, empty).get(metric) for metric in METRICS] for row in rows]
    return [[np.nan if score is None else float(score) for score in one] for one in found]


def _above(differences: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Number of structures with a positive difference, and with an interval above 0."""
    return {
        "above": sum(one["mean"] is not None and one["mean"] > 0 for one in differences),
        "surely_above": sum(one["ci95"] is not None and one["ci95"][0] > 0 for one in differences),
    }


def _rounded(value: float) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None


def _interval(means: ColumnMeans, column: int) -> list[float] | None:
    bounds = interval95(means.drawn[:, column])
    return None if bounds is None else [round(bound, 6) for bound in bounds]


def record(
    evaluation: LocalizationEvaluation,
    methods: Sequence[str],
    encoder: Mapping[str, str],
    refined_by: str,
    seed: int,
    seconds: float,
) -> dict[str, Any]:
    """The whole evaluation in the shape of `docs/contracts/evaluate-localization.schema.json`."""
    states = Counter(problem.state for problem in evaluation.problems)
    return {
        "encoder": dict(encoder),
        "refined_by": refined_by,
        "marks": evaluation.annotations,
        "split": evaluation.split,
        "pictures": evaluation.images,
        "subjects": len(evaluation.subjects),
        "normal_images": evaluation.normal_images,
        "normal_subjects": len(evaluation.normal_subjects),
        "seen_subjects": len(evaluation.seen_subjects),
        "left_out": {
            "seen": evaluation.left_out["seen"],
            "other_splits": evaluation.left_out["other_splits"],
            **{s: states[s] for s in ("failed", "skipped", "missing")},
        },
        "failures": [
            {"item_id": problem.item_id, "reason": problem.reason} for problem in evaluation.problems
        ],
        "tolerance": TOLERANCE,
        "bootstrap_draws": BOOTSTRAP_DRAWS,
        "seed": seed,
        "seconds": round(seconds, 1),
        **tabulate(evaluation, methods, seed),
    }
