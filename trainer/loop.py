"""One training run, from sources to an encoder folder: draw, encode, compare, step; score, save, export."""

import contextlib
import logging
import math
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from corpus.errors import TrainingError
from trainer.averaging import WeightAverage
from trainer.checkpointing import BEST, LAST, METRICS, STEPS, RunFolder, open_run
from trainer.config import LossConfig, TrainConfig
from trainer.device import choose_device
from trainer.export import export_encoder
from trainer.features import encode_all
from trainer.frozen import set_modes
from trainer.heads import fold_heads, projections, standardise_heads
from trainer.losses import InfoNCELoss, SemanticMatchingLoss
from trainer.monitor import score_held_out
from trainer.optimizer import build_optimizer, build_schedule
from trainer.preparation import OnProgress, Prepared, Progress, prepare
from trainer.record import run_record
from trainer.sampling import Batch, Sampler
from trainer.start import start_projection
from trainer.targets import finding_vectors, label_similarity, rarity_weights
from trainer.towers import SCRATCH

__all__ = ["OnProgress", "Progress", "train"]

logger = logging.getLogger(__name__)

MAX_LOGIT_SCALE = 100.0
_STEP_COLUMNS = ("step", "epoch", "loss", "learning_rate", "logit_scale")
_EPOCH_COLUMNS = ("epoch", "step", "loss", "precision_at_1", "lift_at_5", "ndcg_at_10", "seconds")


def train(
    config: TrainConfig,
    out: Path,
    on_progress: OnProgress = lambda progress: None,
    *,
    resume: bool = False,
    device: str = "auto",
) -> Path:
    """Train an encoder.

    Args:
        config: the run.
        out: the run's folder (see `trainer.checkpointing`); the encoder goes into its `encoder/`.
        on_progress: called as the run goes on.
        resume: go on with the run in `out` from its last checkpoint, as if it had never stopped: on a CPU
            the losses are the same.
        device: `auto` or a torch device name.

    Returns:
        The encoder folder.

    Raises:
        TrainingError: the run cannot start, resume or go on; its folder stays usable.
        CorpusError, UsageError: a source cannot be opened.
        EncoderError: an architecture or weights cannot be used, or the encoder cannot be written.
    """
    with open_run(out, config, resume=resume) as folder:
        torch.manual_seed(config.seed)
        place = choose_device(device)
        prepared = prepare(config, folder, on_progress, place)
        run = _Run(config, folder, prepared, on_progress, place)
        if resume:
            run.restore()
        else:
            run.begin()
        run.go_on()
        on_progress(Progress("export", 0, 1))
        encoder = run.export()
        shutil.rmtree(folder.cache, ignore_errors=True)  # pictures of people are not kept longer than needed
        on_progress(Progress("export", 1, 1, str(encoder)))
        return encoder


def build_loss(config: LossConfig) -> nn.Module:
    """The loss that a configuration names."""
    if config.name == "infonce":
        return InfoNCELoss()
    return SemanticMatchingLoss(config.temperature, config.identity_weight)


