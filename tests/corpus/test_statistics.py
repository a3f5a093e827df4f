"""Bootstrap, logistic regression and unit rows, against plain slow versions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from corpus.statistics import (
    draw_subjects,
    interval95,
    ridge_logistic_regression,
    sigmoid,
    unit_rows,
)

Floats = NDArray[np.float64]


def newton(
    features: Floats, positive: NDArray[np.bool_], ridge: Floats, importance: Floats, offset: Floats
) -> Floats:
    """The same regression by Newton's method, with the Hessian written out."""
    weights = np.zeros(features.shape[1])
    for _ in range(100):
        likely = 1 / (1 + np.exp(-(features @ weights + offset)))
        slope = features.T @ (importance * (likely - positive)) + ridge * weights
        bend = (features * (importance * likely * (1 - likely))[:, None]).T @ features + np.diag(ridge)
        weights = weights - np.linalg.solve(bend, slope)
    return weights


@pytest.mark.parametrize("seed", range(6))
def test_the_regression_finds_the_minimum_that_newton_finds(seed: int) -> None:
    random = np.random.default_rng(seed)
    features = np.column_stack([random.normal(size=(200, 5)) * [1, 10, 0.1, 1, 3], np.ones(200)])
    positive = random.random(200) < sigmoid(features[:, 0] - 0.3)
    ridge = np.array([1.0, 0.5, 2.0, 1e-3, 1.0, 1e-9])
    importance, offset = random.uniform(0.2, 3, 200), random.normal(size=200)
    found = ridge_logistic_regression(features, positive, ridge=ridge, importance=importance, offset=offset)
    np.testing.assert_allclose(found, newton(features, positive, ridge, importance, offset), atol=1e-5)


def test_separable_classes_have_finite_weights_under_a_ridge() -> None:
    features = np.array([[-1.0], [1.0]])
    (weight,) = ridge_logistic_regression(features, np.array([False, True]), ridge=0.1)
    assert 0 < weight < 100
    assert sigmoid(np.array([-weight]))[0] * 2 == pytest.approx(0.1 * weight, rel=1e-6)  # the slope is zero


@given(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=30), st.integers(0, 5))
def test_each_draw_has_as_many_subjects_as_there_are(subjects: list[str], seed: int) -> None:
    drawn = draw_subjects(np.array(subjects), 20, seed)
    count = len(set(subjects))
    assert drawn.shape == (20, count)
    assert (drawn.sum(axis=1) == count).all()
    assert (drawn == draw_subjects(np.array(subjects), 20, seed)).all()


def test_subjects_are_drawn_with_equal_chance() -> None:
    assert draw_subjects(np.arange(4), 4000, 0).mean(axis=0) == pytest.approx(1.0, abs=0.06)


def test_an_interval_leaves_draws_without_a_value_out() -> None:
    values = np.array([np.nan, *np.linspace(0, 1, 1001)])
    assert interval95(values) == pytest.approx([0.025, 0.975])
    assert interval95(np.array([np.nan])) is None


def test_unit_rows_have_length_one_and_zeros_stay() -> None:
    rows = np.array([[3.0, 4.0], [0.0, 0.0]], dtype=np.float32)
    made = unit_rows(rows)
    assert made.dtype == np.float32
    np.testing.assert_allclose(made, [[0.6, 0.8], [0, 0]], rtol=1e-6)


def test_the_sigmoid_does_not_overflow() -> None:
    assert list(sigmoid(np.array([-1e4, 0.0, 1e4]))) == [0.0, 0.5, 1.0]
