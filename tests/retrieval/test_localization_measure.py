"""The localization metrics against plain slow versions and against scikit-image."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.metrics import hausdorff_distance
from skimage.segmentation import find_boundaries

from retrieval.localize.evaluation.intervals import column_means, mean_over
from retrieval.localize.evaluation.measures import (
    border,
    dice,
    iou,
    pointing_game,
    score,
    surface_dice,
)
from retrieval.localize.mask_location import MINOR, locate

Mask = NDArray[np.bool_]

SIZES = st.tuples(st.integers(2, 12), st.integers(2, 12))


@st.composite
def pairs_of_masks(draw: st.DrawFn) -> tuple[Mask, Mask]:
    height, width = draw(SIZES)
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shares = draw(st.tuples(st.floats(0, 1), st.floats(0, 1)))
    return tuple(random.random((height, width)) < share for share in shares)  # type: ignore[return-value]


def slow_border(mask: Mask) -> list[tuple[int, int]]:
    inside = {*zip(*(axis.tolist() for axis in mask.nonzero()), strict=True)}
    steps = ((-1, 0), (1, 0), (0, -1), (0, 1))
    return [(y, x) for y, x in inside if any((y + down, x + across) not in inside for down, across in steps)]


def slow_surface_dice(mask: Mask, truth: Mask, tolerance: float) -> float:
    one, other = slow_border(mask), slow_border(truth)
    if not one and not other:
        return 1.0
    if not one or not other:
        return 0.0

    def near(points: list[tuple[int, int]], others: list[tuple[int, int]]) -> int:
        return sum(min((a - c) ** 2 + (b - d) ** 2 for c, d in others) <= tolerance**2 for a, b in points)

    return (near(one, other) + near(other, one)) / (len(one) + len(other))


@settings(max_examples=60, deadline=None)
@given(pairs_of_masks(), st.sampled_from([0.0, 1.0, 1.5, 2.0, 4.0]))
def test_the_measures_equal_their_definitions_written_out(pair: tuple[Mask, Mask], tolerance: float) -> None:
    mask, truth = pair
    ones, others = {*zip(*mask.nonzero(), strict=True)}, {*zip(*truth.nonzero(), strict=True)}
    assert iou(mask, truth) == pytest.approx(len(ones & others) / len(ones | others) if ones | others else 1)
    total = len(ones) + len(others)
    assert dice(mask, truth) == pytest.approx(2 * len(ones & others) / total if total else 1)
    assert surface_dice(mask, truth, tolerance) == pytest.approx(slow_surface_dice(mask, truth, tolerance))


@settings(max_examples=40, deadline=None)
@given(pairs_of_masks())
def test_measures_are_symmetric_and_dice_is_one_only_for_equals(pair: tuple[Mask, Mask]) -> None:
    mask, truth = pair
    for measure in (iou, dice, lambda a, b: surface_dice(a, b, 1.0)):
        assert measure(mask, truth) == measure(truth, mask)
        assert measure(mask, mask) == 1.0
        assert 0.0 <= measure(mask, truth) <= 1.0
    assert (dice(mask, truth) == 1.0) == bool((mask == truth).all())


@settings(max_examples=40, deadline=None)
@given(pairs_of_masks())
def test_borders_and_distances_agree_with_scikit_image(pair: tuple[Mask, Mask]) -> None:
    mask, truth = pair
    padded = np.pad(mask, 1)  # scikit-image ignores what lies beyond the image
    assert (border(mask) == find_boundaries(padded, connectivity=1, mode="inner")[1:-1, 1:-1]).all()
    if mask.any() and truth.any():
        farthest = float(hausdorff_distance(border(mask), border(truth)))
        assert surface_dice(mask, truth, farthest + 1e-9) == 1.0
        if farthest > 0:
            assert surface_dice(mask, truth, farthest - 1e-6) < 1.0


def test_the_pointing_game_scores_the_maximum_and_shares_among_equal_maxima() -> None:
    truth = np.zeros((8, 8), np.bool_)
    truth[2:4, 2:4] = True
    heat = np.zeros((8, 8), np.float32)
    heat[3, 3] = 1
    assert pointing_game(heat, truth) == 1.0
    heat[3, 3], heat[3, 5] = 0, 1
    assert pointing_game(heat, truth) == 0.0
    assert pointing_game(heat, truth, tolerance=2.0) == 1.0
    heat[2, 2] = 1
    assert pointing_game(heat, truth) == 0.5
    assert pointing_game(np.zeros_like(heat), truth) == 4 / 64  # a level map scores by chance


def test_the_side_is_the_patients() -> None:
    mask = np.zeros((10, 20), np.bool_)
    mask[2:5, 2:6] = True
    heat, both = mask.astype(np.float32), mask | mask[:, ::-1]
    assert score(heat, mask, mask).side_right is True
    assert score(heat, mask[:, ::-1], mask).side_right is False
    assert score(heat, both, mask).side_right is False
    assert score(heat, mask, both).side_right is None
    assert score(heat, np.zeros_like(mask), mask).side_right is False


@pytest.mark.parametrize("share", [0.05, 0.12, 0.19, 0.21, 0.35, 0.5])
def test_the_side_that_is_scored_is_the_one_that_is_reported(share: float) -> None:
    """Also where a tenth to a fifth of the mask reaches over the middle."""
    truth = np.zeros((100, 100), np.bool_)
    truth[40:60, 10:40] = True
    mask = np.zeros((100, 100), np.bool_)
    over = round(100 * share)
    left = [(row, 49 - column) for column in range(50) for row in range(40, 50)][: 100 - over]
    right = [(row, 50 + column) for column in range(50) for row in range(40, 50)][:over]
    for row, column in left + right:
        mask[row, column] = True
    reported = locate(mask).laterality
    assert score(truth.astype(np.float32), mask, truth).side_right == (reported == "right")
    assert reported == ("right" if share < MINOR else "both")


def test_a_refused_mask_scores_nothing_but_keeps_its_map() -> None:
    truth = np.zeros((64, 64), np.bool_)
    truth[10:20, 10:20] = True
    refused = score(truth.astype(np.float32), None, truth)
    assert (refused.pointing, refused.dice, refused.iou, refused.nsd) == (1.0, 0.0, 0.0, 0.0)
    assert not refused.masked
    assert refused.side_right is None
    given_mask = score(truth.astype(np.float32), truth, truth)
    assert (given_mask.dice, given_mask.iou, given_mask.nsd, given_mask.side_right) == (1.0, 1.0, 1.0, True)


def test_mismatched_inputs_are_refused() -> None:
    truth = np.ones((4, 4), np.bool_)
    with pytest.raises(ValueError, match=r"\(4, 5\)"):
        dice(np.ones((4, 5), np.bool_), truth)
    with pytest.raises(ValueError, match="empty"):
        score(np.zeros((4, 4), np.float32), truth, ~truth)
    with pytest.raises(ValueError, match="not finite"):
        score(np.full((4, 4), np.nan, np.float32), truth, truth)


def test_an_interval_has_its_nominal_coverage_and_resamples_subjects() -> None:
    random = np.random.default_rng(0)
    covered = 0
    for trial in range(100):
        subject_means = random.normal(0.5, 0.2, 40)
        values = np.repeat(subject_means, 3)
        mean = mean_over(values.tolist(), [str(n // 3) for n in range(120)], seed=trial, draws=300)
        assert mean.low is not None
        assert mean.high is not None
        covered += mean.low <= 0.5 <= mean.high
    assert 88 <= covered <= 99
    one_subject = mean_over([0.0, 1.0, 1.0], ["a", "a", "a"])
    assert (one_subject.low, one_subject.high) == (one_subject.value, one_subject.value)  # no other subject
    assert mean_over([None], ["a"]).as_json() == {"count": 0, "mean": None, "ci95": None}


def test_columns_have_the_means_and_intervals_of_each_alone() -> None:
    random = np.random.default_rng(5)
    values = random.random((60, 3))
    subjects = [f"s{number // 2}" for number in range(60)]
    means = column_means(values, subjects, seed=4)
    for column in range(3):
        assert means.at(column).as_json() == mean_over(values[:, column].tolist(), subjects, seed=4).as_json()
    values[:, 1] = np.nan
    assert column_means(values, subjects).at(1).as_json() == {"count": 0, "mean": None, "ci95": None}


def test_a_mean_over_tables_weighs_each_equally_and_passes_over_unknown_ones() -> None:
    everyone = ["a", "b", "c", "d"]
    large = column_means(np.array([[1.0, 0.5]] * 3), ["a", "b", "c"], among=everyone)
    small = column_means(np.array([[0.0, np.nan]]), ["d"], among=everyone)
    both = large.mean_with([small])
    assert both.means.tolist() == [0.5, 0.5]
    assert both.counts.tolist() == [2, 1]
    assert set(np.round(both.drawn[:, 0], 6)) <= {0.0, 0.5, 1.0}, "a draw without d has the large table alone"
