"""One step's gradients: encode, compare, go back; in pieces where the batch is larger than the memory.

A contrastive loss needs all features of a batch at once, the towers do not. Gradient caching (Gao et al.
2021, arXiv 2101.06983) encodes the batch piece by piece without keeping activations, computes the loss and
its gradient for every feature, and then encodes each piece again to carry that gradient into the weights.
The gradients are those of the whole batch: random choices (dropout, augmentation) are replayed, and batch
normalisation must run on frozen statistics, or a piece's statistics would stand for the batch's.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainer.data.sampling import Batch
from trainer.train.distributed import ALONE, Processes

Index = NDArray[np.int64]
Encode = Callable[[Index], Tensor]


@dataclass(frozen=True, slots=True)
class Stepper:
    """Fills the gradients of a model for a batch.

    `pictures`, `texts`: run the towers over items of the pool, (n,) indices → (n, dim) unit rows; pictures
    may be (n, 1 + P, dim), with the patches that `trainer.train.patch_loss` learns from. `loss`: as in
    `trainer.train.losses`. `log_scale`: the learned logarithm of the logit scale. `picture_shape`: of a
    picture's features, (dim,) or (1 + P, dim). `chunk`: items through a tower at once, 0 for all.
    `precision`: of the towers; features and loss are float32 whatever it is.
    """

    pictures: Encode
    texts: Encode
    loss: nn.Module
    log_scale: nn.Parameter
    device: torch.device
    picture_shape: tuple[int, ...]
    processes: Processes = ALONE
    chunk: int = 0
    precision: torch.dtype = torch.float32

    def __call__(self, batch: Batch, similarity: Tensor | None, shown: Tensor | None = None) -> float:
        """Add the batch's gradients to the parameters of the towers and the scale.

        Args:
            batch: the whole batch, of all processes.
            similarity: (n, m) likeness of labels of the whole batch, where the loss uses one.
            shown: (n, m) which pictures show what which texts affirm, where patches learn from it.

        Returns:
            The loss of the whole batch.
        """
        own = self.processes.stretch
        pictures = self._encode(self.pictures, batch.pictures[own(len(batch.pictures))], self.picture_shape)
        texts = self._encode(self.texts, batch.texts[own(len(batch.texts))], self.picture_shape[-1:])
        value: Tensor = self.loss(
            self.processes.gather(pictures.leaf, len(batch.pictures)),
            self.processes.gather(texts.leaf, len(batch.texts)),
            self.log_scale.exp(),
            similarity=similarity,
            pairs=torch.from_numpy(batch.pairs).to(self.device),
            **({} if shown is None else {"shown": shown}),
        )
        if bool(torch.isfinite(value)):
            value.backward()  # type: ignore[no-untyped-call]
            pictures.carry_back()
            texts.carry_back()
        return float(value.detach())

    def _encode(self, encode: Encode, index: Index, shape: tuple[int, ...]) -> "_Encoded":
        if len(index) == 0:  # a short last batch may leave a process without items
            return _Encoded(torch.zeros(0, *shape, device=self.device), [])
        if self.chunk == 0 or len(index) <= self.chunk:
            with self._running():
                features = encode(index)
            return _Encoded(_leaf(features), [lambda: features])
        pieces: list[Callable[[], Tensor]] = []
        rows = []
        for start in range(0, len(index), self.chunk):
            some = index[start : start + self.chunk]
            pieces.append(partial(self._again, encode, some, _Dice.now(self.device)))
            with torch.no_grad(), self._running():
                rows.append(encode(some))
        return _Encoded(_leaf(torch.cat(rows)), pieces)

    def _again(self, encode: Encode, index: Index, dice: "_Dice") -> Tensor:
        with dice.thrown_again(self.device), self._running():
            return encode(index)

    @contextlib.contextmanager
    def _running(self) -> Iterator[None]:
        with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
            yield


@dataclass(frozen=True, slots=True)
class _Dice:
    """The state of the random generators."""

    cpu: Tensor
    cuda: Tensor | None

    @classmethod
    def now(cls, device: torch.device) -> "_Dice":
        return cls(torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None)

    @contextlib.contextmanager
    def thrown_again(self, device: torch.device) -> Iterator[None]:
        with torch.random.fork_rng([device] if self.cuda is not None else []):
            torch.set_rng_state(self.cpu)
            if self.cuda is not None:
                torch.cuda.set_rng_state(self.cuda, device)
            yield


@dataclass(frozen=True, slots=True)
class _Encoded:
    """One side's features as the loss sees them, a leaf that collects their gradient, and their pieces."""

    leaf: Tensor
    pieces: Sequence[Callable[[], Tensor]]

    def carry_back(self) -> None:
        """Carry the gradient of the features into the weights, piece by piece."""
        if self.leaf.grad is None:
            return
        start = 0
        for piece in self.pieces:
            features = piece()
            if features.requires_grad:
                features.backward(self.leaf.grad[start : start + len(features)])  # type: ignore[no-untyped-call]
            start += len(features)


def _leaf(features: Tensor) -> Tensor:
    return features.detach().float().requires_grad_()
