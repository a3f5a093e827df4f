"""Cross-validation over people: how good a recipe is, without asking the people left out for the test.

Everyone who is not in the test part falls into one of K folds by a hash of their id. For each fold an encoder
is trained on the others' pictures and texts, and its pictures ask for its reports. Corpus, pixels and frozen
activations are prepared once; towers begin each training from the same weights.
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from corpus.errors import EvaluationError, TrainingError, UsageError
from corpus.findings import Statuses
from corpus.splits import fold_of
from corpus.truth import Truth
from trainer.evaluation.labels import Labels
from trainer.evaluation.metrics import Task
from trainer.evaluation.ranking import Ranking, no_pairs, rank_vectors
from trainer.evaluation.scoring import score_parts
from trainer.runtime.device import choose_device
from trainer.runtime.encoder_folder import write_text_atomic
from trainer.train.config import TrainConfig
from trainer.train.heads import draw_heads, fold_heads
from trainer.train.preparation import OnProgress, Prepared, Progress, Side, prepare
from trainer.train.run import Training
from trainer.train.state import open_run

Index = NDArray[np.int64]
FOLDS = "folds.json"

OnStep = Callable[[int, int, float], None]
"""Called with (steps done, steps in all, loss)."""


def _silent(done: int, total: int, loss: float) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class Fold:
    """One part left out: what a training on the others may see, what it is asked, and by which labels.

    `prepared.train` holds the others; `held` the queries and the gallery of the fold.
    """

    prepared: Prepared
    held: Side
    task: Task

    def rank(self, pictures: NDArray[np.float32], texts: NDArray[np.float32]) -> Ranking:
        """Rank (m, dim) unit texts of the gallery for (n, dim) unit pictures of the queries."""
        return rank_vectors(pictures, texts, self.task.excluded)


def cross_validate(
    config: TrainConfig,
    out: Path,
    folds: int,
    on_progress: OnProgress = lambda progress: None,
    *,
    queries: Sequence[str] = (),
    gallery: Sequence[str] = (),
    truth: Truth | None = None,
    device: str = "auto",
) -> dict[str, Any]:
    """Cross-validate a recipe; the scores are also written into `folds.json` of the run's folder.

    Args:
        config: the recipe.
        out: a run's folder of its own; it keeps configuration and scores, no encoder.
        folds, queries, gallery, truth: as `CrossValidation` takes them.
        on_progress: called as it goes on.
        device: `auto` or a torch device name.

    Returns:
        The metrics as `trainer.evaluation.scoring.score_parts` gives them, with `folds`, `queries` and
        `gallery`.

    Raises:
        TrainingError, CorpusError, UsageError, EncoderError: as `trainer.train.loop.train` says.
        EvaluationError: as `CrossValidation` says.
    """
    if folds < 2:
        raise UsageError(f"cross-validation takes at least 2 folds, not {folds}")
    place = choose_device(device)
    with open_run(out, config, resume=False) as folder:
        torch.manual_seed(config.seed)
        prepared = prepare(config, folder, on_progress, place, whole=True)
        crossed = CrossValidation(prepared, folds, place, queries=queries, gallery=gallery, truth=truth)

        def tell(done: int, total: int, loss: float) -> None:
            fold = min(folds, 1 + (done - 1) * folds // total)
            on_progress(Progress("train", done, total, f"fold {fold} loss {loss:.3f}"))

        scores = crossed.score(crossed.rank(config, tell), config.seed)
        sizes = {
            "folds": folds,
            "queries": sum(len(task.queries) for task in crossed.tasks),
            "gallery": sum(len(task.gallery) for task in crossed.tasks),
        }
        record = {**sizes, **scores}
        write_text_atomic(folder.path / FOLDS, json.dumps(record, indent=2) + "\n")
        shutil.rmtree(folder.cache, ignore_errors=True)
        return record


class CrossValidation:
    """Folds of one prepared corpus, and the training of any recipe on each.

    Args:
        prepared: made by `trainer.train.preparation.prepare` with `whole`.
        folds: how many, at least 2.
        device: where the towers are.
        queries: only pictures of these sources (their kinds, as `openi`) ask; none: all.
        gallery: only reports of these sources answer; none: all.
        truth: replaces the statuses of the studies it names, for scoring only.

    Raises:
        EvaluationError: a fold has nobody to ask, or nothing to answer with.
    """

    def __init__(
        self,
        prepared: Prepared,
        folds: int,
        device: torch.device,
        *,
        queries: Sequence[str] = (),
        gallery: Sequence[str] = (),
        truth: Truth | None = None,
    ) -> None:
        if prepared.val is None:
            raise EvaluationError("cross-validation needs pictures and reports; the corpus lacks one of them")
        self._device = device
        self._model: Any = prepared.towers.model
        self._start = {name: tensor.clone() for name, tensor in self._model.state_dict().items()}
        known = {} if truth is None else truth.statuses
        self.folds = [
            _leave_out(prepared, prepared.val, part, folds, queries, gallery, known) for part in range(folds)
        ]

    def begin(self, config: TrainConfig, fold: Fold) -> Training:
        """A training of a recipe on everyone outside a fold, before its first step.

        Args:
            config: its corpus, towers and frozen parts must be those that were prepared.
            fold: what is left out.

        Raises:
            TrainingError: the recipe cannot be trained on so few.
        """
        fold_heads(self._model)
        self._model.load_state_dict(self._start)
        draw_heads(self._model, config.seed)
        training = Training(config, fold.prepared, self._device)
        training.begin()
        return training

    def train(self, fold: Fold, config: TrainConfig, on_step: OnStep = _silent) -> Training:
        """Train a recipe on everyone outside a fold."""
        training = self.begin(config, fold)
        steps = training.steps_per_epoch * config.epochs
        for epoch in range(config.epochs):
            for batch in training.plan(epoch):
                loss = training.take(batch).loss
                on_step(training.step, steps, loss)
        return training

    def rank(
        self, config: TrainConfig, on_step: OnStep = _silent, folds: Sequence[Fold] | None = None
    ) -> list[Ranking]:
        """Train a recipe once a fold; how each fold's queries rank its gallery.

        Args:
            config: the recipe, as `begin` takes it.
            on_step: called with the steps of all folds.
            folds: these folds in place of `folds`, such as with less to train on.
        """
        rankings = []
        folds = self.folds if folds is None else folds
        for number, fold in enumerate(folds):

            def tell(done: int, total: int, loss: float, number: int = number) -> None:
                on_step(number * total + done, len(folds) * total, loss)

            training = self.train(fold, config, tell)
            with training.exported():
                rankings.append(fold.rank(*training.encode(fold.held)))
        return rankings

    def score(self, rankings: Sequence[Ranking], seed: int = 0) -> dict[str, Any]:
        """The contract's metrics over all folds, with intervals over people and the baselines."""
        return score_parts(rankings, self.tasks, seed=seed)

    @property
    def tasks(self) -> list[Task]:
        """What is asked, fold by fold."""
        return [fold.task for fold in self.folds]


