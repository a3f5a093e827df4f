"""A run between its steps: what learns, what it learns from, and what moves it on. Knows no files."""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from corpus.errors import TrainingError
from trainer.averaging import WeightAverage
from trainer.config import LossConfig, TrainConfig
from trainer.frozen import set_modes
from trainer.heads import normalise_image_head, projections, standardise_heads
from trainer.losses import DHNNCELoss, InfoNCELoss, MultiPositiveInfoNCELoss, SemanticMatchingLoss
from trainer.monitor import Score, score_held_out
from trainer.optimizer import build_optimizer, build_schedule
from trainer.patch_loss import WithPatches
from trainer.preparation import Prepared
from trainer.processes import ALONE, Processes
from trainer.sampling import Batch, Sampler
from trainer.start import start_projection
from trainer.step import Stepper
from trainer.target_vectors import target_vectors
from trainer.targets import label_similarity, rarity_weights, shown
from trainer.towers import SCRATCH

MAX_LOGIT_SCALE = 100.0


def build_loss(config: LossConfig) -> nn.Module:
    """The loss that a configuration names."""
    whole = _build_whole_loss(config)
    return WithPatches(whole, config.patches) if config.patches else whole


def _build_whole_loss(config: LossConfig) -> nn.Module:
    match config.name:
        case "semantic-matching":
            return SemanticMatchingLoss(config.temperature, config.identity_weight)
        case "dhn-nce":
            return DHNNCELoss(config.beta1, config.beta2, config.detach_weights, config.decoupled)
        case "infonce":
            return InfoNCELoss()
        case "multi-positive-infonce":
            return MultiPositiveInfoNCELoss(config.least)


@dataclass(frozen=True, slots=True)
class Taken:
    """What one step was: its loss, the rate of the first group of weights, the logit scale after it."""

    loss: float
    rate: float
    scale: float


