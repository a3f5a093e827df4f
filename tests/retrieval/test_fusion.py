"""Ranking: k counts studies, order never depends on chance, and no study crowds out the others."""

import random
from itertools import pairwise

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retrieval.ranking.fusion import FoundItem, Ranking, fuse_rankings, group_by_study

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def rankings(draw: st.DrawFn) -> list[Ranking]:
    def found(study: int, item: int, score: float) -> FoundItem:
        return FoundItem(f"s{study}#{item}", f"s{study}", "image", score)

    items = st.builds(found, st.integers(0, 12), st.integers(0, 5), st.floats(-1, 1, allow_nan=False))
    lists = draw(st.lists(st.lists(items, max_size=30), min_size=1, max_size=4))
    return [Ranking(f"r{i}", tuple(items)) for i, items in enumerate(lists)]


@patient
@given(rankings(), st.integers(1, 20))
def test_k_counts_studies_each_once_best_first(lists: list[Ranking], k: int) -> None:
    ranked = fuse_rankings(lists, k)
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
    assert fuse_rankings(shuffled, k) == fuse_rankings(lists, k)


@patient
@given(rankings(), st.integers(1, 6))
def test_a_smaller_k_is_the_beginning_of_a_larger(lists: list[Ranking], k: int) -> None:
    assert fuse_rankings(lists, k) == fuse_rankings(lists, 50)[:k]


@patient
@given(rankings())
def test_the_evidence_of_a_study_is_each_of_its_items_once(lists: list[Ranking]) -> None:
    for study in fuse_rankings(lists, 50):
        mine = {i.item_id for r in lists for i in r.items if i.study_id == study.study_id}
        assert sorted(item.item_id for item in study.evidence) == sorted(mine)


@patient
@given(rankings())
def test_fused_scores_are_in_zero_to_one_and_first_in_every_ranking_is_one(lists: list[Ranking]) -> None:
    filled = [r for r in lists if r.items]
    ranked = fuse_rankings(lists, 50)
    if len(filled) > 1:
        assert all(0 < study.score <= 1 + 1e-12 for study in ranked)
        leaders = [next(iter(group_by_study(r.items))) for r in filled]
        if len(set(leaders)) == 1:
            assert ranked[0].study_id == leaders[0]
            assert abs(ranked[0].score - 1) < 1e-12


@patient
@given(rankings())
def test_the_shares_of_the_rankings_add_up_to_the_score(lists: list[Ranking]) -> None:
    for study in fuse_rankings(lists, 50):
        assert abs(sum(share.share for share in study.shares.values()) - study.score) < 1e-9


def test_five_hundred_sentences_of_one_study_take_one_rank() -> None:
    loud = [FoundItem(f"loud#report.{n}", "loud", "sentence", 0.9 - n / 10_000) for n in range(500)]
    quiet = [FoundItem(f"q{n}#report.0", f"q{n}", "sentence", 0.5 - n / 100) for n in range(9)]
    ranked = fuse_rankings([Ranking("sentences", (*loud, *quiet))], 10)
    assert [study.study_id for study in ranked] == ["loud", *(f"q{n}" for n in range(9))]


def test_a_single_ranking_scores_by_its_cosine() -> None:
    items = (FoundItem("a#1", "a", "image", 0.7), FoundItem("b#1", "b", "image", 0.4))
    assert [study.score for study in fuse_rankings([Ranking("images", items)], 5)] == [0.7, 0.4]


def test_first_in_one_ranking_beats_a_low_rank_in_both() -> None:
    images = [FoundItem(f"p{n}#1", f"p{n}", "image", 0.9 - n / 100) for n in range(40)]
    reports = [FoundItem(f"r{n}#report", f"r{n}", "report", 0.9 - n / 100) for n in range(40)]
    both = [images.pop(30), reports.pop(30)]
    images.insert(30, FoundItem("both#1", "both", "image", both[0].score))
    reports.insert(30, FoundItem("both#report", "both", "report", both[1].score))
    ranked = fuse_rankings([Ranking("images", tuple(images)), Ranking("reports", tuple(reports))], 80)
    ranks = {study.study_id: rank for rank, study in enumerate(ranked)}
    assert ranks["p0"] < ranks["both"] < ranks["p20"]


def test_studies_with_the_same_sentence_share_their_rank() -> None:
    same = [FoundItem("sentence", f"s{n}", "sentence", 0.8) for n in range(30)]
    other = [FoundItem(f"s{n}#1", f"s{n}", "image", n / 100) for n in range(30)]
    ranked = fuse_rankings([Ranking("sentences", tuple(same)), Ranking("images", tuple(other))], 30)
    assert {study.shares["sentences"].rank for study in ranked} == {1}
    assert [study.study_id for study in ranked[:3]] == ["s29", "s28", "s27"]
