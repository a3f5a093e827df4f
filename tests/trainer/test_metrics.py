import numpy as np
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from corpus.findings import make_statuses
from corpus.statistics import draw_subjects
from trainer.evaluation.labels import LEAVES, Labels
from trainer.evaluation.metrics import (
    MIN_GALLERY,
    MIN_QUERIES,
    PRECISION_AT,
    RECALL_AT,
    Scored,
    Task,
    compare,
    hit_pairs,
    ideal_gains,
    ndcg,
    score_queries,
)
from trainer.evaluation.ranking import Pairs, no_pairs, rank, rank_vectors
from trainer.evaluation.scoring import chance, rank_at_random, rank_constant, score_ranking, score_vectors

PNEUMONIA, EDEMA, HERNIA = (LEAVES.index(name) for name in ("pneumonia", "edema", "hernia"))


def random_labels(rng: np.random.Generator, count: int, findings: int = 5, share: float = 0.3) -> Labels:
    """Items that are normal (about a third) or have at least one of the first few leaf findings."""
    normal = rng.random(count) < 0.35
    present = np.zeros((count, len(LEAVES)), dtype=np.bool_)
    present[:, :findings] = rng.random((count, findings)) < share
    present[np.arange(count), rng.integers(0, findings, count)] = True
    present[normal] = False
    return Labels(present, normal)


def random_task(seed: int, queries: int = 60, gallery: int = 90) -> Task:
    rng = np.random.default_rng(seed)
    return Task(
        random_labels(rng, queries),
        random_labels(rng, gallery),
        rng.integers(0, queries // 2, queries),
        no_pairs(),
    )


def measure(ranking: NDArray[np.int64], task: Task) -> dict[str, float]:
    return {name: float(value[0]) for name, value in Scored.of(ranking, task).metrics().items()}


def counted_findings(task: Task) -> tuple[str, ...]:
    return Scored.of(rank_constant(task), task).counted


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), grades=st.integers(1, 4))
def test_graded_ndcg_and_recall_agree_with_trec_eval_on_random_rankings(seed: int, grades: int) -> None:
    rng = np.random.default_rng(seed)
    queries, gallery = 8, 30
    gains = rng.integers(0, grades + 1, (queries, gallery)) * (rng.random((queries, gallery)) < 0.4)
    scores = rng.permuted(np.tile(np.arange(gallery, dtype=np.float64), (queries, 1)), axis=1)
    ranking = rank(scores)
    ranked = np.take_along_axis(gains, ranking, axis=1).astype(np.float64)
    ideal = -np.sort(-gains, axis=1)[:, :10].astype(np.float64)
    pairs: Pairs = np.argwhere(gains > 0)

    truth = {f"q{q}": {f"d{d}": int(gains[q, d]) for d in range(gallery)} for q in range(queries)}
    run = {f"q{q}": {f"d{d}": float(scores[q, d]) for d in range(gallery)} for q in range(queries)}
    wanted = {"ndcg_cut.10", "recall.1,5,10"}
    scored = pytrec_eval.RelevanceEvaluator(truth, wanted).evaluate(run)

    def theirs(name: str) -> list[float]:
        return [scored[f"q{q}"][name] for q in range(queries)]

    np.testing.assert_allclose(ndcg(ranked, ideal), theirs("ndcg_cut_10"), atol=1e-9)
    owed = np.maximum((gains > 0).sum(axis=1), 1)
    for k in (1, 5, 10):
        np.testing.assert_allclose(hit_pairs(ranking, pairs, k) / owed, theirs(f"recall_{k}"), atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), gallery=st.integers(3, 40))
