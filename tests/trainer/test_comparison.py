import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.findings import make_statuses
from corpus.statistics import draw_subjects
from tests.trainer.test_metrics import random_task
from trainer.evaluation.comparison import describe_differences, paired_bootstrap, score_runs
from trainer.evaluation.labels import Labels
from trainer.evaluation.metrics import Scored, Task, average, compare, pool
from trainer.evaluation.ranking import Ranking, no_pairs, rank
from trainer.evaluation.scoring import HEADLINE, rank_at_random, score_parts, score_ranking


def some_rankings(task: Task, seed: int, count: int = 3, skill: float = 0.0) -> list[Ranking]:
    """Answers that are noise, with `skill` times the true gain added."""
    rng = np.random.default_rng(seed)
    gains = compare(task.queries, task.gallery)
    return [rank(skill * gains + rng.normal(size=gains.shape), task.excluded) for _ in range(count)]


def test_on_two_subjects_the_difference_and_every_draw_are_those_counted_by_hand() -> None:
    statuses = [make_statuses(present=["edema"]), make_statuses(present=["hernia"])]
    labels = Labels.of(statuses)
    task = Task(labels, labels, np.array(["p", "q"]), no_pairs())
    both_right = score_runs([task], [[rank(np.eye(2))]])
    one_right = score_runs([task], [[rank(np.array([[1.0, 0.0], [1.0, 0.0]]))]])
    result = paired_bootstrap(both_right, one_right, draws=4000, seed=1)["precision_at.1"]
    assert (result.first, result.second, result.difference) == (1.0, 0.5, 0.5)
    # Drawn with replacement: p twice (no difference), q twice (1), one of each (a half).
    assert result.ci95 == (0.0, 1.0)
    assert result.first_better == pytest.approx(0.25 * 0.5 + 0.75, abs=0.02)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_method_against_itself_differs_by_nothing(seed: int) -> None:
    task = random_task(seed)
    scored = score_runs([task], [[ranking] for ranking in some_rankings(task, seed)])
    for result in paired_bootstrap(scored, scored, draws=50).values():
        assert result.difference in (0.0, None)
        assert result.first_better in (0.5, None)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_turning_the_two_about_turns_the_difference_about(seed: int) -> None:
    task = random_task(seed, queries=120)
    first, second = (score_runs([task], [[r] for r in some_rankings(task, seed + n)]) for n in (0, 1))
    there, back = paired_bootstrap(first, second, draws=60), paired_bootstrap(second, first, draws=60)
    for name in HEADLINE.values():
        assert there[name].difference == pytest.approx(-back[name].difference)  # type: ignore[operator]
        assert there[name].ci95 == pytest.approx(tuple(-bound for bound in reversed(back[name].ci95 or ())))
        assert there[name].first_better == pytest.approx(1 - (back[name].first_better or 0))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_mean_over_seeds_is_the_mean_of_each_seeds_metric_in_every_draw(seed: int) -> None:
    task = random_task(seed, queries=80)
    runs = some_rankings(task, seed)
    weights = np.concatenate(
        [np.ones((1, len(np.unique(task.subjects)))), draw_subjects(task.subjects, 20, 0)]
    )
    together = score_runs([task], [[ranking] for ranking in runs]).metrics(weights)
    apart = [Scored.of(ranking, task).metrics(weights) for ranking in runs]
    for name in HEADLINE.values():
        np.testing.assert_allclose(together[name], np.mean([one[name] for one in apart], axis=0), atol=1e-12)


def test_the_difference_of_a_draw_is_that_of_the_two_metrics_under_the_same_subjects() -> None:
    task = random_task(3, queries=120)
    first, second = (Scored.of(some_rankings(task, n, 1)[0], task) for n in (0, 1))
    weights = draw_subjects(task.subjects, 200, seed=9)
    result = paired_bootstrap(first, second, draws=200, seed=9)
    for name in HEADLINE.values():
        drawn = first.metrics(weights)[name] - second.metrics(weights)[name]
        assert result[name].ci95 == pytest.approx(tuple(np.percentile(drawn, [2.5, 97.5])))


