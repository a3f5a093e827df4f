"""A training in memory: model, batches, targets, optimizer and their state. No files."""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from corpus.errors import TrainingError
from corpus.progress import OnProgress, silent
from trainer.data.frozen_features import set_modes
from trainer.data.sampling import Batch, Sampler, rarity, shared_out
from trainer.data.target_vectors import target_vectors
from trainer.data.targets import contrasted, label_similarity, rarity_weights, shown
from trainer.train.config import LossConfig, TrainConfig
from trainer.train.distributed import ALONE, Processes
from trainer.train.heads import (
    label_directions,
    normalise_image_head,
    projections,
    standardise_heads,
    start_projection,
)
from trainer.train.image_pretraining import learn_neck, pretrain_image_tower
from trainer.train.losses import (
    DHNNCELoss,
    InfoNCELoss,
    MultiPositiveInfoNCELoss,
    SemanticMatchingLoss,
    WithPatches,
)
from trainer.train.optimizer import WeightAverage, build_optimizer, build_schedule
from trainer.train.preparation import Prepared, PreparedSplit
from trainer.train.step import Stepper
from trainer.train.text_pretraining import pretrain_text_tower
from trainer.train.towers import SCRATCH
from trainer.train.validation import Score, score_validation

MAX_LOGIT_SCALE = 100.0

_STANDARDISED_BY = 512  # images give mean and deviation of a channel to a few per cent


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
class StepResult:
    """Result of one step: the loss, the rate of the first group of weights, the logit scale after it."""

    loss: float
    rate: float
    scale: float


