"""The threshold of each structure agrees best with its masks, against a plain search."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trainer.runtime.segmenter import DEFAULT_THRESHOLD
from trainer.train.segmenter_loop import THRESHOLDS, ThresholdSearch

SIDE = 8


def dice(one: np.ndarray, other: np.ndarray) -> float:
    both = int(one.sum() + other.sum())
    return 2 * int((one & other).sum()) / both if both else 1.0


def chosen(probability: np.ndarray, masks: np.ndarray, weights: np.ndarray, batch: int) -> tuple[float, ...]:
    best = ThresholdSearch(masks.shape[1])
    for at in range(0, len(masks), batch):
        some = slice(at, at + batch)
        best.add(probability[some], (masks[some] * 255).astype(np.uint8), weights[some])
    return best.choose()


@given(seed=st.integers(0, 1_000), batch=st.integers(1, 6))
def test_no_other_threshold_agrees_better(seed: int, batch: int) -> None:
    random = np.random.default_rng(seed)
    masks = random.random((6, 2, SIDE, SIDE)) < 0.2
    masks[random.random((6, 2)) < 0.4] = False
    probability = np.clip(0.3 * masks + random.random(masks.shape) * 0.5, 0, 1).astype(np.float32)
    weights = random.choice([0.0, 0.3, 1.0], size=(6, 2)).astype(np.float32)

    def agreement(structure: int, threshold: float) -> float:
        means = []
        for there in (True, False):
            pairs = [
                (weights[n, structure], dice(probability[n, structure] >= threshold, masks[n, structure]))
                for n in range(6)
                if masks[n, structure].any() == there and weights[n, structure] > 0
            ]
            if pairs:
                means.append(float(np.average([value for _, value in pairs], weights=[w for w, _ in pairs])))
        return float(np.mean(means)) if means else 0.0

    for structure, threshold in enumerate(chosen(probability, masks, weights, batch)):
        assert threshold in THRESHOLDS
        assert (
            agreement(structure, threshold) >= max(agreement(structure, other) for other in THRESHOLDS) - 2e-6
        )


def test_a_small_structure_with_displaced_masks_is_still_segmented() -> None:
    masks = np.zeros((4, 1, SIDE, SIDE), bool)
    probability = np.full(masks.shape, 0.05, np.float32)
    for n in range(4):
        masks[n, 0, n : n + 2, 2:4] = True
        probability[n, 0, n : n + 2, 2:4] = 0.32
    (threshold,) = chosen(probability, masks, np.ones((4, 1), np.float32), 4)
    assert 0.05 < threshold <= 0.32


def test_without_labels_the_threshold_is_the_default() -> None:
    masks = np.zeros((2, 1, SIDE, SIDE), bool)
    assert chosen(masks.astype(np.float32), masks, np.zeros((2, 1), np.float32), 1) == (DEFAULT_THRESHOLD,)
