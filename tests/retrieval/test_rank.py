"""Ranking: k counts studies, order never depends on chance, and no study crowds out the others."""

import random
from itertools import pairwise

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retrieval.ranking.fusion import Found, Ranking, group, rank_studies

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def rankings(draw: st.DrawFn) -> list[Ranking]:
    def found(study: int, item: int, score: float) -> Found:
        return Found(f"s{study}#{item}", f"s{study}", "image", score)

    items = st.builds(found, st.integers(0, 12), st.integers(0, 5), st.floats(-1, 1, allow_nan=False))
    lists = draw(st.lists(st.lists(items, max_size=30), min_size=1, max_size=4))
    return [Ranking(f"r{i}", tuple(items)) for i, items in enumerate(lists)]


@patient
@given(rankings(), st.integers(1, 20))
def test_k_counts_studies_each_once_best_first(lists: list[Ranking], k: int) -> None:
    ranked = rank_studies(lists, k)
    known = {item.study_id for ranking in lists for item in ranking.items}
    assert len(ranked) == min(k, len(known))
    assert len({study.study_id for study in ranked}) == len(ranked)
    assert all(a.score >= b.score for a, b in pairwise(ranked))


@patient
@given(rankings(), st.integers(1, 20), st.randoms())
def test_the_order_in_which_a_store_answers_changes_nothing(
    lists: list[Ranking], k: int, chance: random.Random
) -> None:
    shuffled = [
        Ranking(r.name, tuple(chance.sample(r.items, len(r.items))), r.weight)
        for r in chance.sample(lists, len(lists))
    ]
    assert rank_studies(shuffled, k) == rank_studies(lists, k)


@patient
@given(rankings(), st.integers(1, 6))
def test_a_smaller_k_is_the_beginning_of_a_larger(lists: list[Ranking], k: int) -> None:
    assert rank_studies(lists, k) == rank_studies(lists, 50)[:k]


@patient
@given(rankings())
def test_a_study_carries_all_of_its_items_once_the_best_of_its_best_list_first(lists: list[Ranking]) -> None:
    for study in rank_studies(lists, 50):
        mine = {i.item_id for r in lists for i in r.items if i.study_id == study.study_id}
        assert sorted(item.item_id for item in study.evidence) == sorted(mine)


@patient
@given(rankings())
def test_scores_of_a_fusion_lie_in_zero_to_one_and_first_everywhere_is_one(lists: list[Ranking]) -> None:
    filled = [r for r in lists if r.items]
    ranked = rank_studies(lists, 50)
    if len(filled) > 1:
        assert all(0 < study.score <= 1 + 1e-12 for study in ranked)
        leaders = [next(iter(group(r.items))) for r in filled]
        if len(set(leaders)) == 1:
            assert ranked[0].study_id == leaders[0]
            assert abs(ranked[0].score - 1) < 1e-12


@patient
@given(rankings())
def test_what_the_lists_gave_adds_up_to_the_score(lists: list[Ranking]) -> None:
    for study in rank_studies(lists, 50):
        assert abs(sum(share.share for share in study.shares.values()) - study.score) < 1e-9


def test_five_hundred_sentences_of_one_study_take_one_place() -> None:
    loud = [Found(f"loud#report.{n}", "loud", "sentence", 0.9 - n / 10_000) for n in range(500)]
    quiet = [Found(f"q{n}#report.0", f"q{n}", "sentence", 0.5 - n / 100) for n in range(9)]
    ranked = rank_studies([Ranking("sentences", (*loud, *quiet))], 10)
    assert [study.study_id for study in ranked] == ["loud", *(f"q{n}" for n in range(9))]


def test_one_list_scores_by_its_cosine() -> None:
    items = (Found("a#1", "a", "image", 0.7), Found("b#1", "b", "image", 0.4))
    assert [study.score for study in rank_studies([Ranking("images", items)], 5)] == [0.7, 0.4]


def test_first_in_one_list_beats_far_down_in_both() -> None:
    images = [Found(f"p{n}#1", f"p{n}", "image", 0.9 - n / 100) for n in range(40)]
    reports = [Found(f"r{n}#report", f"r{n}", "report", 0.9 - n / 100) for n in range(40)]
    both = [images.pop(30), reports.pop(30)]
    images.insert(30, Found("both#1", "both", "image", both[0].score))
    reports.insert(30, Found("both#report", "both", "report", both[1].score))
    ranked = rank_studies([Ranking("images", tuple(images)), Ranking("reports", tuple(reports))], 80)
    places = {study.study_id: place for place, study in enumerate(ranked)}
    assert places["p0"] < places["both"] < places["p20"]


def test_studies_that_hold_the_same_sentence_share_their_place() -> None:
    same = [Found("sentence", f"s{n}", "sentence", 0.8) for n in range(30)]
    other = [Found(f"s{n}#1", f"s{n}", "image", n / 100) for n in range(30)]
    ranked = rank_studies([Ranking("sentences", tuple(same)), Ranking("images", tuple(other))], 30)
    assert {study.shares["sentences"].place for study in ranked} == {1}
    assert [study.study_id for study in ranked[:3]] == ["s29", "s28", "s27"]
