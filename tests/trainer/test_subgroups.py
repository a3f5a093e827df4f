from dataclasses import replace

import numpy as np
import pytest

from corpus.findings import make_statuses
from corpus.records import ImageRef, Study
from tests.trainer.test_comparison import some_rankings
from tests.trainer.test_metrics import random_task
from trainer.evaluation.gallery import Item
from trainer.evaluation.metrics import Scored
from trainer.evaluation.scoring import score_ranking
from trainer.evaluation.subgroups import GROUPS, age_group, group_items, score_groups

RADIOGRAPH = ImageRef("s:1#f", "1.png", view="ap")
STUDY = Study(
    "s:1", "s:p1", "s", (ImageRef("s:1#side", "2.png", view="lateral"), RADIOGRAPH), age=64.9, sex="F"
)
ITEM = Item("s:1#f", "image", STUDY, "1.png", make_statuses(["edema"]), frozenset(), frozenset())


def everyone(count: int, **groups: list[str]) -> dict[str, list[str]]:
    return {by: groups.get(by, ["unknown"] * count) for by in GROUPS}


@pytest.mark.parametrize(
    ("age", "group"),
    [
        (0.0, "0-17"), (17.99, "0-17"), (18, "18-39"), (39.9, "18-39"), (40, "40-64"), (64.9, "40-64"),
        (65, "65+"), (119, "65+"), (None, "unknown"),
    ],
)  # fmt: skip
def test_every_age_has_one_group(age: float | None, group: str) -> None:
    assert age_group(age) == group


def test_a_radiograph_is_grouped_by_its_own_view_and_its_studys_subject_and_a_report_has_no_view() -> None:
    unknown = replace(ITEM, study=replace(STUDY, sex=None, age=None))
    report = replace(ITEM, item_id="s:1#report", kind="report")
    assert group_items([ITEM, unknown, report]) == {
        "view": ["ap", "ap", "unknown"],
        "sex": ["F", "unknown", "F"],
        "age": ["40-64", "unknown", "40-64"],
    }


def test_a_group_scores_as_its_queries_would_alone() -> None:
    task = random_task(0, queries=200)
    ranking = some_rankings(task, 0, 1, skill=1.0)[0]
    half = np.arange(200) < 100
    sexes = ["F" if first else "M" for first in half]
    rows = score_groups(Scored.of(ranking, task), everyone(200, sex=sexes), seed=2)
    alone = replace(task, queries=task.queries.take(half), subjects=task.subjects[half])
    scores = score_ranking(ranking[half], alone, seed=2, baselines=False)
    row = next(row for row in rows if (row["by"], row["group"]) == ("sex", "F"))
    assert row["queries"] == 100
    assert row["precision_at_1"] == scores["precision_at"]["1"]
    assert row["precision_at_5"] == scores["precision_at"]["5"]
    assert row["lift_at_5"] == scores["lift_at_5"]["macro"]
    assert row["ndcg_at_10"] == scores["ndcg_at_10"]
    assert row["ci95"]["lift_at_5"] == scores["ci95"]["lift_at_5"]["macro"]


def test_every_query_is_in_one_group_of_each_kind_and_empty_groups_have_no_row() -> None:
    task = random_task(1)
    scored = Scored.of(some_rankings(task, 0, 1)[0], task)
    views = ["pa", "ap", "lateral"] * 20
    rows = score_groups(scored, everyone(60, view=views), draws=10)
    assert [(row["by"], row["group"]) for row in rows] == [
        ("view", "pa"), ("view", "ap"), ("view", "lateral"), ("sex", "unknown"), ("age", "unknown"),
    ]  # fmt: skip
    for by in GROUPS:
        assert sum(row["queries"] for row in rows if row["by"] == by) == 60


def test_a_group_of_fewer_than_ten_queries_says_how_many_and_nothing_else() -> None:
    task = random_task(1)
    scored = Scored.of(some_rankings(task, 0, 1)[0], task)
    rows = score_groups(scored, everyone(60, sex=["F"] * 9 + ["M"] * 51), draws=10)
    few = next(row for row in rows if row["group"] == "F")
    assert few["queries"] == 9
    assert few["precision_at_1"] is few["lift_at_5"] is few["ndcg_at_10"] is None
    assert set(few["ci95"].values()) == {None}