class Training:
    """Everything that a checkpoint holds, on what was prepared.

    Args:
        config: the run.
        prepared: items and towers; the towers' weights are trained in place.
        device: where the towers are.
        processes: who else trains with this process.
    """

    def __init__(
        self,
        config: TrainConfig,
        prepared: Prepared,
        device: torch.device,
        processes: Processes = ALONE,
    ) -> None:
        self.config, self.prepared, self.device, self.processes = config, prepared, device, processes
        self.model: Any = prepared.towers.model
        if config.head.normalise:
            normalise_image_head(self.model)
        if config.head.standardise:
            standardise_heads(self.model, config.head.drop)
        scale: Any = self.model.logit_scale
        scale.requires_grad_(config.loss.learn_scale)
        sampling, side = config.sampling, prepared.train
        self.sampler = Sampler(
            side.pool,
            config.pairing,
            sampling.batch_size,
            sampling.text_batch_size,
            sampling.balance,
            config.seed,
            sampling.steps,
            sampling.shares,
            sampling.texts_per_picture,
        )
        self.steps_per_epoch = len(self.sampler.plan(0))
        self.image_targets, self.text_targets = target_vectors(side.pool, config.targets)
        self.rarity = rarity_weights(self.image_targets, self.text_targets, config.targets.rarity)
        frozen = prepared.towers.image_start != SCRATCH or config.memory.chunk > 0
        self.live_norms = {"auto": not frozen, "frozen": False, "live": True}[config.freeze.batch_norm]
        self.optimizer = build_optimizer(self.model, config.optimizer)
        self.schedule = build_schedule(
            self.optimizer, config.optimizer.warm_up, self.steps_per_epoch * config.epochs
        )
        self.gradients = Stepper(
            side.images.with_patches
            if config.loss.patches
            else lambda index: side.images.features(index, training=True),
            side.texts.features,
            build_loss(config.loss),
            scale,
            device,
            self._picture_shape(),
            processes,
            config.memory.chunk,
            {"float32": torch.float32, "bf16": torch.bfloat16}[config.memory.precision],
        )
        self.average = self._average()
        self.step = 0
        self._throw_dice()

    def begin(self) -> None:
        """Start linear projections where `trainer.start` puts them."""
        self.set_modes()
        side, head, seed = self.prepared.train, self.config.head, self.config.seed
        centre = (self.image_targets.mean(axis=0) + self.text_targets.mean(axis=0)) / 2
        last, first = projections(self.model), self.sampler.plan(0)
        aligned = head.start == "aligned"
        start_projection(
            last["image"],
            lambda index: side.images.features(index, training=False),
            self.image_targets - centre if aligned else None,
            np.concatenate([batch.pictures for batch in first]),
            seed,
            head.image_ridge,
        )
        start_projection(
            last["text"],
            side.texts.features,
            self.text_targets - centre if aligned else None,
            np.concatenate([batch.texts for batch in first]),
            seed,
            head.text_ridge,
            side.texts.owners,
        )
        self.processes.take_weights(self.model)
        self.average = self._average()
        self._throw_dice()

    def set_modes(self) -> None:
        """Put what learns into training mode."""
        set_modes(self.model, live_batch_norm=self.live_norms)

    def plan(self, epoch: int) -> list[Batch]:
        """The batches of an epoch (from 0) that are still to be taken."""
        return self.sampler.plan(epoch)[max(0, self.step - epoch * self.steps_per_epoch) :]

    def take(self, batch: Batch) -> Taken:
        """One step.

        Raises:
            TrainingError: the loss is no number; the weights are those of the step before.
        """
        if not self.model.training:
            self.set_modes()
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.gradients(batch, self._similarity(batch), self._shown(batch))
        if not math.isfinite(loss):
            raise TrainingError(f"the loss is {loss} at step {self.step + 1}: lower the learning rate")
        scale = self.model.logit_scale
        learning = [p for p in self.model.parameters() if p.requires_grad]
        self.processes.sum_gradients(
            [p for p in learning if p is not scale], [p for p in learning if p is scale]
        )
        rate = float(self.optimizer.param_groups[0]["lr"])
        nn.utils.clip_grad_norm_(learning, self.config.optimizer.clip)
        self.optimizer.step()
        self.schedule.step()
        with torch.no_grad():
            scale.clamp_(max=math.log(MAX_LOGIT_SCALE))
        self.step += 1
        self.average.update(self.step)
        return Taken(loss, rate, math.exp(float(scale.detach())))

    def score(self) -> Score:
        """Picture → report on the people held out for tuning, by the weights that would be exported.

        All is None where nobody is held out.
        """
        held_out = self.prepared.val
        if held_out is None:
            return Score(None, None, None)
        with self.exported():
            pictures, texts = held_out.encode()
        return score_held_out(
            pictures,
            texts,
            [picture.statuses for picture in held_out.pool.pictures],
            [text.statuses for text in held_out.pool.texts],
        )

    @contextlib.contextmanager
    def exported(self) -> Iterator[None]:
        """Put the weights that would be exported in the model's place, in evaluation mode."""
        with self.average.applied():
            self.model.eval()
            yield

    def state(self) -> dict[str, Any]:
        """Everything that an exact resume needs; asked of all processes at once."""
        return {
            "signature": self.prepared.signature(),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "average": self.average.state(),
            "random": self.processes.all_of(torch.get_rng_state()),
            "step": self.step,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a state.

        Raises:
            TrainingError: it is of another corpus, or of another number of processes.
            KeyError, ValueError, TypeError, RuntimeError: it is not the state of such a run.
        """
        if state["signature"] != self.prepared.signature():
            raise TrainingError("the corpus is not the one that the run began with; train anew")
        if len(state["random"]) != self.processes.world:
            raise TrainingError(
                f"the run was begun with {len(state['random'])} processes; resume with as many"
            )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.average.restore(state["average"])
        self.step = int(state["step"])
        torch.set_rng_state(state["random"][self.processes.rank])

    def _similarity(self, batch: Batch) -> torch.Tensor | None:
        if not self.config.loss.by_labels:
            return None
        likeness = label_similarity(
            self.image_targets[batch.pictures] * self.rarity,
            self.text_targets[batch.texts] * self.rarity,
            self.config.targets.kind,
        )
        return torch.from_numpy(likeness).to(self.device)

    def _shown(self, batch: Batch) -> torch.Tensor | None:
        """Which pictures show what which texts affirm, where patches learn from findings."""
        if not self.config.loss.patches or not self.config.needs_labels:
            return None
        pool = self.prepared.train.pool
        told = shown(
            [pool.pictures[place].statuses for place in batch.pictures],
            [pool.texts[place].statuses for place in batch.texts],
        )
        return torch.from_numpy(told).to(self.device)

    def _picture_shape(self) -> tuple[int, ...]:
        """The shape of a picture's features: (dim,), or (1 + P, dim) with its patches'."""
        images = self.prepared.train.images
        with torch.no_grad():
            if self.config.loss.patches:
                return tuple(images.with_patches(np.arange(1)).shape[1:])
            return tuple(images.features(np.arange(1), training=False).shape[1:])

    def _average(self) -> WeightAverage:
        optimizer = self.config.optimizer
        return WeightAverage(self.model, optimizer.average, optimizer.keep_start)

    def _throw_dice(self) -> None:
        """Each process drops and augments by its own chance; all draw the same batches."""
        torch.manual_seed(self.config.seed + self.processes.rank * 100_003)
