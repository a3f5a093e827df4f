"""Votes become calibrated probabilities, and only probable findings are stated."""

import json

import numpy as np
import pytest

from corpus.findings import Status, Statuses
from corpus.records import Study
from retrieval.draft.neighbours import KINDS, Neighbour, weights
from retrieval.draft.votes import (
    MIN_CALIBRATION_IMAGES,
    NAMES,
    VOTED_STATUSES,
    Ballot,
    VoteCalibration,
    fit_vote_calibration,
    vote,
)

FREQUENCY = 0.25
EVERYONE = {kind: {status: dict.fromkeys(NAMES, FREQUENCY) for status in VOTED_STATUSES} for kind in KINDS}


def neighbours(shows: list[bool]) -> list[Neighbour]:
    """Neighbours, some with a nodule, the others without."""
    found: list[Statuses] = [{"nodule": Status.PRESENT if shown else Status.ABSENT} for shown in shows]
    return [Neighbour(Study(f"s{n}", f"p{n}", "x", findings=f), "report", 0.5) for n, f in enumerate(found)]


def cohort(count: int, seed: int) -> tuple[list[Ballot], list[Statuses]]:
    """Images with a nodule have more neighbours with one, on average."""
    random = np.random.default_rng(seed)
    ballots, truths = [], []
    for _ in range(count):
        nodule = random.random() < FREQUENCY
        shows = list(random.random(20) < random.beta(*((4, 6) if nodule else (2, 8))))
        ballots.append(Ballot({"report": neighbours(shows)}))
        truths.append({"nodule": Status.PRESENT if nodule else Status.ABSENT})
    return ballots, truths


@pytest.fixture(scope="module")
def fitted() -> VoteCalibration:
    calibration = fit_vote_calibration(*cohort(400, 0), EVERYONE)
    assert calibration is not None
    return calibration


def nodule(ballot: Ballot, calibration: VoteCalibration | None, status: Status = Status.PRESENT) -> float:
    return next(
        v.probability for v in vote(ballot, calibration) if (v.finding, v.status) == ("nodule", status)
    )


def test_the_probability_of_a_finding_equals_its_frequency(fitted: VoteCalibration) -> None:
    ballots, truths = cohort(1_000, 1)
    probabilities = np.array([nodule(ballot, fitted) for ballot in ballots])
    truly = np.array([truth["nodule"] is Status.PRESENT for truth in truths])
    for low, high in ((0.0, 0.2), (0.2, 0.4), (0.4, 1.0)):
        inside = (probabilities >= low) & (probabilities < high)
        assert inside.sum() > 50
        assert truly[inside].mean() == pytest.approx(probabilities[inside].mean(), abs=0.08)


def test_more_neighbours_with_a_finding_make_it_more_probable(fitted: VoteCalibration) -> None:
    rising = [
        nodule(Ballot({"report": neighbours([True] * n + [False] * (20 - n))}), fitted) for n in (1, 6, 15)
    ]
    assert rising[0] < rising[1] < rising[2]


def test_a_stated_finding_passes_the_threshold_and_has_two_neighbours(fitted: VoteCalibration) -> None:
    threshold = fitted.statuses[Status.PRESENT].threshold
    for shows in ([True] * 12 + [False] * 8, [False] * 20):
        for one in vote(Ballot({"report": neighbours(shows)}), fitted):
            if one.stated and one.status is Status.PRESENT:
                assert one.probability >= threshold
                assert one.agree >= 2
    alone = vote(Ballot({"report": neighbours([True])}), fitted)
    assert not any(one.stated for one in alone)


def test_an_absence_is_stated_only_when_nearly_certain(fitted: VoteCalibration) -> None:
    for shows in ([False] * 20, [True, *[False] * 19], [True] * 10 + [False] * 10):
        for one in vote(Ballot({"report": neighbours(shows)}), fitted):
            if one.stated and one.status is Status.ABSENT:
                assert one.probability >= 0.9


def test_too_few_images_give_no_calibration() -> None:
    assert fit_vote_calibration(*cohort(MIN_CALIBRATION_IMAGES - 1, 0), EVERYONE) is None


def test_a_calibration_is_the_same_after_storage(fitted: VoteCalibration) -> None:
    again = VoteCalibration.from_json(json.loads(json.dumps(fitted.as_json())))
    ballot = cohort(1, 3)[0][0]
    assert vote(ballot, again) == vote(ballot, fitted)


def test_nearer_neighbours_weigh_more() -> None:
    fall = weights(30)
    assert fall.sum() == pytest.approx(1.0)
    assert (np.diff(fall) < 0).all()
    assert weights(0).size == 0
