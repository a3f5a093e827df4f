"""AdamW over what learns, and the rate's course: a linear warm-up, then a cosine to zero."""

import math
import re
from typing import Any

import torch
from timm.models import group_parameters
from torch import nn

from corpus.errors import TrainingError
from trainer.train.config import OptimizerConfig

_LAYER = re.compile(r"transformer\.encoder\.layer\.(\d+)\.")
_HEADS = ("visual.head.", "text.proj.", "logit_scale")


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW on the parameters that require gradients; no decay on biases, norms and the logit scale.

    Raises:
        TrainingError: nothing is left to learn.
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
    """For each parameter of the towers, how many layers lie between it and the last of its tower.

    Layers of the image trunk are those that timm groups it into, coarsely; of the text tower its encoder's
    layers, with the embeddings below them all.
    """
    below: dict[str, int] = {}
    towers: Any = model
    trunk: Any = getattr(towers.visual, "trunk", None)
    if hasattr(trunk, "group_matcher"):
        layers = group_parameters(trunk, trunk.group_matcher(coarse=True))
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
    """Scale every group's rate: up over the first `warm_up` share of `steps`, then down a cosine to 0."""
    rising = round(warm_up * steps)

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rising) / max(1, steps - rising))))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
