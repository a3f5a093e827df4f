"""From a map to a mask."""

import numpy as np

from retrieval.localize.regions import above_background, clean_masks


def test_what_half_of_a_picture_exceeds_is_background_however_low_the_map_falls_elsewhere() -> None:
    heat = np.full((64, 64), 0.45, np.float32)
    heat[:10] = 0.0  # a part that is unlike the phrase
    heat[30:36, 30:36] = 1.0
    raised = above_background(heat)
    assert raised[50, 50] == 0.0
    assert raised[5, 5] == 0.0
    assert raised[32, 32] == 1.0
    noise = np.random.default_rng(0).random((64, 64), dtype=np.float32)
    mask = clean_masks(noise, [heat])[0]
    assert mask[32, 32]
    assert mask.mean() < 0.05


def test_a_map_that_is_level_is_left_as_it_is() -> None:
    level = np.full((8, 8), 0.7, np.float32)
    assert (above_background(level) == level).all()
