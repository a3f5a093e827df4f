"""Promises hold as often as their level says, whatever the search is worth; too few subjects make none."""

from collections.abc import Sequence

import numpy as np
import pytest

from corpus.findings import Status, Statuses
from retrieval.reliability.conformal import (
    FEWEST_SUBJECTS,
    LEVEL,
    Guarantee,
    LabelledSearch,
    LowerBound,
    count_sharing,
    fit_guarantee,
    leaf_findings,
)

FINDINGS = ("edema", "nodule", "pleural_effusion", "fracture")


def present(*names: str) -> Statuses:
    return dict.fromkeys(names, Status.PRESENT)


def statuses(hits: Sequence[frozenset[str]]) -> list[Statuses]:
    return [present(*hit) for hit in hits]


def searches(count: int, skill: float, seed: int) -> list[LabelledSearch]:
    """Searches with hits that share the finding with a probability that differs from search to search."""
    random = np.random.default_rng(seed)
    drawn_searches = []
    for _ in range(count):
        own = FINDINGS[random.integers(4)]
        luck = random.beta(4 * skill, 4 * (1 - skill))
        drawn = [own if random.random() < luck else FINDINGS[random.integers(4)] for _ in range(10)]
        drawn_searches.append(LabelledSearch(frozenset({own}), [frozenset({one}) for one in drawn]))
    return drawn_searches


@pytest.mark.parametrize("skill", [0.2, 0.5, 0.9])
def test_a_promise_holds_nine_times_in_ten(skill: float) -> None:
    holds: list[bool] = []
    for seed in range(6):
        guarantee = fit_guarantee({"cases": searches(600, skill, seed)})
        assert guarantee is not None
        for search in searches(600, skill, seed + 1_000):
            promised = guarantee.promised("cases", statuses(search.hits))
            assert promised is not None
            if promised:
                holds.append(count_sharing(search.own, search.hits) >= promised)
    assert len(holds) > 100
    assert np.mean(holds) == pytest.approx(LEVEL, abs=0.03)


def test_a_better_search_promises_more() -> None:
    means = []
    for skill in (0.3, 0.6, 0.95):
        guarantee = fit_guarantee({"cases": searches(800, skill, 1)})
        assert guarantee is not None
        means.append(
            np.mean([guarantee.promised("cases", statuses(f.hits)) for f in searches(300, skill, 2)])
        )
    assert means[0] < means[1] < means[2]


def test_too_few_subjects_make_no_promise() -> None:
    assert fit_guarantee({"cases": searches(12, 0.9, 0)}) is None
    assert fit_guarantee({"cases": searches(FEWEST_SUBJECTS - 1, 0.9, 0)}) is None


def test_a_guarantee_is_the_same_after_it_was_stored() -> None:
    guarantee = fit_guarantee({"cases": searches(200, 0.7, 3)})
    assert guarantee is not None
    again = Guarantee.from_json(guarantee.as_json())
    drawn_searches = searches(50, 0.7, 4)
    assert [again.promised("cases", statuses(f.hits)) for f in drawn_searches] == [
        guarantee.promised("cases", statuses(f.hits)) for f in drawn_searches
    ]
    assert again.promised("cases", [present("edema")] * 51) is None
    assert again.promised("images", statuses(drawn_searches[0].hits)) is None


def test_the_main_finding_is_the_one_that_most_hits_have() -> None:
    hits = [present("nodule"), present("nodule", "fracture"), present("edema"), {}]
    assert count_sharing(leaf_findings(present("edema", "nodule")), [leaf_findings(hit) for hit in hits]) == 2
    normal = leaf_findings({"no_finding": Status.PRESENT})
    assert count_sharing(normal, [normal, leaf_findings(present("edema"))]) == 1
    assert leaf_findings({}) == leaf_findings({"edema": Status.ABSENT}) == frozenset()


def test_a_group_without_a_bound_is_promised_nothing() -> None:
    """Not by the line of the others, either: for them it may hold, for this group it was found not to."""
    silent = Guarantee(
        {"cases": {1: {"edema": None, "rest": LowerBound((1.0, 0.0, 0.0), 0.5, 0.0, 99)}}}, 200
    )
    assert silent.promised("cases", [present("edema")]) == 0
    assert silent.promised("cases", [present("nodule")]) == 1