def test_scores_by_findings_agree_with_trec_eval_where_pairs_are_excluded_and_galleries_small(
    seed: int, gallery: int
) -> None:
    rng = np.random.default_rng(seed)
    task = random_task(seed, queries=12, gallery=gallery)
    chosen = rng.random((12, gallery))
    task = Task(
        task.queries,
        task.gallery,
        task.subjects,
        excluded=np.argwhere(chosen < 0.1),
        true_pairs=np.argwhere((chosen > 0.8) & (rng.random((12, 1)) < 0.7)),
    )
    scores = rng.permuted(np.tile(np.arange(gallery, dtype=np.float64), (12, 1)), axis=1)
    ours = score_queries(rank(scores, task.excluded), task)

    # Gains are n/1 to n/5 with these five findings: sixty times them are the whole numbers trec_eval reads.
    gains = np.rint(60 * compare(task.queries, task.gallery)).astype(int)
    pairs = {(int(q), int(d)) for q, d in task.true_pairs}  # type: ignore[union-attr]
    allowed = {q: [d for d in range(gallery) if chosen[q, d] >= 0.1] for q in range(12)}
    run = {f"q{q}": {f"d{d}": float(scores[q, d]) for d in available} for q, available in allowed.items()}
    by_findings = {
        f"q{q}": {f"d{d}": int(gains[q, d]) for d in available} for q, available in allowed.items()
    }
    by_study = {
        f"q{q}": {f"d{d}": int((q, d) in pairs) for d in available} for q, available in allowed.items()
    }
    findings = pytrec_eval.RelevanceEvaluator(by_findings, {"ndcg_cut.10", "P.1,2,5,10"}).evaluate(run)
    studies = pytrec_eval.RelevanceEvaluator(by_study, {"recall.1,5,10"}).evaluate(run)

    scored = [
        *((f"precision_at.{k}", findings, f"P_{k}") for k in PRECISION_AT),
        ("ndcg_at_10", findings, "ndcg_cut_10"),
        *((f"recall_at.{k}", studies, f"recall_{k}") for k in RECALL_AT),
    ]
    for name, theirs, theirs_name in scored:
        top, bottom = ours[name]
        requested = bottom > 0
        values = np.array([theirs.get(f"q{q}", {}).get(theirs_name, 0.0) for q in range(12)])
        np.testing.assert_allclose((top[requested] / bottom[requested]), values[requested], atol=1e-9)
        assert not values[~requested].any()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_metrics_equal_a_plain_loop_over_the_contracts_words(seed: int) -> None:
    task = random_task(seed, queries=30, gallery=40)
    ranking = rank(np.random.default_rng(seed).normal(size=(30, 40)))
    requested, available = (
        [
            ({LEAVES[c] for c in np.nonzero(side.present[i])[0]}, bool(side.normal[i]))
            for i in range(len(side))
        ]
        for side in (task.queries, task.gallery)
    )

    def gain(query: int, item: int) -> float:
        (mine, normal), (theirs, also_normal) = requested[query], available[item]
        return 1.0 if normal and also_normal else len(mine & theirs) / max(len(mine | theirs), 1)

    discounts = [1 / np.log2(position + 2) for position in range(10)]
    p5, ndcgs = [], []
    for query in range(30):
        p5.append(sum(gain(query, item) > 0 for item in ranking[query, :5]) / 5)
        best = sorted((gain(query, item) for item in range(40)), reverse=True)[:10]
        ideal = sum(g * d for g, d in zip(best, discounts, strict=True))
        got = sum(gain(query, int(i)) * d for i, d in zip(ranking[query], discounts, strict=True))
        ndcgs.append(got / ideal if ideal else 0.0)
    measured = measure(ranking, task)
    assert measured["precision_at.5"] == pytest.approx(np.mean(p5))
    assert measured["ndcg_at_10"] == pytest.approx(np.mean(ndcgs))

    lifts = []
    for leaf in LEAVES:
        share = [sum(leaf in available[i][0] for i in ranking[query, :5]) / 5 for query in range(30)]
        having = [share[q] for q in range(30) if leaf in requested[q][0]]
        foils = [share[q] for q in range(30) if leaf not in requested[q][0] and not requested[q][1]]
        if len(having) >= 10 and foils and sum(leaf in h[0] for h in available) >= 8:
            lifts.append(np.mean(having) - np.mean(foils))
    assert measured["lift_at_5.macro"] == pytest.approx(np.mean(lifts) if lifts else np.nan, nan_ok=True)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_constant_answer_has_lift_exactly_zero(seed: int) -> None:
    task = random_task(seed)
    order = np.random.default_rng(seed).permutation(len(task.gallery))[:10]
    for ranking in (np.tile(order, (len(task.queries), 1)), rank_constant(task)):
        measured = measure(ranking, task)
        assert all(measured[f"lift_at_5.{name}"] == 0 for name in (*counted_findings(task), "macro"))


