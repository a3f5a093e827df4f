"""Box measures against plain slow versions, and against properties of the published benchmark."""

from collections.abc import Sequence
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from corpus.geometry import Box
from retrieval.localize.evaluation.box_measures import (
    FALSE_BELOW,
    NO_BOXES,
    BoxScores,
    box_around,
    expected_for_random_box,
    score_boxes,
)
from retrieval.localize.evaluation.measures import expected_pointing, pointing_game

Mask = NDArray[np.bool_]
Pixel = tuple[int, int]


@st.composite
def pairs_of_masks(draw: st.DrawFn) -> tuple[Mask, Mask]:
    shape = draw(st.tuples(st.integers(2, 14), st.integers(2, 14)))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    mask, truth = (random.random(shape) < draw(st.floats(0.02, 0.6)) for _ in range(2))
    truth[random.integers(shape[0]), random.integers(shape[1])] = True
    return mask, truth


def slow_boxes(mask: Mask) -> list[set[Pixel]]:
    """The pixels of the box around each region with a tenth of the largest one's pixels."""
    labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
    regions = [list(zip(*np.nonzero(labels == number), strict=True)) for number in range(1, count + 1)]
    largest = max((len(region) for region in regions), default=0)
    return [filled(region) for region in regions if len(region) >= 0.1 * largest]


def filled(pixels: Sequence[Pixel]) -> set[Pixel]:
    rows, columns = [row for row, _ in pixels], [column for _, column in pixels]
    return {
        (row, column)
        for row in range(min(rows), max(rows) + 1)
        for column in range(min(columns), max(columns) + 1)
    }


def slow_scores(found: list[set[Pixel]], around: set[Pixel], truth: Mask) -> BoxScores:
    true = slow_boxes(truth)
    rates = [
        float(np.mean([any(overlap(box, other) >= level for box in found) for other in true]))
        for overlap in (
            lambda box, other: len(box & other) / len(box | other),
            lambda box, other: len(box & other) / len(box),
        )
        for level in (0.1, 0.25, 0.5)
    ]
    whole = filled(list(zip(*np.nonzero(truth), strict=True)))
    false = sum(all(len(box & other) / len(box) < FALSE_BELOW for other in true) for box in found)
    return BoxScores(*rates, 2 * len(around & whole) / (len(around) + len(whole)), false)


@settings(max_examples=80)
@given(pairs_of_masks())
def test_the_measures_equal_their_definitions_written_out(pair: tuple[Mask, Mask]) -> None:
    mask, truth = pair
    if not mask.any():
        assert score_boxes(mask, truth) == NO_BOXES
        return
    expected = slow_scores(slow_boxes(mask), filled(list(zip(*np.nonzero(mask), strict=True))), truth)
    assert astuple(score_boxes(mask, truth)) == pytest.approx(astuple(expected))


@settings(max_examples=40)
@given(pairs_of_masks(), st.tuples(st.floats(0.05, 1.0), st.floats(0.05, 1.0)))
def test_the_random_box_has_the_mean_over_all_its_locations(
    pair: tuple[Mask, Mask], sides: tuple[float, float]
) -> None:
    _, truth = pair
    height, width = (max(1, round(share * side)) for share, side in zip(sides, truth.shape, strict=True))
    every = []
    for top in range(truth.shape[0] - height + 1):
        for left in range(truth.shape[1] - width + 1):
            box = {(top + row, left + column) for row in range(height) for column in range(width)}
            every.append(astuple(slow_scores([box], box, truth)))
    assert astuple(expected_for_random_box(truth, sides)) == pytest.approx(np.mean(every, axis=0))


@settings(max_examples=40)
@given(pairs_of_masks(), st.sampled_from([0.0, 1.0, 2.5]))
def test_the_random_point_has_the_mean_over_all_pixels(pair: tuple[Mask, Mask], tolerance: float) -> None:
    _, truth = pair
    hits = []
    for pixel in range(truth.size):
        heat = np.zeros(truth.shape, np.float32)
        heat.flat[pixel] = 1
        hits.append(pointing_game(heat, truth, tolerance))
    assert expected_pointing(truth, tolerance) == pytest.approx(np.mean(hits))


@settings(max_examples=60)
@given(pairs_of_masks())
def test_iobb_hits_wherever_iou_does_and_a_higher_threshold_never_hits_more(pair: tuple[Mask, Mask]) -> None:
    scores = score_boxes(*pair)
    iou = (scores.hit_iou_10, scores.hit_iou_25, scores.hit_iou_50)
    iobb = (scores.hit_iobb_10, scores.hit_iobb_25, scores.hit_iobb_50)
    assert all(one <= other for one, other in zip(iou, iobb, strict=True))
    assert list(iou) == sorted(iou, reverse=True)
    assert list(iobb) == sorted(iobb, reverse=True)


def test_a_box_inside_the_annotation_has_a_high_iobb_and_a_low_iou() -> None:
    truth, mask = np.zeros((40, 40), np.bool_), np.zeros((40, 40), np.bool_)
    truth[10:30, 10:30] = True
    mask[15:20, 15:20] = True
    scores = score_boxes(mask, truth)
    assert (scores.hit_iobb_50, scores.hit_iou_10, scores.false_boxes) == (1, 0, 0)
    assert scores.box_dice == pytest.approx(2 * 25 / (25 + 400))
    mask[35:38, 35:38] = True
    assert score_boxes(mask, truth).false_boxes == 1
    assert score_boxes(mask, truth).hit_iobb_50 == 1


def test_the_threshold_itself_is_a_hit() -> None:
    truth, mask = np.zeros((20, 20), np.bool_), np.zeros((20, 20), np.bool_)
    truth[:10, :10] = True
    mask[:10, 5:15] = True  # half of the detected box; IoU 1/3
    scores = score_boxes(mask, truth)
    assert (scores.hit_iobb_50, scores.hit_iou_25, scores.hit_iou_50) == (1, 1, 0)


def test_each_part_of_an_annotation_is_found_or_missed_for_itself() -> None:
    truth = np.zeros((20, 40), np.bool_)
    truth[5:15, 2:12] = truth[5:15, 28:38] = True
    one_side = truth.copy()
    one_side[:, 20:] = False
    assert score_boxes(truth, truth) == BoxScores(1, 1, 1, 1, 1, 1, 1, 0)
    assert score_boxes(one_side, truth).hit_iou_50 == 0.5


def test_no_mask_has_no_hit_and_an_empty_annotation_is_refused() -> None:
    truth = np.zeros((8, 8), np.bool_)
    with pytest.raises(ValueError, match="empty"):
        score_boxes(truth, truth)
    truth[2:4, 3:6] = True
    assert score_boxes(None, truth) == NO_BOXES
    assert box_around(truth) == Box(3, 2, 6, 4)
    with pytest.raises(ValueError, match="beside"):
        score_boxes(np.ones((4, 4), np.bool_), truth)
