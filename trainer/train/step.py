"""Gradients of one step, with gradient caching for batches larger than the memory.

A contrastive loss needs all features of a batch at once, the towers do not. Gradient caching (Gao et al.
2021, arXiv 2101.06983) encodes the batch chunk by chunk without storing activations, computes the loss and
its gradient for every feature, and then encodes each chunk again to backpropagate that gradient into the
weights. The gradients are those of the whole batch: random choices (dropout, augmentation) are replayed, and
batch normalisation must run on frozen statistics, because a chunk's differ from the batch's.
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
    """Computes the gradients of a model for a batch.

    `images`, `texts`: run the towers over items of the pool, (n,) indices → (n, dim) unit rows; images may be
    (n, 1 + P, dim), with the patches for `trainer.train.losses`.
    `loss`: as in `trainer.train.losses`.
    `log_scale`: the learned logarithm of the logit scale.
    `device`: of the model.
    `image_shape`: of an image's features, (dim,) or (1 + P, dim).
    `processes`: of the training.
    `chunk`: items through a tower at once; 0: all.
    `precision`: of the towers; features and loss are always float32.
    """

    images: Encode
    texts: Encode
    loss: nn.Module
    log_scale: nn.Parameter
    device: torch.device
    image_shape: tuple[int, ...]
    processes: Processes = ALONE
    chunk: int = 0
    precision: torch.dtype = torch.float32

    def __call__(self, batch: Batch, similarity: Tensor | None, shown: Tensor | None = None) -> float:
        """Add the batch's gradients to the parameters of the towers and the scale.

        Args:
            batch: the whole batch, of all processes.
            similarity: (n, m) similarity of labels of the whole batch, if the loss uses one.
            shown: (n, m) whether an image shows the findings of a text, if the loss over patches uses it.

        Returns:
            The loss of the whole batch.
        """
        own = self.processes.stretch
        images = self._encode(self.images, batch.images[own(len(batch.images))], self.image_shape)
        texts = self._encode(self.texts, batch.texts[own(len(batch.texts))], self.image_shape[-1:])
        value: Tensor = self.loss(
            self.processes.gather(images.leaf, len(batch.images)),
            self.processes.gather(texts.leaf, len(batch.texts)),
            self.log_scale.exp(),
            similarity=similarity,
            pairs=torch.from_numpy(batch.pairs).to(self.device),
            **({} if shown is None else {"shown": shown}),
        )
        if bool(torch.isfinite(value)):
            value.backward()  # type: ignore[no-untyped-call]
            images.carry_back()
            texts.carry_back()
        return float(value.detach())

    def _encode(self, encode: Encode, index: Index, shape: tuple[int, ...]) -> "_Encoded":
        if len(index) == 0:  # a short last batch may leave a process without items
            return _Encoded(torch.zeros(0, *shape, device=self.device), [])
        if self.chunk == 0 or len(index) <= self.chunk:
            with self._running():
                features = encode(index)
            return _Encoded(_leaf(features), [lambda: features])
        chunks: list[Callable[[], Tensor]] = []
        rows = []
        for start in range(0, len(index), self.chunk):
            some = index[start : start + self.chunk]
            chunks.append(partial(self._encode_again, encode, some, _RandomState.now(self.device)))
            with torch.no_grad(), self._running():
                rows.append(encode(some))
        return _Encoded(_leaf(torch.cat(rows)), chunks)

    def _encode_again(self, encode: Encode, index: Index, random_state: "_RandomState") -> Tensor:
        with random_state.restored(self.device), self._running():
            return encode(index)

    @contextlib.contextmanager
    def _running(self) -> Iterator[None]:
        with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
            yield


@dataclass(frozen=True, slots=True)
class _RandomState:
    """The state of the random generators."""

    cpu: Tensor
    cuda: Tensor | None

    @classmethod
    def now(cls, device: torch.device) -> "_RandomState":
        return cls(torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None)

    @contextlib.contextmanager
    def restored(self, device: torch.device) -> Iterator[None]:
        with torch.random.fork_rng([device] if self.cuda is not None else []):
            torch.set_rng_state(self.cpu)
            if self.cuda is not None:
                torch.cuda.set_rng_state(self.cuda, device)
            yield


@dataclass(frozen=True, slots=True)
class _Encoded:
    """Features of images or texts: a leaf that collects their gradient, and the chunks to encode again."""

    leaf: Tensor
    chunks: Sequence[Callable[[], Tensor]]

    def carry_back(self) -> None:
        """Backpropagate the gradient of the features into the weights, chunk by chunk."""
        if self.leaf.grad is None:
            return
        start = 0
        for chunk in self.chunks:
            features = chunk()
            if features.requires_grad:
                features.backward(self.leaf.grad[start : start + len(features)])  # type: ignore[no-untyped-call]
            start += len(features)


def _leaf(features: Tensor) -> Tensor:
    return features.detach().float().requires_grad_()
