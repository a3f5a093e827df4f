"""A run between its steps: what learns, what it learns from, and what moves it on. Knows no files."""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from corpus.errors import TrainingError
from trainer.data.frozen_features import set_modes
from trainer.data.sampling import Batch, Sampler, rarity
from trainer.data.target_vectors import target_vectors
from trainer.data.targets import contrasted, label_similarity, rarity_weights, shown
from trainer.train.config import LossConfig, TrainConfig
from trainer.train.distributed import ALONE, Processes
from trainer.train.heads import normalise_image_head, projections, standardise_heads
from trainer.train.losses import DHNNCELoss, InfoNCELoss, MultiPositiveInfoNCELoss, SemanticMatchingLoss
from trainer.train.optimizer import build_optimizer, build_schedule
from trainer.train.patch_loss import WithPatches
from trainer.train.preparation import Prepared, Side
from trainer.train.projection_start import label_directions, start_projection
from trainer.train.step import Stepper
from trainer.train.text_pretraining import learn_to_read
from trainer.train.towers import SCRATCH
from trainer.train.validation import Score, score_held_out
from trainer.train.weight_average import WeightAverage

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
        projections(self.model)["text"].requires_grad_(not config.freeze.text_head)
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
        self.first = self.sampler.plan(0)
        self.steps_per_epoch = len(self.first)
        self.image_targets, self.text_targets = target_vectors(side.pool, config.targets)
        self.rarity = rarity_weights(self.image_targets, self.text_targets, config.targets.rarity)
        if config.targets.of != "embedding":
            drawn = np.concatenate([batch.pictures for batch in self.first])
            self.image_targets = contrasted(self.image_targets, drawn, config.targets.contrast)
        self.texts, self.held_out = side.texts, prepared.val
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
            lambda index: self.texts.features(index),
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

    def begin(self, tick: Callable[[int, int, float], None] = lambda done, total, loss: None) -> None:
        """Pretrain the text tower, and start linear projections (`trainer.train.projection_start`).

        `tick` is called with steps of reading done, steps in all, and the loss.
        """
        self.set_modes()
        side, head, seed = self.prepared.train, self.config.head, self.config.seed
        pictures, texts = self.image_targets, self.text_targets
        if self.config.reading.epochs:  # texts lie where their findings do, whatever other texts have
            self._read(tick)
            self.processes.take_weights(self.model)
            self._keep_what_was_read()
            pictures = _with_column(pictures, 0.0)
            texts = _with_column(texts, self.config.reading.shared)
        else:
            centre = (pictures.mean(axis=0) + texts.mean(axis=0)) / 2
            pictures, texts = pictures - centre, texts - centre
        aligned = head.start == "aligned"
        start_projection(
            projections(self.model)["image"],
            lambda index: side.images.features(index, training=False),
            pictures if aligned else None,
            np.concatenate([batch.pictures for batch in self.first]),
            seed,
            head.image_ridge,
        )
        self._start_text(texts if aligned else None)
        self.processes.take_weights(self.model)
        self.average = self._average()
        self._throw_dice()

    def _start_text(self, targets: NDArray[np.float32] | None) -> None:
        start_projection(
            projections(self.model)["text"],
            self.texts.features,
            targets,
            np.concatenate([batch.texts for batch in self.first]),
            self.config.seed,
            self.config.head.text_ridge,
            self.texts.owners,
        )

    def _read(self, tick: Callable[[int, int, float], None]) -> None:
        """Let the text tower learn to read, in every process alike."""
        torch.manual_seed(self.config.seed)
        side, config = self.prepared.train, self.config
        self._start_text(self.text_targets)
        targets = torch.from_numpy(self.text_targets * self.rarity)
        dim = int(self.prepared.towers.architecture.model_cfg["embed_dim"])
        directions = label_directions(dim, targets, config.seed)
        learn_to_read(
            side.texts.afresh(),
            self.model.text,
            (targets[:, : directions.shape[1]] @ directions.T).to(self.device),
            rarity([text.statuses for text in side.pool.texts], config.reading.balance),
            config.reading,
            config.optimizer,
            config.seed,
            tick,
        )

    def _keep_what_was_read(self) -> None:
        """Run the texts once through the tower that now reads; what was prepared stays as it was."""
        self.model.eval()
        self.texts = self.prepared.train.texts.afresh()
        self.texts.fill_cache(lambda done, total: None)
        if self.held_out is not None:
            self.held_out = replace(self.held_out, texts=self.held_out.texts.afresh())
            self.held_out.texts.fill_cache(lambda done, total: None)
        self.set_modes()

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
        held_out = self.held_out
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

    def encode(self, side: Side) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Vectors of a prepared side as `Side.encode`, its texts read by the tower as it reads now."""
        texts = side.texts.afresh() if self.config.reading.epochs else side.texts
        return replace(side, texts=texts).encode()

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
        if self.config.reading.epochs:
            self._keep_what_was_read()
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


def _with_column(vectors: NDArray[np.float32], value: float) -> NDArray[np.float32]:
    """(n, F) vectors with one more column, (n, F + 1), that all have alike."""
    return np.pad(vectors, ((0, 0), (0, 1)), constant_values=value)
