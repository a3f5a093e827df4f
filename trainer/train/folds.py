"""Cross-validation of a recipe over subjects, without the subjects of the test split.

A hash of the id assigns every other subject to one of K folds. For each fold an encoder is trained on the
images and texts of the other folds; the images of the fold are the queries, its reports the gallery. Corpus,
pixels and frozen activations are prepared once; each training starts from the same weights.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from corpus.errors import EvaluationError, TrainingError, UsageError
from corpus.files import READABLE, write_whole
from corpus.findings import Statuses
from corpus.progress import OnProgress, silent
from corpus.splits import fold_of
from corpus.truth import Truth
from trainer.evaluation.labels import Labels
from trainer.evaluation.metrics import Task
from trainer.evaluation.ranking import Ranking, no_pairs, rank_vectors
from trainer.evaluation.scoring import score_parts
from trainer.runtime.device import choose_device
from trainer.train.config import TrainConfig
from trainer.train.heads import draw_heads, fold_heads
from trainer.train.preparation import Prepared, PreparedSplit, prepare
from trainer.train.run import Training
from trainer.train.state import open_run

Index = NDArray[np.int64]
FOLDS = "folds.json"


@dataclass(frozen=True, slots=True)
class Fold:
    """One fold of a cross-validation.

    `prepared`: with the training items of the other folds.
    `held_out`: the queries and the gallery of the fold.
    `task`: the retrieval task with their labels.
    """

    prepared: Prepared
    held_out: PreparedSplit
    task: Task

    def rank(self, images: NDArray[np.float32], texts: NDArray[np.float32]) -> Ranking:
        """Rank the gallery's (m, dim) unit text rows for the queries' (n, dim) unit image rows."""
        return rank_vectors(images, texts, self.task.excluded)


def cross_validate(
    config: TrainConfig,
    out: Path,
    folds: int,
    on_progress: OnProgress = silent,
    *,
    queries: Sequence[str] = (),
    gallery: Sequence[str] = (),
    truth: Truth | None = None,
    device: str = "auto",
) -> dict[str, Any]:
    """Cross-validate a recipe; write the scores to `folds.json` of the run's folder as well.

    Args:
        config: the recipe.
        out: a separate run folder, for configuration and scores; no encoder is exported.
        folds, queries, gallery, truth: as `CrossValidation` takes them.
        on_progress: called during the run.
        device: `auto` or a torch device name.

    Returns:
        The metrics of `trainer.evaluation.scoring.score_parts`, with `folds`, `queries` and `gallery`.

    Raises:
        TrainingError, CorpusError, UsageError, EncoderError: as `trainer.train.loop.train` says.
        EvaluationError: as `CrossValidation` says.
    """
    if folds < 2:
        raise UsageError(f"cross-validation takes at least 2 folds, not {folds}")
    position = choose_device(device)
    with open_run(out, config, resume=False) as folder:
        torch.manual_seed(config.seed)
        prepared = prepare(config, folder, on_progress, position, whole=True)
        crossed = CrossValidation(prepared, folds, position, queries=queries, gallery=gallery, truth=truth)
        scores = crossed.score(crossed.rank(config, on_progress), config.seed)
        sizes = {
            "folds": folds,
            "queries": sum(len(task.queries) for task in crossed.tasks),
            "gallery": sum(len(task.gallery) for task in crossed.tasks),
        }
        record = {**sizes, **scores}
        text = json.dumps(record, indent=2) + "\n"
        write_whole(folder.path / FOLDS, text.encode(), mode=READABLE)
        shutil.rmtree(folder.cache, ignore_errors=True)
        return record


class CrossValidation:
    """Folds of one prepared corpus, and the training of any recipe on each.

    Args:
        prepared: made by `trainer.train.preparation.prepare` with `whole`.
        folds: number of folds, at least 2.
        device: of the towers.
        queries: kinds of sources (such as `openi`) of the query images; none: all.
        gallery: kinds of sources of the gallery reports; none: all.
        truth: ground truth; replaces the statuses of the studies that it names, for scoring only.

    Raises:
        EvaluationError: a fold has no queries or an empty gallery.
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
            raise EvaluationError("cross-validation needs images and reports; the corpus lacks one of them")
        self._device = device
        self._model: Any = prepared.towers.model
        self._start = {name: tensor.clone() for name, tensor in self._model.state_dict().items()}
        known = {} if truth is None else truth.statuses
        self.folds = [
            _make_fold(prepared, prepared.val, part, folds, queries, gallery, known) for part in range(folds)
        ]

    def begin(self, config: TrainConfig, fold: Fold) -> Training:
        """A training of a recipe on the subjects outside a fold, before its first step.

        Args:
            config: its corpus, towers and frozen parts must be those that were prepared.
            fold: the held-out fold.

        Raises:
            TrainingError: there are too few items for the recipe.
        """
        fold_heads(self._model)
        self._model.load_state_dict(self._start)
        draw_heads(self._model, config.seed)
        training = Training(config, fold.prepared, self._device)
        training.begin()
        return training

    def train(self, fold: Fold, config: TrainConfig, on_progress: OnProgress = silent) -> Training:
        """Train a recipe on the subjects outside a fold; a step is reported with its loss as a note."""
        training = self.begin(config, fold)
        steps = training.steps_per_epoch * config.epochs
        for epoch in range(config.epochs):
            for batch in training.plan(epoch):
                loss = training.take(batch).loss
                on_progress("train", training.step, steps, f"loss {loss:.3f}")
        return training

    def rank(
        self, config: TrainConfig, on_progress: OnProgress = silent, folds: Sequence[Fold] | None = None
    ) -> list[Ranking]:
        """Train a recipe once per fold; rank each fold's gallery for its queries.

        Args:
            config: the recipe, as `begin` takes it.
            on_progress: called with the steps of all folds; the note has the fold and the loss.
            folds: replace `self.folds`, for example by folds with fewer training items.
        """
        rankings = []
        folds = self.folds if folds is None else folds
        for number, fold in enumerate(folds):
            training = self.train(fold, config, _report_fold(on_progress, number, len(folds)))
            with training.exported():
                rankings.append(fold.rank(*training.encode(fold.held_out)))
        return rankings

    def score(self, rankings: Sequence[Ranking], seed: int = 0) -> dict[str, Any]:
        """The metrics of the contract over all folds, with intervals over subjects and the baselines."""
        return score_parts(rankings, self.tasks, seed=seed)

    @property
    def tasks(self) -> list[Task]:
        """The retrieval task of each fold."""
        return [fold.task for fold in self.folds]