def _leave_out(
    prepared: Prepared,
    everyone: Side,
    part: int,
    folds: int,
    queries: Sequence[str],
    gallery: Sequence[str],
    truth: Mapping[str, Statuses],
) -> Fold:
    def inside(subject: str) -> bool:
        return fold_of(subject, folds) == part

    train = prepared.train.only(
        _places(not inside(picture.subject_id) for picture in prepared.train.pool.pictures),
        _places(not all(map(inside, text.subjects)) for text in prepared.train.pool.texts),
    )
    pool = everyone.pool
    asked = Labels.of(truth.get(p.study_id, p.statuses) for p in pool.pictures)
    held = Labels.of(_true_statuses(t.studies, t.statuses, truth) for t in pool.texts)
    asking = _places(
        inside(p.subject_id) and known and _of_source([p.study_id], queries)
        for p, known in zip(pool.pictures, asked.known, strict=True)
    )
    answering = _places(
        any(map(inside, t.subjects)) and known and _of_source(t.studies, gallery)
        for t, known in zip(pool.texts, held.known, strict=True)
    )
    for places, what in ((asking, "pictures that ask"), (answering, "reports that answer")):
        if not len(places):
            raise EvaluationError(f"fold {part + 1} of {folds} has no {what}; take fewer folds")
    if not train.pool.pictures or not train.pool.texts:
        raise TrainingError(
            f"without fold {part + 1} of {folds} nothing is left to train on; take more folds"
        )
    people = np.array([pool.pictures[place].subject_id for place in asking])
    return Fold(
        replace(prepared, train=train, val=None),
        everyone.only(asking, answering),
        Task(asked.take(asking), held.take(answering), people, no_pairs()),
    )


def _true_statuses(studies: frozenset[str], told: Statuses, truth: Mapping[str, Statuses]) -> Statuses:
    named = sorted(study for study in studies if study in truth)
    return truth[named[0]] if named else told


def _of_source(studies: Sequence[str] | frozenset[str], kinds: Sequence[str]) -> bool:
    return not kinds or any(study.partition(":")[0] in kinds for study in studies)


def _places(chosen: Any) -> Index:
    return np.flatnonzero(np.fromiter(chosen, dtype=bool))
