"""Cross-validation leaves out whole subjects, learns from the others, and is scored like any evaluation."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from corpus.errors import EvaluationError, UsageError
from corpus.findings import make_statuses
from corpus.progress import silent
from corpus.splits import fold_of, split_of
from corpus.truth import Truth
from tests.encoders import tiny_shape
from tests.trainer.studies import Few
from trainer.evaluation.labels import Labels
from trainer.evaluation.ranking import rank_vectors
from trainer.train.config import TrainConfig
from trainer.train.config_file import read_config
from trainer.train.folds import FOLDS, CrossValidation, cross_validate
from trainer.train.preparation import Prepared, prepare
from trainer.train.state import open_run

Make = Callable[..., TrainConfig]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    (tmp_path / "pictures").mkdir()
    monkeypatch.setattr(
        "trainer.train.preparation.open_source", lambda spec, **_: Few(tmp_path / "pictures", count=120)
    )
    (tmp_path / "shape.json").write_text(json.dumps(tiny_shape(image_size=32)))

    def make(**overrides: Any) -> TrainConfig:
        settings = {
            "corpus": ["few:all"],
            "arch": str(tmp_path / "shape.json"),
            "epochs": 3,
            "sampling.batch_size": 16,
            "sampling.text_unit": "both",
            "optimizer.learning_rate": 5e-3,
            "augment.brightness": 0.0,
            **{name.replace("__", "."): value for name, value in overrides.items()},
        }
        return read_config(None, settings)

    return make


def prepared(config: TrainConfig, tmp_path: Path) -> Prepared:
    with open_run(tmp_path / "run", config, resume=False) as folder:
        torch.manual_seed(0)
        return prepare(config, folder, silent, torch.device("cpu"), whole=True)


def test_no_subject_of_a_fold_is_in_the_training_of_its_encoder(make: Make, tmp_path: Path) -> None:
    everyone = prepared(make(), tmp_path)
    crossed = CrossValidation(everyone, 3, torch.device("cpu"))
    requested: list[str] = []
    for number, fold in enumerate(crossed.folds):
        seen = {image.subject_id for image in fold.prepared.train.pool.images}
        queried = {image.subject_id for image in fold.held_out.pool.images}
        assert not seen & queried
        assert all(fold_of(subject, 3) == number for subject in queried)
        assert len(fold.task.queries) == len(fold.held_out.pool.images)
        requested += [image.subject_id for image in fold.held_out.pool.images]
    assert sorted(requested) == sorted(
        f"few:subject{n}" for n in range(120) if split_of(f"few:subject{n}") != "test"
    )


def test_a_recipe_is_measured_and_no_encoder_is_made(make: Make, tmp_path: Path) -> None:
    done: list[tuple[int, int]] = []
    record = cross_validate(
        make(epochs=6),
        tmp_path / "run",
        2,
        lambda stage, count, total=None, note="", /: done.append((count, total)),
    )
    assert record["precision_at"]["1"] > 0.9  # three greys and three reports
    assert record["baselines"]["constant"]["precision_at"]["1"] < 0.6
    assert record["ci95"]["precision_at"]["1"][0] <= record["precision_at"]["1"]
    assert json.loads((tmp_path / "run" / FOLDS).read_text()) == record
    assert not (tmp_path / "run" / "encoder").exists()
    assert not (tmp_path / "run" / "cache").exists()
    assert done[-1][0] == done[-1][1]


@pytest.mark.parametrize("reading", [{}, {"reading__epochs": 1, "reading__frozen_layers": 0}])
def test_each_fold_begins_from_the_same_weights_whatever_was_trained_before(
    make: Make, tmp_path: Path, reading: dict[str, Any]
) -> None:
    standard = {"head__standardise": True, "optimizer__keep_start": 0.3, "freeze__text_layers": -1}
    config = make(epochs=1, **standard, **reading)
    crossed = CrossValidation(prepared(config, tmp_path), 2, torch.device("cpu"))
    first, second = crossed.rank(config), crossed.rank(config)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def test_truth_scores_and_never_trains(make: Make, tmp_path: Path) -> None:
    everyone = prepared(make(), tmp_path)
    plain = CrossValidation(everyone, 2, torch.device("cpu"))
    fold = plain.folds[0]
    hernia = make_statuses(["hernia"])
    truth = Truth(dict.fromkeys(fold.held_out.pool.texts[0].studies, hernia), ("hernia",), (), ())
    crossed = CrossValidation(everyone, 2, torch.device("cpu"), truth=truth)
    expected = Labels.of([hernia, *(text.statuses for text in fold.held_out.pool.texts[1:])])
    np.testing.assert_array_equal(crossed.folds[0].task.gallery.present, expected.present)
    for one, other in zip(plain.folds, crossed.folds, strict=True):
        assert one.prepared.train.pool == other.prepared.train.pool


def test_the_scores_are_those_of_the_rankings(make: Make, tmp_path: Path) -> None:
    """A perfect ranking of each fold has P@1 of 1, and a reversed one none."""
    crossed = CrossValidation(prepared(make(), tmp_path), 2, torch.device("cpu"))

    def result(sign: float) -> Any:
        rankings = []
        for fold in crossed.folds:
            both = [
                np.concatenate([side.present, side.normal[:, None]], axis=1).astype(np.float32)
                for side in (fold.task.queries, fold.task.gallery)
            ]
            rankings.append(rank_vectors(sign * both[0], both[1], fold.task.excluded))
        return crossed.score(rankings)["precision_at"]["1"]

    assert result(1.0) == 1.0
    assert result(-1.0) == 0.0


def test_what_cannot_be_folded_says_so(make: Make, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least 2 folds"):
        cross_validate(make(), tmp_path / "one", 1)
    everyone = prepared(make(), tmp_path)
    with pytest.raises(EvaluationError, match="no query images"):
        CrossValidation(everyone, 2, torch.device("cpu"), queries=["openi"])
    with pytest.raises(EvaluationError, match="take fewer folds"):
        CrossValidation(everyone, 500, torch.device("cpu"))
