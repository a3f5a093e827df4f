"""Votes become probabilities that mean what they say, and only what is likely enough is stated."""

import json

import numpy as np
import pytest

from corpus.findings import Status, Statuses
from corpus.records import Study
from retrieval.draft.neighbours import KINDS, Neighbour, weights
from retrieval.draft.votes import FEWEST_FILMS, NAMES, SIDES, Ballot, Calibration, calibrate, vote

FREQUENCY = 0.25
EVERYONE = {kind: {status: dict.fromkeys(NAMES, FREQUENCY) for status in SIDES} for kind in KINDS}


def neighbours(shows: list[bool]) -> list[Neighbour]:
    """Neighbours of which some show a nodule; the others are free of it."""
    found: list[Statuses] = [{"nodule": Status.PRESENT if shown else Status.ABSENT} for shown in shows]
    return [Neighbour(Study(f"s{n}", f"p{n}", "x", findings=f), "report", 0.5) for n, f in enumerate(found)]


def cohort(count: int, seed: int) -> tuple[list[Ballot], list[Statuses]]:
    """Films with a nodule have more neighbours with one, by chance and not always."""
    random = np.random.default_rng(seed)
    ballots, truths = [], []
    for _ in range(count):
        nodule = random.random() < FREQUENCY
        shows = list(random.random(20) < random.beta(*((4, 6) if nodule else (2, 8))))
        ballots.append(Ballot({"report": neighbours(shows)}))
        truths.append({"nodule": Status.PRESENT if nodule else Status.ABSENT})
    return ballots, truths


@pytest.fixture(scope="module")
def learned() -> Calibration:
    calibration = calibrate(*cohort(400, 0), EVERYONE)
    assert calibration is not None
    return calibration


def nodule(ballot: Ballot, calibration: Calibration | None, status: Status = Status.PRESENT) -> float:
    return next(
        v.probability for v in vote(ballot, calibration) if (v.finding, v.status) == ("nodule", status)
    )


def test_among_films_said_to_have_a_finding_with_a_probability_so_many_have_it(learned: Calibration) -> None:
    ballots, truths = cohort(1_000, 1)
    told = np.array([nodule(ballot, learned) for ballot in ballots])
    held = np.array([truth["nodule"] is Status.PRESENT for truth in truths])
    for low, high in ((0.0, 0.2), (0.2, 0.4), (0.4, 1.0)):
        inside = (told >= low) & (told < high)
        assert inside.sum() > 50
        assert held[inside].mean() == pytest.approx(told[inside].mean(), abs=0.08)


def test_more_neighbours_with_a_finding_make_it_likelier(learned: Calibration) -> None:
    told = [
        nodule(Ballot({"report": neighbours([True] * n + [False] * (20 - n))}), learned) for n in (1, 6, 15)
    ]
    assert told[0] < told[1] < told[2]


def test_what_passes_is_the_gates_and_two_neighbours_at_least(learned: Calibration) -> None:
    gate = learned.scales[Status.PRESENT].gate
    for shows in ([True] * 12 + [False] * 8, [False] * 20):
        for one in vote(Ballot({"report": neighbours(shows)}), learned):
            if one.stated and one.status is Status.PRESENT:
                assert one.probability >= gate
                assert one.agree >= 2
    alone = vote(Ballot({"report": neighbours([True])}), learned)
    assert not any(one.stated for one in alone)


def test_an_absence_is_stated_only_when_it_is_all_but_certain(learned: Calibration) -> None:
    for shows in ([False] * 20, [True, *[False] * 19], [True] * 10 + [False] * 10):
        for one in vote(Ballot({"report": neighbours(shows)}), learned):
            if one.stated and one.status is Status.ABSENT:
                assert one.probability >= 0.9


def test_too_few_films_teach_nothing() -> None:
    assert calibrate(*cohort(FEWEST_FILMS - 1, 0), EVERYONE) is None


def test_what_was_learned_is_the_same_after_it_was_kept(learned: Calibration) -> None:
    again = Calibration.from_json(json.loads(json.dumps(learned.as_json())))
    ballot = cohort(1, 3)[0][0]
    assert vote(ballot, again) == vote(ballot, learned)


def test_nearer_neighbours_weigh_more() -> None:
    fall = weights(30)
    assert fall.sum() == pytest.approx(1.0)
    assert (np.diff(fall) < 0).all()
    assert weights(0).size == 0
