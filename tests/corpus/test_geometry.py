"""A map over the network's square comes back to the very places of the image."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.geometry import Framing

SIDES = st.integers(16, 400)


@settings(deadline=None, max_examples=60)
@given(SIDES, SIDES, st.sampled_from([64, 224, 320]))
def test_each_pixel_takes_the_value_at_its_position_in_the_square(height: int, width: int, size: int) -> None:
    framing = Framing(size)
    placement = framing.placement(height, width)
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float32) + 0.5
    undone = framing.undo(np.stack([rows, columns]), height, width)
    expected_rows = placement.top + (np.arange(height) + 0.5) * placement.height / height
    expected_columns = placement.left + (np.arange(width) + 0.5) * placement.width / width
    # Level beyond the centres of the outermost cells: half a cell.
    expected_rows = np.clip(expected_rows, 0.5, size - 0.5)
    expected_columns = np.clip(expected_columns, 0.5, size - 0.5)
    assert undone.shape == (2, height, width)
    np.testing.assert_allclose(undone[0], np.broadcast_to(expected_rows[:, None], (height, width)), atol=1e-3)
    np.testing.assert_allclose(undone[1], np.broadcast_to(expected_columns, (height, width)), atol=1e-3)


@settings(deadline=None, max_examples=40)
@given(SIDES, SIDES, st.integers(1, 14), st.integers(1, 14), st.randoms(use_true_random=False))
def test_a_coarse_map_keeps_its_range_and_a_level_one_its_level(
    height: int, width: int, rows: int, columns: int, random: object
) -> None:
    grid = np.random.default_rng(random.randrange(2**32)).random((rows, columns), dtype=np.float32)  # type: ignore[attr-defined]
    undone = Framing(224).undo(grid, height, width)
    assert undone.min() >= grid.min() - 1e-6
    assert undone.max() <= grid.max() + 1e-6
    np.testing.assert_allclose(Framing(224).undo(np.full_like(grid, 0.3), height, width), 0.3, atol=1e-6)


@settings(deadline=None, max_examples=40)
@given(st.integers(40, 500), st.integers(40, 500), st.floats(0.1, 0.9), st.floats(0.1, 0.9))
def test_a_bright_spot_comes_back_to_where_it_was(
    height: int, width: int, down: float, across: float
) -> None:
    framing = Framing(160)
    y, x = int(down * height), int(across * width)
    spread = max(height, width) / 20
    rows, columns = np.mgrid[0:height, 0:width]
    image = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * spread**2)).astype(np.float32)
    undone = framing.undo(framing.apply(image), height, width)
    top, left = np.unravel_index(np.argmax(undone), undone.shape)
    cell = max(height, width) / 160
    assert abs(top - y) <= cell + 1
    assert abs(left - x) <= cell + 1
    assert np.abs(undone - image).mean() < 0.01
