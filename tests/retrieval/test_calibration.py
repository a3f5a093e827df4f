"""Promises are kept as often as they say, whatever the search is worth; too few people make none."""

from collections.abc import Sequence

import numpy as np
import pytest

from corpus.findings import Status, Statuses
from retrieval.reliability.conformal import (
    FEWEST_PEOPLE,
    LEVEL,
    Guarantee,
    Line,
    Searched,
    calibrate,
    marks,
    shared,
)

FINDINGS = ("edema", "nodule", "pleural_effusion", "fracture")


def present(*names: str) -> Statuses:
    return dict.fromkeys(names, Status.PRESENT)


def statuses(hits: Sequence[frozenset[str]]) -> list[Statuses]:
    return [present(*hit) for hit in hits]


def people(count: int, skill: float, seed: int) -> list[Searched]:
    """Films whose hits share their finding with a probability that differs from film to film."""
    random = np.random.default_rng(seed)
    films = []
    for _ in range(count):
        own = FINDINGS[random.integers(4)]
        luck = random.beta(4 * skill, 4 * (1 - skill))
        drawn = [own if random.random() < luck else FINDINGS[random.integers(4)] for _ in range(10)]
        films.append(Searched(frozenset({own}), [frozenset({one}) for one in drawn]))
    return films


@pytest.mark.parametrize("skill", [0.2, 0.5, 0.9])
def test_a_promise_is_kept_nine_times_in_ten(skill: float) -> None:
    kept: list[bool] = []
    for seed in range(6):
        guarantee = calibrate({"cases": people(600, skill, seed)})
        assert guarantee is not None
        for film in people(600, skill, seed + 1_000):
            promised = guarantee.promised("cases", statuses(film.hits))
            assert promised is not None
            if promised:
                kept.append(shared(film.own, film.hits) >= promised)
    assert len(kept) > 100
    assert np.mean(kept) == pytest.approx(LEVEL, abs=0.03)


def test_a_better_search_promises_more() -> None:
    means = []
    for skill in (0.3, 0.6, 0.95):
        guarantee = calibrate({"cases": people(800, skill, 1)})
        assert guarantee is not None
        means.append(np.mean([guarantee.promised("cases", statuses(f.hits)) for f in people(300, skill, 2)]))
    assert means[0] < means[1] < means[2]


def test_twelve_people_promise_nothing() -> None:
    assert calibrate({"cases": people(12, 0.9, 0)}) is None
    assert calibrate({"cases": people(FEWEST_PEOPLE - 1, 0.9, 0)}) is None


def test_a_guarantee_is_the_same_after_it_was_kept() -> None:
    guarantee = calibrate({"cases": people(200, 0.7, 3)})
    assert guarantee is not None
    again = Guarantee.from_json(guarantee.as_json())
    films = people(50, 0.7, 4)
    assert [again.promised("cases", statuses(f.hits)) for f in films] == [
        guarantee.promised("cases", statuses(f.hits)) for f in films
    ]
    assert again.promised("cases", [present("edema")] * 51) is None
    assert again.promised("images", statuses(films[0].hits)) is None


def test_the_main_finding_is_the_one_that_most_hits_have() -> None:
    hits = [present("nodule"), present("nodule", "fracture"), present("edema"), {}]
    assert shared(marks(present("edema", "nodule")), [marks(hit) for hit in hits]) == 2
    normal = marks({"no_finding": Status.PRESENT})
    assert shared(normal, [normal, marks(present("edema"))]) == 1
    assert marks({}) == marks({"edema": Status.ABSENT}) == frozenset()


def test_an_answer_of_a_group_that_promises_nothing_is_promised_nothing() -> None:
    """Not by the line of the others, either: for them it may hold, for this group it was found not to."""
    silent = Guarantee({"cases": {1: {"edema": None, "rest": Line((1.0, 0.0, 0.0), 0.5, 0.0, 99)}}}, 200)
    assert silent.promised("cases", [present("edema")]) == 0
    assert silent.promised("cases", [present("nodule")]) == 1
