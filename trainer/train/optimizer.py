"""Optimization: AdamW, its schedule (linear warm-up, then a cosine to zero), and averaged weights."""

import contextlib
import math
import re
from collections.abc import Iterator
from typing import Any

import torch
from timm.models import group_parameters
from torch import Tensor, nn

from corpus.errors import TrainingError
from trainer.train.config import OptimizerConfig

_LAYER = re.compile(r"transformer\.encoder\.layer\.(\d+)\.")
_HEADS = ("visual.head.", "text.proj.", "logit_scale")


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW on the parameters that require gradients; no decay on biases, norms and the logit scale.

    Raises:
        TrainingError: every parameter is frozen.
    """
    depths = layers_below_the_last(model) if config.layer_decay < 1 else {}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            rate = config.learning_rate * config.layer_decay ** depths.get(name, 0)
            if config.head_rate and name.startswith(_HEADS):
                rate = config.head_rate
            decay = config.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((rate, decay), []).append(parameter)
    if not groups:
        raise TrainingError("everything is frozen: there is nothing to learn")
    return torch.optim.AdamW(
        [{"params": group, "lr": rate, "weight_decay": decay} for (rate, decay), group in groups.items()]
    )


def layers_below_the_last(model: nn.Module) -> dict[str, int]:
    """For each parameter of the towers, the number of layers between it and the last of its tower.

    Layers of the image backbone are timm's coarse groups; those of the text tower are its encoder's layers,
    with the embeddings below them.
    """
    below: dict[str, int] = {}
    towers: Any = model
    backbone: Any = getattr(towers.visual, "trunk", None)
    if hasattr(backbone, "group_matcher"):
        layers = group_parameters(backbone, backbone.group_matcher(coarse=True))
        last = max(layers)
        below |= {f"visual.trunk.{name}": last - layer for layer, names in layers.items() for name in names}
    transformer = getattr(towers.text, "transformer", None)
    encoder = getattr(getattr(transformer, "encoder", None), "layer", ())
    for name, _ in towers.text.named_parameters():
        layer = _LAYER.match(name)
        if layer:
            below[f"text.{name}"] = len(encoder) - 1 - int(layer[1])
        elif name.startswith("transformer.embeddings."):
            below[f"text.{name}"] = len(encoder)
    return below


def build_schedule(
    optimizer: torch.optim.Optimizer, warm_up: float, steps: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """A schedule of every group's rate: linear warm-up over a share of `steps`, then a cosine to 0."""
    rising = round(warm_up * steps)

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rising) / max(1, steps - rising))))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


class WeightAverage:
    """An exponential mean of a model's trainable parameters, mixed with the initial ones.

    Single steps fluctuate with their batch, their exponential mean does not (Polyak & Juditsky 1992).
    Training on few items improves one thing and loses another: weights between the initial and the final ones
    retain much of both (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models").

    Args:
        model: the model that is trained.
        decay: in [0, 1); share of the old mean after a step; 0: the mean is the model itself. In early steps
            it is at most (step + 1) / (step + 10), so that the initial weights soon drop out of the mean.
        start_share: in [0, 1); share of the initial weights in the `applied` ones.
    """

    def __init__(self, model: nn.Module, decay: float, start_share: float = 0.0) -> None:
        self.decay, self.start_share = decay, start_share
        self._learning = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self._mean = {n: p.detach().clone() for n, p in self._learning.items()} if decay else {}
        self._start = {n: p.detach().clone() for n, p in self._learning.items()} if start_share else {}

    def update(self, step: int) -> None:
        """Update the mean with the parameters after `step` (from 1)."""
        decay = min(self.decay, (step + 1) / (step + 10))
        with torch.no_grad():
            for name, mean in self._mean.items():
                mean.lerp_(self._learning[name], 1 - decay)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Put the mixed mean into the model for a while, to score or to save it."""
        trained = {n: p.detach().clone() for n, p in self._learning.items()}
        self._fill(self._mean)
        self._fill({n: self._learning[n].detach().lerp(p, self.start_share) for n, p in self._start.items()})
        try:
            yield
        finally:
            self._fill(trained)

    def state(self) -> dict[str, dict[str, Tensor]]:
        """The mean and the initial weights, for a checkpoint."""
        return {"mean": self._mean, "start": self._start}

    def restore(self, state: dict[str, dict[str, Tensor]]) -> None:
        """Restore the mean and the initial weights of a checkpoint.

        Raises:
            KeyError: they are of another model.
        """
        for target, stored in ((self._mean, state["mean"]), (self._start, state["start"])):
            for name, tensor in target.items():
                tensor.copy_(stored[name])

    def _fill(self, values: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, value in values.items():
                self._learning[name].copy_(value)
