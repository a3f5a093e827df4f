"""One training run, from sources to an encoder folder: prepare, step, score, save, export."""

import contextlib
import logging
import math
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from corpus.errors import TrainingError
from corpus.progress import OnProgress, silent
from trainer.data.items import Gathered, SourceCount
from trainer.models.export import export_encoder
from trainer.runtime.device import choose_device
from trainer.runtime.training_overlap import subject_lists, subjects_record
from trainer.train.config import TrainConfig
from trainer.train.config_file import config_table, public_name, without_folders
from trainer.train.distributed import joined
from trainer.train.heads import fold_heads
from trainer.train.preparation import Prepared, prepare
from trainer.train.run import Training
from trainer.train.state import BEST, CURVES, LAST, METRICS, STEPS, RunFolder, draw_curves, open_run

__all__ = ["train"]

logger = logging.getLogger(__name__)

_LICENCES = {
    "covid-chestxray": "a licence for each image, in the set's metadata",
    "nih-chestxray14": "free use with attribution to the NIH Clinical Center",
    "openi": "CC BY-NC-ND 4.0",
    "phantom": "none: drawn by the program",
}

_STEP_COLUMNS = ("step", "epoch", "loss", "learning_rate", "logit_scale")
_EPOCH_COLUMNS = ("epoch", "step", "loss", "precision_at_1", "lift_at_5", "ndcg_at_10", "seconds")


def train(
    config: TrainConfig,
    out: Path,
    on_progress: OnProgress = silent,
    *,
    resume: bool = False,
    device: str = "auto",
) -> Path:
    """Train an encoder.

    Under `torchrun` or `accelerate launch` every process calls this; the first one writes.

    Args:
        config: the run.
        out: the run's folder (see `trainer.train.state`); the encoder goes into its `encoder/`.
        on_progress: called during the run, in the first process.
        resume: continue the run in `out` from its last checkpoint; on a CPU the losses are those of an
            uninterrupted run.
        device: `auto` or a torch device name.

    Returns:
        The encoder folder.

    Raises:
        TrainingError: the run cannot start, resume or continue; its folder stays usable.
        CorpusError, UsageError: a source cannot be opened.
        EncoderError: an architecture or weights cannot be used, or the encoder cannot be written.
    """
    torch_device = choose_device(device)
    with joined(torch_device) as processes, contextlib.ExitStack() as stack:
        torch_device = processes.device(torch_device)

        def enter_folder() -> RunFolder:
            return stack.enter_context(open_run(out, config, resume=resume))

        path = processes.from_first(lambda: enter_folder().path)
        folder = RunFolder(path)
        torch.manual_seed(config.seed)  # weights from scratch are the same in every process
        report: OnProgress = on_progress if processes.first else silent
        prepared = prepare(config, folder, report, torch_device, processes)
        run = _Run(Training(config, prepared, torch_device, processes), folder, report)
        if resume:
            run.restore()
        else:
            run.begin()
        run.go_on()
        processes.from_first(lambda: run.export(report))
        return folder.encoder