def test_pairing_narrows_the_interval_of_methods_that_err_on_the_same_subjects() -> None:
    task = random_task(1, queries=300)
    strong = some_rankings(task, 0, 1, skill=1.0)[0]
    duplicate = strong.copy()
    duplicate[:15] = rank_at_random(task, np.random.default_rng(0))[:15]
    first, second = Scored.of(strong, task), Scored.of(duplicate, task)
    low, high = paired_bootstrap(first, second)["precision_at.1"].ci95 or (0.0, 0.0)
    alone = score_ranking(strong, task, baselines=False)["ci95"]["precision_at"]["1"]
    assert high - low < 0.5 * (alone[1] - alone[0])


def test_a_method_that_knows_more_is_better_in_nearly_every_draw() -> None:
    task = random_task(2, queries=200)
    better, worse = (score_runs([task], [[r] for r in some_rankings(task, 0, 3, s)]) for s in (2.0, 0.5))
    for result in paired_bootstrap(better, worse).values():
        assert result.first_better is not None
        assert result.first_better > 0.99
        assert result.ci95 is not None
        assert result.ci95[0] > 0


def test_answers_to_other_queries_are_refused() -> None:
    one, other = random_task(1), random_task(2)
    first, second = (Scored.of(some_rankings(task, 0, 1)[0], task) for task in (one, other))
    with pytest.raises(ValueError, match="same queries"):
        paired_bootstrap(first, second)
    with pytest.raises(ValueError, match="same queries"):
        average([first, second])


def test_what_could_not_be_measured_is_null_and_not_a_number() -> None:
    labels = Labels.of([make_statuses(present=["edema"])] * 3)
    task = Task(labels, labels, np.arange(3), no_pairs())
    scored = Scored.of(rank(np.eye(3)), task)
    result = describe_differences(paired_bootstrap(scored, scored, draws=10))
    assert set(result["lift_at_5"].values()) == {None}
    assert result["precision_at_1"]["ci95"] == [0.0, 0.0]


def test_folds_pool_their_queries_and_each_fold_keeps_its_gallery() -> None:
    tasks = [random_task(seed, queries=70 + 10 * seed) for seed in range(3)]
    tasks = [
        Task(t.queries, t.gallery, np.arange(len(t.queries)) + 1000 * n, no_pairs())
        for n, t in enumerate(tasks)
    ]
    rankings = [some_rankings(task, 0, 1)[0] for task in tasks]
    pooled = score_parts(rankings, tasks)
    apart = [score_ranking(*part, baselines=False) for part in zip(rankings, tasks, strict=True)]
    sizes = np.array([len(task.queries) for task in tasks])
    mean = np.average([scores["ndcg_at_10"] for scores in apart], weights=sizes)
    assert pooled["ndcg_at_10"] == pytest.approx(mean)
    for row in pooled["per_finding"]:
        parts = [next(r for r in scores["per_finding"] if r["finding"] == row["finding"]) for scores in apart]
        assert row["queries"] == sum(part["queries"] for part in parts)
        assert row["gallery"] == sum(part["gallery"] for part in parts)
    assert pooled["baselines"]["random"]["lift_at_5"]["macro"] == pytest.approx(0, abs=0.02)


def test_a_finding_that_one_folds_gallery_lacks_is_not_in_the_pooled_macro() -> None:
    full, scarce = random_task(0, gallery=200), random_task(1, gallery=200)
    present = scarce.gallery.present.copy()
    present[:, np.flatnonzero(present.any(axis=0))[0]] = False
    lacking = Task(scarce.queries, Labels(present, scarce.gallery.normal), scarce.subjects, no_pairs())
    parts = [Scored.of(some_rankings(task, 0, 1)[0], task) for task in (full, scarce, lacking)]
    assert len(pool([parts[0], parts[1]]).counted) == 5
    assert len(pool([parts[0], parts[2]]).counted) == 4
