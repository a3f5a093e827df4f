"""The random walker follows the edge in the image, and returns a mask without undecided pixels unchanged."""

import numpy as np
import pytest
from scipy import ndimage

from retrieval.localize.refine.random_walker import RandomWalkerRefiner

WALK = RandomWalkerRefiner()


def disc(size: int, row: float, column: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size]
    return (rows - row) ** 2 + (columns - column) ** 2 < radius**2


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


@pytest.mark.parametrize("size", [200, 700])
def test_a_rough_mask_comes_nearer_to_the_structure_in_the_image(size: int) -> None:
    scale = size / 200
    truth = disc(size, 100 * scale, 110 * scale, 30 * scale)
    noise = np.random.default_rng(0).normal(0, 0.03, (size, size))
    image = np.clip(0.3 + 0.4 * truth + noise, 0, 1).astype(np.float32)
    heat = ndimage.gaussian_filter(
        disc(size, 104 * scale, 106 * scale, 30 * scale).astype(np.float32), 12 * scale
    )
    heat /= heat.max()
    rough = heat > 0.4
    refined = WALK.refine(image, heat, rough, [])
    assert dice(refined, truth) > dice(rough, truth) + 0.03
    assert dice(refined, truth) > 0.93


@pytest.mark.parametrize(
    "mask", [np.ones((64, 64), np.bool_), disc(64, 30, 30, 1)], ids=["everything", "a speck"]
)
def test_a_mask_without_an_inside_or_an_outside_stays(mask: np.ndarray) -> None:
    image = np.random.default_rng(0).random((64, 64), np.float32)
    assert WALK.refine(image, mask.astype(np.float32), mask, []).any()


def test_two_regions_stay_two() -> None:
    truth = disc(160, 40, 40, 18) | disc(160, 120, 120, 18)
    image = (0.2 + 0.5 * truth).astype(np.float32)
    heat = ndimage.gaussian_filter(truth.astype(np.float32), 6)
    refined = WALK.refine(image, heat, heat > 0.3, [])
    assert ndimage.label(refined)[1] == 2