class _Run:
    """A training with its folder: steps, scores, checkpoints, export."""

    def __init__(self, training: Training, folder: RunFolder, on_progress: OnProgress) -> None:
        self.training, self.folder, self.on_progress = training, folder, on_progress
        self.config, self.first = training.config, training.processes.first
        self.seconds = 0.0
        self.losses: list[float] = []  # of the present epoch
        self.epochs: list[dict[str, Any]] = []
        self.unwritten: list[tuple[Any, ...]] = []

    def begin(self) -> None:
        """Initialise before the first step."""
        self.training.begin(self.on_progress)

    def go_on(self) -> None:
        """Take all remaining steps."""
        training = self.training
        for epoch in range(training.step // training.steps_per_epoch, self.config.epochs):
            if self._has_stopped_learning():
                logger.info("stopped after epoch %d: no better for %d epochs", epoch, self.config.patience)
                return
            began = time.monotonic()
            for batch in training.plan(epoch):
                try:
                    taken = training.take(batch)
                except TrainingError as error:
                    raise TrainingError(
                        f"{error}; the earlier checkpoints in {self.folder.path} are intact"
                    ) from error
                self._note(taken.loss, epoch, f"{taken.rate:.3e}", f"{taken.scale:.3f}")
                every = self.config.checkpoint_steps
                if every and training.step % every == 0 and training.step % training.steps_per_epoch:
                    self.seconds += time.monotonic() - began
                    began = time.monotonic()
                    self._save()
            self.seconds += time.monotonic() - began
            self._end_epoch(epoch)

    def _note(self, loss: float, epoch: int, rate: str, scale: str) -> None:
        step = self.training.step
        self.losses.append(loss)
        self.unwritten.append((step, epoch + 1, f"{loss:.6f}", rate, scale))
        total = self.training.steps_per_epoch * self.config.epochs
        self.on_progress("train", step, total, f"epoch {epoch + 1} loss {loss:.3f}")

    def _end_epoch(self, epoch: int) -> None:
        self._score_and_keep(epoch)
        self._save()
        row = self.epochs[-1]
        if self.first:
            self.folder.add_rows(METRICS, _EPOCH_COLUMNS, [[row[column] for column in _EPOCH_COLUMNS]])
            draw_curves(self.folder.path / STEPS, self.folder.path / METRICS, self.folder.path / CURVES)
        note = " ".join(f"{name} {row[name]}" for name in _EPOCH_COLUMNS[2:6] if row[name] is not None)
        self.on_progress("epoch", epoch + 1, self.config.epochs, note)

    def _score_and_keep(self, epoch: int) -> None:
        """Score the epoch; save its weights if they are the best so far."""
        score = self.training.processes.from_first(self.training.score)
        row = {
            "epoch": epoch + 1,
            "step": self.training.step,
            "loss": round(sum(self.losses) / len(self.losses), 6),
            **{name: value if value is None else round(value, 5) for name, value in asdict(score).items()},
            "seconds": round(self.seconds, 2),
        }
        self.losses = []
        before = self._best_row()
        self.epochs.append(row)
        if self.first and before is not self._best_row():  # before the checkpoint that refers to it
            with self.training.exported():
                self.folder.save(BEST, {"model": self.training.model.state_dict(), "epoch": epoch + 1})

    def _best_row(self) -> dict[str, Any]:
        """The row of the epoch to export: the best score, the later of equals; or the last, if configured."""
        if self.config.keep == "last" or all(row["ndcg_at_10"] is None for row in self.epochs):
            return self.epochs[-1] if self.epochs else {}
        return max(
            reversed(self.epochs),  # with few held-out subjects many epochs tie: prefer the later
            key=lambda row: (
                -math.inf if row["ndcg_at_10"] is None else row["ndcg_at_10"] + (row["lift_at_5"] or 0)
            ),
        )

    def _has_stopped_learning(self) -> bool:
        """Whether `patience` epochs have passed since the best by lift@5, or by nDCG@10 without it."""
        patience = self.config.patience
        name = "ndcg_at_10" if all(row["lift_at_5"] is None for row in self.epochs) else "lift_at_5"
        scores = [-math.inf if row[name] is None else row[name] for row in self.epochs]
        if not patience or len(scores) <= patience or max(scores) == -math.inf:
            return False
        return max(scores[-patience:]) <= max(scores[:-patience])

    def _save(self) -> None:
        """Write the step rows and the checkpoint that a resume starts from."""
        state = self.training.state()
        if self.first:
            logbook = {"losses": self.losses, "epochs": self.epochs, "seconds": self.seconds}
            self.folder.save(LAST, {**state, **logbook})
            self.folder.add_rows(STEPS, _STEP_COLUMNS, self.unwritten)
        self.unwritten = []

    def restore(self) -> None:
        """Resume from the last checkpoint.

        Raises:
            TrainingError: it is damaged, or the corpus is not that of the run.
        """
        state = self.folder.load(LAST)
        with _named_damage():
            self.training.restore(state)
            self.losses, self.epochs = list(state["losses"]), list(state["epochs"])
            self.seconds = float(state["seconds"])
        if self.first:
            self.folder.forget_after(STEPS, "step", self.training.step)
            self.folder.forget_after(METRICS, "step", self.training.step)
        self.training.processes.wait()

    def export(self, on_progress: OnProgress) -> Path:
        """Export the encoder of the best epoch."""
        on_progress("export", 0, 1)
        best = self._best_row()
        model, prepared = self.training.model, self.training.prepared
        with _named_damage():
            model.load_state_dict(self.folder.load(BEST)["model"])
        fold_heads(model)
        model.eval()
        folder = export_encoder(
            model,
            prepared.towers.tokenizer,
            prepared.towers.architecture,
            {"name": self.folder.path.name, **self._record(prepared, best)},
            self.folder.encoder,
        )
        shutil.rmtree(
            self.folder.cache, ignore_errors=True
        )  # pixels of patients are not stored longer than needed
        on_progress("export", 1, 1, str(folder))
        return folder

    def _record(self, prepared: Prepared, best: Mapping[str, Any]) -> dict[str, Any]:
        return run_record(
            self.config,
            prepared.corpus,
            {"image": prepared.towers.image_start, "text": prepared.towers.text_start},
            prepared.towers.earlier,
            self.epochs,
            best,
            prepared.problems,
            self.seconds,
        )


@contextlib.contextmanager
def _named_damage() -> Iterator[None]:
    """Turn the errors of a checkpoint of another run into one message."""
    try:
        yield
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise TrainingError(f"the checkpoint does not fit this run: {reason}; train anew") from error


def run_record(
    config: TrainConfig,
    corpus: Gathered,
    starts: Mapping[str, str],
    earlier: Mapping[str, Any],
    scores: Sequence[Mapping[str, Any]],
    best: Mapping[str, Any],
    problems: Mapping[str, int],
    seconds: float,
) -> dict[str, Any]:
    """The record of a run for `similarity.json`, without paths of this machine and without subject ids.

    Args:
        config: the run's settings.
        corpus: the training and validation items.
        starts: initial weights of the towers.
        earlier: the record of the encoder that gave the initial image backbone; empty without one.
        scores: one row per epoch.
        best: the row of the exported epoch.
        problems: counts of unreadable items, by state.
        seconds: training time.
    """
    return {
        "data": [_source_row(count) for count in corpus.sources],
        "subjects": subjects_record(corpus.subjects),
        "earlier_subjects": subject_lists(earlier),
        "starts": {side: public_name(start) for side, start in starts.items()},
        "config": config_table(without_folders(config)),
        "metrics": {"held_out_for_tuning": dict(best)},
        "epochs": [dict(row) for row in scores],
        "problems": dict(problems),
        "seconds": round(seconds, 1),
        "torch": torch.__version__,
    }


def _source_row(count: SourceCount) -> dict[str, Any]:
    kind = count.source.partition(":")[0]
    return {
        "source": count.source,
        "subjects": count.subjects,
        "pictures": count.images,
        "texts": count.texts,
        "unlabelled": count.unlabelled,
        "licence": _LICENCES.get(kind, "as given by the publisher of the set"),
    }