def _report_fold(on_progress: OnProgress, number: int, folds: int) -> OnProgress:
    """Return the progress of one fold, from 0, as the progress of all."""

    def report(stage: str, done: int, total: int | None = None, note: str = "", /) -> None:
        of_all = None if total is None else folds * total
        on_progress(stage, number * (total or 0) + done, of_all, f"fold {number + 1} {note}")

    return report


def _make_fold(
    prepared: Prepared,
    validation: PreparedSplit,
    part: int,
    folds: int,
    queries: Sequence[str],
    gallery: Sequence[str],
    truth: Mapping[str, Statuses],
) -> Fold:
    def inside(subject: str) -> bool:
        return fold_of(subject, folds) == part

    train = prepared.train.only(
        _positions(not inside(image.subject_id) for image in prepared.train.pool.images),
        _positions(not all(map(inside, text.subjects)) for text in prepared.train.pool.texts),
    )
    pool = validation.pool
    query_labels = Labels.of(truth.get(p.study_id, p.statuses) for p in pool.images)
    gallery_labels = Labels.of(_statuses_for_scoring(t.studies, t.statuses, truth) for t in pool.texts)
    query_rows = _positions(
        inside(p.subject_id) and known and _of_source([p.study_id], queries)
        for p, known in zip(pool.images, query_labels.known, strict=True)
    )
    gallery_rows = _positions(
        any(map(inside, t.subjects)) and known and _of_source(t.studies, gallery)
        for t, known in zip(pool.texts, gallery_labels.known, strict=True)
    )
    for positions, what in ((query_rows, "query images"), (gallery_rows, "gallery reports")):
        if not len(positions):
            raise EvaluationError(f"fold {part + 1} of {folds} has no {what}; take fewer folds")
    if not train.pool.images or not train.pool.texts:
        raise TrainingError(
            f"without fold {part + 1} of {folds} nothing is left to train on; take more folds"
        )
    subjects = np.array([pool.images[position].subject_id for position in query_rows])
    return Fold(
        replace(prepared, train=train, val=None),
        validation.only(query_rows, gallery_rows),
        Task(query_labels.take(query_rows), gallery_labels.take(gallery_rows), subjects, no_pairs()),
    )


def _statuses_for_scoring(studies: frozenset[str], own: Statuses, truth: Mapping[str, Statuses]) -> Statuses:
    named = sorted(study for study in studies if study in truth)
    return truth[named[0]] if named else own


def _of_source(studies: Sequence[str] | frozenset[str], kinds: Sequence[str]) -> bool:
    return not kinds or any(study.partition(":")[0] in kinds for study in studies)


def _positions(chosen: Any) -> Index:
    return np.flatnonzero(np.fromiter(chosen, dtype=bool))
