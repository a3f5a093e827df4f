"""Baselines answer without the image's own annotations, from other subjects' only."""

import numpy as np
import pytest

from retrieval.localize.evaluation.baselines import BASELINES, Atlas, highest, to_grid
from retrieval.localize.evaluation.measures import dice


def _square(top: int, left: int, side: int = 16) -> np.ndarray:
    mask = np.zeros((64, 64), np.bool_)
    mask[top : top + side, left : left + side] = True
    return mask


def test_every_baseline_answers_with_a_map_and_a_mask_of_the_usual_size() -> None:
    atlas = Atlas.of([_square(20, 20), _square(24, 24), _square(0, 0)], ["a", "b", "own"])
    image = np.random.default_rng(0).random((128, 96), dtype=np.float32)
    answers = atlas.answers(image, "own", np.random.default_rng(0))
    assert tuple(answers) == BASELINES
    for name in ("random", "centre_box", "brightest"):
        assert answers[name].heat.shape == answers[name].mask.shape == image.shape
        assert answers[name].mask.mean() == pytest.approx(16 * 16 / 64**2, abs=1e-3)
    assert answers["centre_box"].mask[64, 48]
    bright = np.zeros((128, 96), np.float32)
    bright[90:110, 10:30] = 1
    assert atlas.answers(bright, "own", np.random.default_rng(0))["brightest"].mask[100, 20]


def test_the_mean_mask_excludes_the_images_own_subject() -> None:
    """Also where one subject has several images."""
    others = [_square(20, 20), _square(20, 24)]
    own = [_square(0, 40), _square(0, 44)]
    image = np.zeros((64, 64), np.float32)
    atlas = Atlas.of([*others, *own], ["a", "b", "own", "own"])
    answer = atlas.answers(image, "own", np.random.default_rng(0))["mean_mask"]
    without = Atlas.of(others, ["a", "b"]).answers(image, "own", np.random.default_rng(0))["mean_mask"]
    assert (answer.mask == without.mask).all()
    assert not answer.mask[:16, 40:].any()
    assert Atlas.of(own, ["own", "own"]).answers(image, "own", np.random.default_rng(0)) == {}


def test_the_mean_mask_has_the_threshold_with_the_best_dice() -> None:
    masks = [_square(20, 20 + shift) for shift in (0, 2, 4, 6, 30)]
    atlas = Atlas.of(masks, list("abcde"))
    image = np.zeros((64, 64), np.float32)
    answer = atlas.answers(image, "z", np.random.default_rng(0))["mean_mask"]
    mean = np.mean([to_grid(mask) for mask in masks], axis=0)
    every = [np.mean([dice(mean >= level, mask) for mask in masks]) for level in np.unique(mean)[1:]]
    assert np.mean([dice(answer.mask, mask) for mask in masks]) == pytest.approx(max(every))


def test_the_highest_share_is_exact_among_equals() -> None:
    assert highest(np.zeros((10, 10), np.float32), 0.25).sum() == 25
    heat = np.arange(100, dtype=np.float32).reshape(10, 10)
    assert highest(heat, 0.1)[9].all()
    assert highest(heat, 0.0).sum() == 1


def test_the_random_box_has_the_mean_size_of_other_subjects_boxes() -> None:
    tall, wide = np.zeros((80, 40), np.bool_), np.zeros((50, 100), np.bool_)
    tall[8:48, 4:8] = True  # half of the height, a tenth of the width
    wide[10:15, 20:50] = True  # a tenth and three tenths
    atlas = Atlas.of([tall, wide, np.ones((9, 9), np.bool_)], ["a", "b", "own"])
    assert atlas.mean_sides("own") == pytest.approx((0.3, 0.2))
