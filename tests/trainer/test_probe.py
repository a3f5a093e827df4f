from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from corpus.errors import EvaluationError
from corpus.findings import NO_FINDING, Statuses, make_statuses
from corpus.records import Study
from trainer.evaluation import probe as probing
from trainer.evaluation.gallery import Encoded, Item
from trainer.evaluation.labels import CLASSES
from trainer.evaluation.probe import STRENGTHS, fit_logistic, score_probe, train_probe

EDEMA, HERNIA, MASS = (CLASSES.index(name) for name in ("edema", "hernia", "mass"))
SHOWN = [["edema"], ["hernia"], ["edema", "hernia"], [NO_FINDING]]


def images(statuses: Sequence[Statuses], vectors: NDArray[Any], split: str = "x") -> Encoded:
    items = [
        Item(
            f"{split}:{n}#f", "image", Study(f"{split}:{n}", f"{split}:p{n}", "s"), f"{n}.png", result,
            frozenset(), frozenset(),
        )
        for n, result in enumerate(statuses)
    ]  # fmt: skip
    return Encoded(tuple(items), np.asarray(vectors, np.float32))


def radiographs(seed: int, count: int, noise: float = 0.3, dim: int = 12) -> Encoded:
    """Radiographs with first two features that lean to edema and hernia; the last is constant."""
    rng = np.random.default_rng(seed)
    statuses = [make_statuses(present=SHOWN[n % 4]) for n in range(count)]
    vectors = rng.normal(size=(count, dim)) * noise
    for column, name in enumerate(("edema", "hernia")):
        vectors[:, column] += [name in SHOWN[n % 4] for n in range(count)]
    vectors[:, -1] = 0.5
    return images(statuses, vectors, f"s{seed}")


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), strength=st.sampled_from(STRENGTHS))
def test_at_the_fit_the_derivative_of_damped_log_loss_is_zero(seed: int, strength: float) -> None:
    rng = np.random.default_rng(seed)
    features, kind = rng.normal(size=(60, 5)), rng.integers(0, 3, (60, 3))  # 2: left out of the column
    weights, bias = fit_logistic(features, kind == 1, kind == 0, strength)
    for column in range(3):
        counted = kind[:, column] < 2
        x, y = features[counted], kind[counted, column]
        error = 1 / (1 + np.exp(-(x @ weights[:, column] + bias[column]))) - y
        np.testing.assert_allclose(x.T @ error / len(y) + strength * weights[:, column], 0, atol=1e-5)
        assert error.mean() == pytest.approx(0, abs=1e-5)


def test_what_a_column_leaves_out_does_not_move_its_fit() -> None:
    rng = np.random.default_rng(0)
    features, positive = rng.normal(size=(40, 4)), rng.random((40, 1)) < 0.5
    counted = np.arange(40)[:, None] < 30
    whole = fit_logistic(features, positive & counted, ~positive & counted, 0.1)
    part = fit_logistic(features[:30], positive[:30], ~positive[:30], 0.1)
    for ours, theirs in zip(whole, part, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_under_endless_damping_only_the_share_of_positives_is_learned() -> None:
    rng = np.random.default_rng(0)
    positive = np.arange(40)[:, None] < 10
    weights, bias = fit_logistic(rng.normal(size=(40, 4)), positive, ~positive, 1e6)
    np.testing.assert_allclose(weights, 0, atol=1e-4)
    assert bias[0] == pytest.approx(np.log(10 / 30), abs=1e-4)


def test_a_probe_reads_what_the_vectors_hold_of_subjects_it_has_not_seen() -> None:
    result = score_probe(train_probe(radiographs(0, 200), radiographs(1, 60)), radiographs(2, 120), draws=50)
    assert result["pictures"] == 120
    assert result["auroc"]["macro"] > 0.97
    assert result["auroc_abnormal"]["macro"] > 0.97
    assert set(result["auroc"]["findings"]) == {"edema", "hernia"}


def test_a_probe_reads_nothing_from_vectors_that_hold_nothing() -> None:
    rng = np.random.default_rng(5)
    parts = []
    for seed, count in ((0, 300), (1, 200), (2, 400)):
        part = radiographs(seed, count)
        parts.append(Encoded(part.items, rng.normal(size=part.vectors.shape).astype(np.float32)))
    low, high = score_probe(train_probe(*parts[:2]), parts[2])["auroc"]["ci95"]
    assert low < 0.5 < high


def test_the_damping_taken_is_the_best_on_val(monkeypatch: pytest.MonkeyPatch) -> None:
    train, val = radiographs(0, 60, noise=3.0, dim=50), radiographs(1, 80, noise=3.0, dim=50)
    chosen = train_probe(train, val)
    areas = {}
    for strength in STRENGTHS:
        monkeypatch.setattr(probing, "STRENGTHS", (strength,))
        areas[strength] = probing._mean_auroc(train_probe(train, val), val)
    assert areas[chosen.strength] == max(areas.values())
    assert len(set(areas.values())) > 1


def test_the_scale_of_a_feature_does_not_matter() -> None:
    train, val, test = radiographs(0, 120), radiographs(1, 60), radiographs(2, 60)
    stretch = np.geomspace(1e-3, 1e3, 12).astype(np.float32)
    plain = train_probe(train, val).scores(test.vectors)
    stretched = train_probe(
        Encoded(train.items, train.vectors * stretch), Encoded(val.items, val.vectors * stretch)
    ).scores(test.vectors * stretch)
    learned = np.isfinite(plain[0])
    assert learned.sum() == 3  # edema, hernia, normal
    np.testing.assert_allclose(plain[:, learned], stretched[:, learned], atol=1e-3)


def test_a_finding_with_too_few_radiographs_to_learn_from_has_its_row_and_no_auroc() -> None:
    rare = [make_statuses(present=["mass"])] * 12
    test = radiographs(2, 60)
    test = images(
        [item.statuses for item in test.items] + rare, np.concatenate([test.vectors, test.vectors[:12]])
    )
    rows = {
        r["finding"]: r
        for r in score_probe(train_probe(radiographs(0, 80), radiographs(1, 40)), test)["per_finding"]
    }
    assert rows["mass"]["present"] == 12
    assert rows["mass"]["auroc"] is rows["mass"]["auroc_ci95"] is None
    assert rows["edema"]["auroc"] is not None


def test_too_little_to_learn_from_or_to_choose_by_is_an_error_that_says_so() -> None:
    with pytest.raises(EvaluationError, match="10 of the 12 images of the train split"):
        train_probe(radiographs(0, 12), radiographs(1, 40))
    only_mass = images([make_statuses(present=["mass"])] * 3, np.ones((3, 12)))
    with pytest.raises(EvaluationError, match="none of the 3 images of the val split"):
        train_probe(radiographs(0, 80), only_mass)