def test_no_constant_answer_beats_the_constant_baseline() -> None:
    task = random_task(3)
    best = measure(rank_constant(task), task)["precision_at.1"]
    for item in range(len(task.gallery)):
        order = np.tile([item, *(i for i in range(10) if i != item)], (len(task.queries), 1))
        assert measure(order[:, :10], task)["precision_at.1"] <= best + 1e-12


def test_chance_and_a_perfect_normal_abnormal_classifier_lift_nothing_in_expectation() -> None:
    task = random_task(5, queries=300, gallery=300)
    # A device on a normal radiograph must not smuggle its normal neighbours into the comparison.
    device = LEAVES.index("support_devices")
    present = [side.present.copy() for side in (task.queries, task.gallery)]
    for table in present:
        table[::3, device] = True
    task = Task(
        Labels(present[0], task.queries.normal),
        Labels(present[1], task.gallery.normal),
        task.subjects,
        no_pairs(),
    )
    assert "support_devices" in counted_findings(task)
    rng = np.random.default_rng(0)
    for by_normal in (False, True):
        macros = [measure(rank_at_random(task, rng, by_normal), task)["lift_at_5.macro"] for _ in range(60)]
        assert abs(np.mean(macros)) < 4 * np.std(macros) / np.sqrt(len(macros))


def test_the_normal_abnormal_baseline_never_mistakes_one_for_the_other() -> None:
    task = random_task(1)
    ranking = rank_at_random(task, np.random.default_rng(0), by_normal=True)
    assert (task.gallery.normal[ranking] == task.queries.normal[:, None]).all()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_an_oracle_has_ndcg_one_wherever_the_gallery_holds_a_match(seed: int) -> None:
    task = random_task(seed)
    ranking = rank(compare(task.queries, task.gallery))
    gained, requested = score_queries(ranking, task)["ndcg_at_10"]
    answerable = ideal_gains(task)[:, 0] > 0
    np.testing.assert_allclose(gained[answerable], requested[answerable])
    assert (gained[~answerable] == 0).all()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_order_of_the_gallery_does_not_matter(seed: int) -> None:
    task = random_task(seed)
    rng = np.random.default_rng(seed)
    similarity = rng.normal(size=(len(task.queries), len(task.gallery)))
    order = rng.permutation(len(task.gallery))
    shuffled = Task(task.queries, task.gallery.take(order), task.subjects, task.excluded)
    first = measure(rank(similarity), task)
    second = measure(rank(similarity[:, order]), shuffled)
    assert first == pytest.approx(second, nan_ok=True, abs=1e-12)


def test_two_normals_match_fully_whatever_devices_they_carry_and_a_normal_matches_no_finding() -> None:
    normal = make_statuses(present=["no_finding"])
    tubed = make_statuses(present=["no_finding", "support_devices"])
    sick = make_statuses(present=["edema", "pneumonia"])
    half = make_statuses(present=["edema"], uncertain=["pneumonia"])
    labels = Labels.of([normal, tubed, sick, half])
    np.testing.assert_array_equal(
        compare(labels, labels), [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0.5], [0, 0, 0.5, 1]]
    )


def test_a_shared_parent_is_no_match_for_leaves_count_only() -> None:
    labels = Labels.of([make_statuses(present=["edema"]), make_statuses(present=["pneumonia"])])
    assert compare(labels, labels)[0, 1] == 0


def test_an_item_of_which_only_absences_or_parents_are_known_is_not_known() -> None:
    labels = Labels.of(
        [
            make_statuses(absent=["edema"]),
            make_statuses(present=["lung_opacity"]),
            {},
            make_statuses(present=["mass"]),
        ]
    )
    assert labels.known.tolist() == [False, False, False, True]


def test_ranks_without_a_hit_are_misses() -> None:
    labels = Labels.of([make_statuses(present=["hernia"])] * 2)
    task = Task(labels, labels, np.arange(2), no_pairs())
    measured = measure(rank(np.ones((2, 2))), task)
    assert measured["precision_at.2"] == 1
    assert measured["precision_at.10"] == pytest.approx(0.2)


