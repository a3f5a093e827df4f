"""Run lengths encode a mask exactly, in COCO's order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from corpus.errors import UsageError
from retrieval.localize.answer import decode_runs, encode_runs


@given(arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=20)))
def test_a_mask_survives_its_run_lengths(mask: np.ndarray) -> None:
    runs = encode_runs(mask)
    assert (decode_runs(runs) == mask).all()
    assert sum(runs["counts"]) == mask.size
    assert sum(runs["counts"][1::2]) == mask.sum()


def test_runs_go_down_the_columns_and_begin_outside() -> None:
    mask = np.array([[True, False, False], [True, True, False]])
    assert encode_runs(mask) == {"size": [2, 3], "counts": [0, 2, 1, 1, 2]}


@given(st.lists(st.integers(-3, 9), max_size=5).filter(lambda counts: sum(counts) != 12 or min(counts) < 0))
def test_runs_that_do_not_fill_the_mask_are_refused(counts: list[int]) -> None:
    with pytest.raises(UsageError, match="do not fill"):
        decode_runs({"size": [3, 4], "counts": counts})


def test_an_object_that_is_no_mask_is_refused() -> None:
    with pytest.raises(UsageError, match="run lengths"):
        decode_runs({"counts": [12]})