class Training:
    """A training of what was prepared, with everything that a checkpoint contains.

    Args:
        config: the run.
        prepared: items and towers; the towers' weights are trained in place.
        device: of the towers.
        processes: of the training.
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
        learn_neck(self.model, learn=not config.image_pretraining.epochs)
        projections(self.model)["text"].requires_grad_(not config.freeze.text_head)
        scale: Any = self.model.logit_scale
        scale.requires_grad_(config.loss.learn_scale)
        sampling, split = config.sampling, prepared.train
        self.sampler = Sampler(
            split.pool,
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
        self.image_targets, self.text_targets = target_vectors(split.pool, config.targets)
        self.rarity = rarity_weights(self.image_targets, self.text_targets, config.targets.rarity)
        if config.targets.of != "embedding":
            drawn = np.concatenate([batch.images for batch in self.first])
            self.image_targets = contrasted(self.image_targets, drawn, config.targets.contrast)
        self.texts, self.held_out = split.texts, prepared.val
        frozen = prepared.towers.image_start != SCRATCH or config.memory.chunk > 0
        self.live_norms = {"auto": not frozen, "frozen": False, "live": True}[config.freeze.batch_norm]
        self.optimizer = build_optimizer(self.model, config.optimizer)
        self.schedule = build_schedule(
            self.optimizer, config.optimizer.warm_up, self.steps_per_epoch * config.epochs
        )
        self.gradients = Stepper(
            split.images.with_patches
            if config.loss.patches
            else lambda index: split.images.features(index, training=True),
            lambda index: self.texts.features(index),
            build_loss(config.loss),
            scale,
            device,
            self._image_shape(),
            processes,
            config.memory.chunk,
            {"float32": torch.float32, "bf16": torch.bfloat16}[config.memory.precision],
        )
        self.average = self._average()
        self.step = 0
        self._seed_random()

    def begin(self, on_progress: OnProgress = silent) -> None:
        """Pretrain the text tower and initialise the linear projections (`trainer.train.heads`).

        Args:
            on_progress: called with the steps of text pretraining, as `pretrain_text_tower` does.
        """
        self.set_modes()
        split, head, seed = self.prepared.train, self.config.head, self.config.seed
        drawn = np.concatenate([batch.images for batch in self.first])
        split.images.standardise_neck(drawn[:_STANDARDISED_BY])
        images, texts = self.image_targets, self.text_targets
        if self.config.text_pretraining.epochs:  # text vectors are at their absolute targets: no centring
            self._pretrain_text(on_progress)
            self.processes.take_weights(self.model)
            self._recompute_text_cache()
            images = _with_column(images, 0.0)
            texts = _with_column(texts, self.config.text_pretraining.shared)
        else:
            centre = (images.mean(axis=0) + texts.mean(axis=0)) / 2
            images, texts = images - centre, texts - centre
        if self.config.image_pretraining.epochs:
            self._pretrain_images(images.shape[1], on_progress)
            self.processes.take_weights(self.model)
        aligned = head.start != "plain"
        start_projection(
            projections(self.model)["image"],
            lambda index: split.images.features(index, training=False),
            images if head.start == "aligned" else None,
            drawn,
            seed,
            head.image_ridge,
        )
        self._start_text(texts if aligned else None)
        self.processes.take_weights(self.model)
        self.average = self._average()
        self._seed_random()

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

    def _pretrain_images(self, columns: int, on_progress: OnProgress) -> None:
        """Pretrain the neck of the image tower, identically in every process.

        `columns`: of the targets that the projections start from; it takes their directions.
        """
        torch.manual_seed(self.config.seed)
        pool, config = self.prepared.train.pool, self.config
        sources = [image.study_id.partition(":")[0] for image in pool.images]
        statuses = [image.statuses for image in pool.images]
        pretrain_image_tower(
            self.prepared.train.images,
            self.model,
            statuses,
            shared_out(rarity(statuses, config.sampling.balance), sources, config.sampling.shares),
            self._directions(columns),
            config.image_pretraining,
            config.seed,
            on_progress,
        )

    def _directions(self, columns: int) -> torch.Tensor:
        """(dim, columns) orthonormal directions of the columns of targets in the space of the vectors."""
        dim = int(self.prepared.towers.architecture.model_cfg["embed_dim"])
        return label_directions(dim, columns, self.config.seed).float().to(self.device)

    def _pretrain_text(self, on_progress: OnProgress) -> None:
        """Pretrain the text tower, identically in every process."""
        torch.manual_seed(self.config.seed)
        split, config = self.prepared.train, self.config
        self._start_text(self.text_targets)
        targets = torch.from_numpy(self.text_targets * self.rarity)
        directions = self._directions(targets.shape[1])
        pretrain_text_tower(
            split.texts.without_cache(),
            self.model.text,
            targets[:, : directions.shape[1]].to(self.device) @ directions.T,
            rarity([text.statuses for text in split.pool.texts], config.text_pretraining.balance),
            config.text_pretraining,
            config.optimizer,
            config.seed,
            on_progress,
        )

    def _recompute_text_cache(self) -> None:
        """Cache the texts' features of the pretrained tower; what was prepared does not change."""
        self.model.eval()
        self.texts = self.prepared.train.texts.without_cache()
        self.texts.fill_cache()
        if self.held_out is not None:
            self.held_out = replace(self.held_out, texts=self.held_out.texts.without_cache())
            self.held_out.texts.fill_cache()
        self.set_modes()

    def set_modes(self) -> None:
        """Put the learning modules into training mode."""
        set_modes(self.model, live_batch_norm=self.live_norms)

    def plan(self, epoch: int) -> list[Batch]:
        """The remaining batches of an epoch (from 0)."""
        return self.sampler.plan(epoch)[max(0, self.step - epoch * self.steps_per_epoch) :]

    def take(self, batch: Batch) -> StepResult:
        """Take one step.

        Raises:
            TrainingError: the loss is not finite; the weights are those of the step before.
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
        return StepResult(loss, rate, math.exp(float(scale.detach())))

    def score(self) -> Score:
        """Scores of the validation split with the weights that would be exported; None without a split."""
        held_out = self.held_out
        if held_out is None:
            return Score(None, None, None)
        with self.exported():
            images, texts = held_out.encode()
        return score_validation(
            images,
            texts,
            [image.statuses for image in held_out.pool.images],
            [text.statuses for text in held_out.pool.texts],
        )

    def encode(self, split: PreparedSplit) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Vectors of a prepared split as `PreparedSplit.encode`, its texts by the present text tower."""
        texts = split.texts.without_cache() if self.config.text_pretraining.epochs else split.texts
        return replace(split, texts=texts).encode()

    @contextlib.contextmanager
    def exported(self) -> Iterator[None]:
        """Put the weights that would be exported into the model, in evaluation mode."""
        with self.average.applied():
            self.model.eval()
            yield

    def state(self) -> dict[str, Any]:
        """Everything that an exact resume needs; all processes call it together."""
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
        """Restore a state.

        Raises:
            TrainingError: it belongs to another corpus, or to another number of processes.
            KeyError, ValueError, TypeError, RuntimeError: it is not the state of such a run.
        """
        if state["signature"] != self.prepared.signature():
            raise TrainingError("the corpus is not the one that the run began with; train anew")
        if len(state["random"]) != self.processes.world:
            raise TrainingError(
                f"the run was begun with {len(state['random'])} processes; resume with as many"
            )
        self.model.load_state_dict(state["model"])
        if self.config.text_pretraining.epochs:
            self._recompute_text_cache()
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.average.restore(state["average"])
        self.step = int(state["step"])
        torch.set_rng_state(state["random"][self.processes.rank])

    def _similarity(self, batch: Batch) -> torch.Tensor | None:
        if not self.config.loss.by_labels:
            return None
        similarity = label_similarity(
            self.image_targets[batch.images] * self.rarity,
            self.text_targets[batch.texts] * self.rarity,
            self.config.targets.kind,
        )
        return torch.from_numpy(similarity).to(self.device)

    def _shown(self, batch: Batch) -> torch.Tensor | None:
        """Whether each image shows the findings of each text, for the loss over patches; None if unused."""
        if not self.config.loss.patches or not self.config.needs_labels:
            return None
        pool = self.prepared.train.pool
        labels = shown(
            [pool.images[row].statuses for row in batch.images],
            [pool.texts[row].statuses for row in batch.texts],
        )
        return torch.from_numpy(labels).to(self.device)

    def _image_shape(self) -> tuple[int, ...]:
        """The shape of an image's features: (dim,), or (1 + P, dim) with patches."""
        images = self.prepared.train.images
        with torch.no_grad():
            if self.config.loss.patches:
                return tuple(images.with_patches(np.arange(1)).shape[1:])
            return tuple(images.features(np.arange(1), training=False).shape[1:])

    def _average(self) -> WeightAverage:
        optimizer = self.config.optimizer
        return WeightAverage(self.model, optimizer.average, optimizer.keep_start)

    def _seed_random(self) -> None:
        """Seed dropout and augmentation, differently in each process; all draw the same batches."""
        torch.manual_seed(self.config.seed + self.processes.rank * 100_003)


def _with_column(vectors: NDArray[np.float32], value: float) -> NDArray[np.float32]:
    """(n, F) vectors with one more column of a constant, (n, F + 1)."""
    return np.pad(vectors, ((0, 0), (0, 1)), constant_values=value)