def test_excluded_pairs_are_never_answered_and_leave_the_ideal() -> None:
    labels = Labels.of([make_statuses(present=["hernia"]), make_statuses(present=["edema"])])
    own: Pairs = np.array([[0, 0], [1, 1]])
    ranking = rank(np.eye(2), own)
    assert ranking[:, :2].tolist() == [[1, -1], [0, -1]]
    assert (ideal_gains(Task(labels, labels, np.arange(2), own)) == 0).all()


def test_blocks_of_queries_rank_as_the_whole_does() -> None:
    rng = np.random.default_rng(0)
    queries, gallery = rng.normal(size=(600, 8)), rng.normal(size=(50, 8))
    own = np.stack([np.arange(600), np.arange(600) % 50], axis=1)
    np.testing.assert_array_equal(rank_vectors(queries, gallery, own), rank(queries @ gallery.T, own))


def test_ties_go_to_the_earlier_item_on_every_machine() -> None:
    assert rank(np.array([[0.5, 1.0, 0.5, 1.0, 0.5]]), depth=4).tolist() == [[1, 3, 0, 2]]


def test_a_nan_similarity_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        rank(np.array([[0.1, np.nan]]))


def test_a_finding_counts_from_ten_queries_and_eight_items_on() -> None:
    def task(queries: int, gallery: int) -> Task:
        requested = [make_statuses(present=["hernia"])] * queries + [make_statuses(present=["edema"])]
        available = [make_statuses(present=["hernia"])] * gallery
        return Task(Labels.of(requested), Labels.of(available), np.arange(queries + 1), no_pairs())

    assert counted_findings(task(MIN_QUERIES, MIN_GALLERY)) == ("hernia",)
    assert counted_findings(task(MIN_QUERIES - 1, MIN_GALLERY)) == ()
    assert counted_findings(task(MIN_QUERIES, MIN_GALLERY - 1)) == ()


def test_the_bootstrap_draws_whole_subjects_and_repeats_itself_by_its_seed() -> None:
    subjects = np.array(["a", "a", "b", "c", "c", "c"])
    draws = draw_subjects(subjects, 500, seed=7)
    assert draws.shape == (500, 3)
    assert (draws.sum(axis=1) == 3).all()
    np.testing.assert_array_equal(draws, draw_subjects(subjects, 500, seed=7))
    assert not np.array_equal(draws, draw_subjects(subjects, 500, seed=8))


def test_many_images_of_one_subject_do_not_narrow_the_interval() -> None:
    task = random_task(2)
    task = Task(task.queries, task.gallery, np.arange(len(task.queries)), no_pairs())
    ranking = rank_at_random(task, np.random.default_rng(0))
    single = score_ranking(ranking, task, baselines=False)
    copies = np.repeat(np.arange(len(task.queries)), 4)
    fourfold = Task(task.queries.take(copies), task.gallery, copies, no_pairs())
    again = score_ranking(ranking[copies], fourfold, baselines=False)
    assert again["ci95"]["precision_at"] == single["ci95"]["precision_at"]


def test_an_interval_holds_its_estimate_and_the_same_seed_gives_the_same_scores() -> None:
    task = random_task(4)
    ranking = rank_at_random(task, np.random.default_rng(1))
    scores = score_ranking(ranking, task, seed=3)
    assert scores == score_ranking(ranking, task, seed=3)
    assert scores != score_ranking(ranking, task, seed=4)
    low, high = scores["ci95"]["lift_at_5"]["macro"]
    assert low < scores["lift_at_5"]["macro"] < high
    assert "Chance here is P@1" in chance(scores)


def test_an_encoder_that_knows_one_finding_lifts_that_finding() -> None:
    rng = np.random.default_rng(0)
    statuses = [make_statuses(present=["edema"])] * 40 + [make_statuses(present=["hernia"])] * 40
    vectors = rng.normal(size=(80, 16)) * 0.3
    vectors[:40, 0] += 3
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    unknown = [make_statuses(absent=["edema"])]
    scores = score_vectors(
        np.concatenate([vectors, vectors[:1]]), vectors, statuses + unknown, statuses, draws=50
    )
    assert scores["lift_at_5"]["findings"]["edema"] > 0.8
    assert scores["baselines"]["random"]["lift_at_5"]["macro"] == pytest.approx(0, abs=0.05)
    rows = {row["finding"]: row for row in scores["per_finding"]}
    assert rows["edema"]["queries"] == 40
    assert rows["edema"]["precision_at_5"] > 0.9
