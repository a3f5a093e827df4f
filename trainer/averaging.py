"""The running mean of what learns: single steps swing with their batch, their mean does not.

Exponential moving average of weights (Polyak & Juditsky 1992, as training of contrastive models uses it).
"""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn


class WeightAverage:
    """Keeps an exponential mean of a model's trainable parameters.

    Args:
        model: the model that is trained.
        decay: in [0, 1); share of the mean that a step keeps. 0: the mean is the model itself. Early on less
            is kept, (step + 1) / (step + 10), so that the start is soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self._learning = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self._mean = {n: p.detach().clone() for n, p in self._learning.items()} if decay else {}

    def update(self, step: int) -> None:
        """Take in the parameters after `step` (from 1)."""
        kept = min(self.decay, (step + 1) / (step + 10))
        with torch.no_grad():
            for name, mean in self._mean.items():
                mean.lerp_(self._learning[name], 1 - kept)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Put the mean in the model's place for a while, to score or to save it."""
        trained = {n: self._learning[n].detach().clone() for n in self._mean}
        self._fill(self._mean)
        try:
            yield
        finally:
            self._fill(trained)

    def state(self) -> dict[str, Tensor]:
        """The mean, for a checkpoint."""
        return self._mean

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take up the mean of a checkpoint.

        Raises:
            KeyError: it is of another model.
        """
        for name, mean in self._mean.items():
            mean.copy_(state[name])

    def _fill(self, values: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, value in values.items():
                self._learning[name].copy_(value)