class _Run:
    """A run between its steps: what a checkpoint holds, and what moves it on."""

    def __init__(
        self,
        config: TrainConfig,
        folder: RunFolder,
        prepared: Prepared,
        on_progress: OnProgress,
        device: torch.device,
    ) -> None:
        self.config, self.folder, self.prepared = config, folder, prepared
        self.on_progress, self.device = on_progress, device
        self.model: Any = prepared.towers.model
        if config.head.standardise:
            standardise_heads(self.model, config.head.drop)
        self.loss = build_loss(config.loss)
        sampling, pool = config.sampling, prepared.train.pool
        self.sampler = Sampler(
            pool,
            config.pairing,
            sampling.batch_size,
            sampling.text_batch_size,
            sampling.balance,
            config.seed,
            sampling.steps,
            sampling.shares,
        )
        self.steps_per_epoch = len(self.sampler.plan(0))
        self.optimizer = build_optimizer(self.model, config.optimizer)
        self.schedule = build_schedule(
            self.optimizer, config.optimizer.warm_up, self.steps_per_epoch * config.epochs
        )
        self.image_labels = finding_vectors([p.statuses for p in pool.pictures], config.targets)
        self.text_labels = finding_vectors([t.statuses for t in pool.texts], config.targets)
        self.rarity = rarity_weights(self.image_labels, self.text_labels, config.targets.rarity)
        frozen = prepared.towers.image_start != SCRATCH
        self.live_norms = {"auto": not frozen, "frozen": False, "live": True}[config.freeze.batch_norm]
        self.average = self._average()
        self.step, self.seconds = 0, 0.0
        self.losses: list[float] = []  # of the present epoch
        self.epochs: list[dict[str, Any]] = []
        self.unwritten: list[tuple[Any, ...]] = []
        torch.manual_seed(config.seed)

    def begin(self) -> None:
        """Start linear projections where `trainer.start` puts them."""
        set_modes(self.model, live_batch_norm=self.live_norms)
        side, head, seed = self.prepared.train, self.config.head, self.config.seed
        centre = (self.image_labels.mean(axis=0) + self.text_labels.mean(axis=0)) / 2
        last, first = projections(self.model), self.sampler.plan(0)
        aligned = head.start == "aligned"
        start_projection(
            last["image"],
            lambda index: side.images.features(index, training=False),
            self.image_labels - centre if aligned else None,
            np.concatenate([batch.pictures for batch in first]),
            seed,
            head.image_ridge,
        )
        start_projection(
            last["text"],
            side.texts.features,
            self.text_labels - centre if aligned else None,
            np.concatenate([batch.texts for batch in first]),
            seed,
            head.text_ridge,
            side.texts.owners,
        )
        self.average = self._average()
        torch.manual_seed(seed)

    def _average(self) -> WeightAverage:
        optimizer = self.config.optimizer
        return WeightAverage(self.model, optimizer.average, optimizer.keep_start)

    def go_on(self) -> None:
        """Take every step that is still to be taken."""
        for epoch in range(self.step // self.steps_per_epoch, self.config.epochs):
            plan = self.sampler.plan(epoch)
            began = time.monotonic()
            for batch in plan[self.step - epoch * self.steps_per_epoch :]:
                self._take(batch, epoch)
                every = self.config.checkpoint_steps
                if every and self.step % every == 0 and self.step % self.steps_per_epoch:
                    self.seconds += time.monotonic() - began
                    began = time.monotonic()
                    self._save()
            self.seconds += time.monotonic() - began
            self._end_epoch(epoch)

    def _take(self, batch: Batch, epoch: int) -> None:
        """One step."""
        set_modes(self.model, live_batch_norm=self.live_norms)
        loss = self._compare(batch)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(
                f"the loss is {value} at step {self.step + 1}: lower the learning rate; the "
                f"checkpoints before it in {self.folder.path} are whole"
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        rate = self.optimizer.param_groups[0]["lr"]
        nn.utils.clip_grad_norm_(self.model.parameters(), self.config.optimizer.clip)
        self.optimizer.step()
        self.schedule.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(max=math.log(MAX_LOGIT_SCALE))
        self.step += 1
        self.average.update(self.step)
        self.losses.append(value)
        scale = math.exp(float(self.model.logit_scale.detach()))
        self.unwritten.append((self.step, epoch + 1, f"{value:.6f}", f"{rate:.3e}", f"{scale:.3f}"))
        total = self.steps_per_epoch * self.config.epochs
        self.on_progress(Progress("train", self.step, total, f"epoch {epoch + 1} loss {value:.3f}"))

    def _compare(self, batch: Batch) -> Tensor:
        side = self.prepared.train
        similarity = None
        if self.config.loss.name == "semantic-matching":
            labels = (
                self.image_labels[batch.pictures] * self.rarity,
                self.text_labels[batch.texts] * self.rarity,
            )
            similarity = torch.from_numpy(label_similarity(*labels, self.config.targets.kind)).to(self.device)
        loss: Tensor = self.loss(
            side.images.features(batch.pictures, training=True),
            side.texts.features(batch.texts),
            self.model.logit_scale.exp(),
            similarity=similarity,
            pairs=torch.from_numpy(batch.pairs).to(self.device),
        )
        return loss

    def _end_epoch(self, epoch: int) -> None:
        with self.average.applied():
            self._score_and_keep(epoch)
        self._save()
        row = self.epochs[-1]
        self.folder.add_rows(METRICS, _EPOCH_COLUMNS, [[row[column] for column in _EPOCH_COLUMNS]])
        told = " ".join(f"{name} {row[name]}" for name in _EPOCH_COLUMNS[2:6] if row[name] is not None)
        self.on_progress(Progress("epoch", epoch + 1, self.config.epochs, told))

    def _score_and_keep(self, epoch: int) -> None:
        """Score the epoch; keep its weights where they are the ones to export."""
        score = self._score()
        row = {
            "epoch": epoch + 1,
            "step": self.step,
            "loss": round(sum(self.losses) / len(self.losses), 6),
            **{name: value if value is None else round(value, 5) for name, value in score.items()},
            "seconds": round(self.seconds, 2),
        }
        self.losses = []
        before = self._best_row()
        self.epochs.append(row)
        if before is not self._best_row():  # before the checkpoint that speaks of it
            self.folder.save(BEST, {"model": self.model.state_dict(), "epoch": epoch + 1})

    def _score(self) -> dict[str, float | None]:
        """Picture → report on the people held out for tuning, all None where there are none."""
        side = self.prepared.val
        if side is None:
            return dict.fromkeys(_EPOCH_COLUMNS[3:6])
        self.model.eval()
        score = score_held_out(
            encode_all(lambda index: side.images.features(index, training=False), len(side.pool.pictures)),
            encode_all(side.texts.features, len(side.pool.texts)),
            [picture.statuses for picture in side.pool.pictures],
            [text.statuses for text in side.pool.texts],
        )
        return asdict(score)

    def _best_row(self) -> dict[str, Any]:
        """The epoch to keep: the best scored, of equals the later; the last where that is asked for."""
        if self.config.keep == "last" or all(row["ndcg_at_10"] is None for row in self.epochs):
            return self.epochs[-1] if self.epochs else {}
        return max(
            reversed(self.epochs),  # few people held out cannot tell epochs apart: prefer the more trained
            key=lambda row: (
                -math.inf if row["ndcg_at_10"] is None else row["ndcg_at_10"] + (row["lift_at_5"] or 0)
            ),
        )

    def _save(self) -> None:
        """Write the step rows and the checkpoint that a resume starts from."""
        self.folder.save(
            LAST,
            {
                "signature": self.prepared.signature(),
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(),
                "average": self.average.state(),
                "random": torch.get_rng_state(),
                "step": self.step,
                "losses": self.losses,
                "epochs": self.epochs,
                "seconds": self.seconds,
            },
        )
        self.folder.add_rows(STEPS, _STEP_COLUMNS, self.unwritten)
        self.unwritten = []

    def restore(self) -> None:
        """Take up the last checkpoint.

        Raises:
            TrainingError: it is damaged, or the corpus is not what the run began with.
        """
        state = self.folder.load(LAST)
        with _named_damage():
            if state["signature"] != self.prepared.signature():
                raise TrainingError(
                    f"the corpus is not the one that the run in {self.folder.path} began with; train anew"
                )
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.schedule.load_state_dict(state["schedule"])
            self.average.restore(state["average"])
            self.step, self.losses = int(state["step"]), list(state["losses"])
            self.epochs, self.seconds = list(state["epochs"]), float(state["seconds"])
            torch.set_rng_state(state["random"])
        self.folder.forget_after(STEPS, "step", self.step)
        self.folder.forget_after(METRICS, "step", self.step)

    def export(self) -> Path:
        """Write the encoder of the epoch to keep."""
        kept = self._best_row()
        with _named_damage():
            self.model.load_state_dict(self.folder.load(BEST)["model"])
        fold_heads(self.model)
        towers = self.prepared.towers
        record: Mapping[str, Any] = run_record(
            self.config,
            self.prepared.corpus,
            {"image": towers.image_start, "text": towers.text_start},
            self.epochs,
            kept,
            self.prepared.problems,
            self.seconds,
        )
        self.model.eval()
        return export_encoder(
            self.model,
            towers.tokenizer,
            towers.architecture,
            {"name": self.folder.path.name, **record},
            self.folder.encoder,
        )


@contextlib.contextmanager
def _named_damage() -> Iterator[None]:
    """Turn what a misshapen checkpoint causes into one line."""
    try:
        yield
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise TrainingError(f"the checkpoint does not fit this run: {reason}; train anew") from error
