"""AdamW over what learns, and the rate's course: a linear warm-up, then a cosine to zero."""

import math

import torch
from torch import nn

from corpus.errors import TrainingError
from trainer.config import OptimizerConfig

_HEADS = ("visual.head.", "text.proj.", "logit_scale")


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW on the parameters that require gradients; no decay on biases, norms and the logit scale.

    Raises:
        TrainingError: nothing is left to learn.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            rate = config.head_rate if config.head_rate and name.startswith(_HEADS) else config.learning_rate
            decay = config.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((rate, decay), []).append(parameter)
    if not groups:
        raise TrainingError("everything is frozen: there is nothing to learn")
    return torch.optim.AdamW(
        [{"params": group, "lr": rate, "weight_decay": decay} for (rate, decay), group in groups.items()]
    )


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
