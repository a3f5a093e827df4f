"""Means and intervals of an evaluation: annotated and normal subjects, groups by view and sex."""

from typing import Any

import numpy as np

from retrieval.localize.evaluation.aggregation import FEWEST, GROUPS, tabulate
from retrieval.localize.evaluation.baselines import BASELINES
from retrieval.localize.evaluation.evaluate import METRICS, LocalizationEvaluation, ScoredQuestion

ROWS = ("patches", *BASELINES)
VIEWS, SEXES = ("pa", "ap"), ("F", "M")


def evaluation(normals: int) -> LocalizationEvaluation:
    """Thirty annotated subjects with two structures each, and some normal ones; the scores are random."""
    random = np.random.default_rng(0)
    of_normals = np.random.default_rng(1)
    made = LocalizationEvaluation("masks")
    for number in range(30):
        for structure in ("Mass", "Effusion"):
            scores = {row: {m: float(random.random()) for m in METRICS[:-1]} for row in ROWS}
            view, sex = VIEWS[number % 2], SEXES[number // 2 % 2]
            made.questions.append(ScoredQuestion(structure, f"p{number}", scores, view, sex))  # type: ignore[arg-type]
    for number in range(normals):
        for structure in ("Mass", "Effusion"):
            absent = {row: {"specificity": float(of_normals.random() < 0.5)} for row in ROWS}
            view, sex = VIEWS[number % 2], SEXES[number // 2 % 2]
            made.absent_questions.append(ScoredQuestion(structure, f"n{number}", absent, view, sex))  # type: ignore[arg-type]
    return made


def without_specificity(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    without = [{name: one for name, one in row.items() if name != "specificity"} for row in rows]
    for row in without:
        if "ci95" in row:
            row["ci95"] = {name: one for name, one in row["ci95"].items() if name != "specificity"}
    return without


def test_intervals_of_annotated_metrics_do_not_depend_on_the_number_of_normal_images() -> None:
    alone, few, many = (tabulate(evaluation(count), ["patches"], 1, 200) for count in (0, 20, 200))
    for other in (few, many):
        assert without_specificity(alone["macro"]) == without_specificity(other["macro"])
        for part in ("structures", "groups"):
            assert alone[part]
            for one, two in zip(alone[part], other[part], strict=True):
                assert without_specificity(one["rows"]) == without_specificity(two["rows"])
    assert alone["macro"][0]["ci95"]["specificity"] is None
    widths = [np.ptp(made["macro"][0]["ci95"]["specificity"]) for made in (few, many)]
    assert widths[1] < 0.6 * widths[0], "ten times the normal subjects: about a third of the width"


def test_views_and_sexes_have_rows_of_their_own_annotations() -> None:
    made = evaluation(8)
    groups = tabulate(made, ["patches"], 1, 50)["groups"]
    assert [(group["group"], group["value"]) for group in groups] == [
        ("view", "ap"), ("view", "pa"), ("sex", "F"), ("sex", "M"),
    ]  # fmt: skip
    assert {group["group"] for group in groups} == set(GROUPS)
    for group in groups:
        own = [q for q in made.questions if getattr(q, group["group"]) == group["value"]]
        of_structure = [[q for q in own if q.structure == name] for name in ("Mass", "Effusion")]
        assert min(map(len, of_structure)) >= FEWEST
        assert (group["structures"], group["questions"]) == (2, len(own))
        assert group["subjects"] == len({q.subject for q in own})
        means = [np.mean([q.scores["patches"]["dice"] for q in part]) for part in of_structure]  # type: ignore[misc]
        assert group["rows"][0]["dice"]["mean"] == round(float(np.mean(means)), 6)
        assert group["rows"][0]["specificity"]["count"] == 2
