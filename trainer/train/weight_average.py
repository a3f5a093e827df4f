"""What of the weights a run scores and exports: their running mean, and a share of where they began.

Single steps swing with their batch, their exponential mean does not (Polyak & Juditsky 1992). And training
on few items wins one thing and loses another: weights between the beginning and the end keep much of both
(Wortsman et al. 2022, "Robust fine-tuning of zero-shot models").
"""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn


class WeightAverage:
    """Keeps an exponential mean of a model's trainable parameters, mixed with those it began with.

    Args:
        model: the model that is trained.
        decay: in [0, 1); share of the mean that a step keeps. 0: the mean is the model itself. Early on less
            is kept, (step + 1) / (step + 10), so that the start is soon forgotten.
        start_share: in [0, 1); share of the first weights in what is `applied`.
    """

    def __init__(self, model: nn.Module, decay: float, start_share: float = 0.0) -> None:
        self.decay, self.start_share = decay, start_share
        self._learning = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self._mean = {n: p.detach().clone() for n, p in self._learning.items()} if decay else {}
        self._start = {n: p.detach().clone() for n, p in self._learning.items()} if start_share else {}

    def update(self, step: int) -> None:
        """Take in the parameters after `step` (from 1)."""
        kept = min(self.decay, (step + 1) / (step + 10))
        with torch.no_grad():
            for name, mean in self._mean.items():
                mean.lerp_(self._learning[name], 1 - kept)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Put the mixed mean in the model's place for a while, to score or to save it."""
        trained = {n: p.detach().clone() for n, p in self._learning.items()}
        self._fill(self._mean)
        self._fill({n: self._learning[n].detach().lerp(p, self.start_share) for n, p in self._start.items()})
        try:
            yield
        finally:
            self._fill(trained)

    def state(self) -> dict[str, dict[str, Tensor]]:
        """The mean and the start, for a checkpoint."""
        return {"mean": self._mean, "start": self._start}

    def restore(self, state: dict[str, dict[str, Tensor]]) -> None:
        """Take up the mean and the start of a checkpoint.

        Raises:
            KeyError: they are of another model.
        """
        for held, kept in ((self._mean, state["mean"]), (self._start, state["start"])):
            for name, tensor in held.items():
                tensor.copy_(kept[name])

    def _fill(self, values: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, value in values.items():
                self._learning[name].copy_(value)
