"""A text tower learns to read: texts come to lie where their findings lie, before any picture is looked at.

A projection alone, on the pooled features of a language model that knows no radiology, misreads much, and
that is lost to everything that is compared with texts. The last layers, taught the labeler's findings, read
nearly as the labeler does; pictures, of which there are few, then have only findings to learn. Reports are
plenty, and need no pictures for this.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from trainer.data.features import TextSide
from trainer.data.frozen_features import freeze_text_tower
from trainer.train.config import OptimizerConfig, ReadingConfig
from trainer.train.optimizer import build_schedule

Index = NDArray[np.int64]

_TOGETHER = 8  # batches whose texts are sorted by length, so that little of a batch is padding


def learn_to_read(
    texts: TextSide,
    tower: nn.Module,
    places: Tensor,
    weights: NDArray[np.float64],
    config: ReadingConfig,
    optimizer: OptimizerConfig,
    seed: int,
    tick: Callable[[int, int, float], None] = lambda done, total, loss: None,
) -> None:
    """Train a text tower by 1 − cosine between each text's vector and its place; in place.

    Args:
        texts: the texts, nothing of them cached: the tower is what learns.
        tower: a Hugging Face text tower in training mode; afterwards all of it is frozen but its projection.
        places: (n, dim) where each text is to lie; texts whose row is zero are passed over.
        weights: (n,) how often each text is drawn, in proportion.
        config: how long and how fast.
        optimizer: weight decay, warm-up and clipping.
        seed: of the draws.
        tick: called with steps done, steps in all and the loss.

    Raises:
        TrainingError: the tower has fewer layers than are to stay frozen.
    """
    known = np.flatnonzero(places.norm(dim=1).cpu().numpy() > 0)
    size = min(config.batch_size, len(known))
    if not size:
        return
    share = weights[known] / weights[known].sum()
    tower.train().requires_grad_(True)
    freeze_text_tower(tower, config.frozen_layers)
    heads = [p for name, p in tower.named_parameters() if p.requires_grad and name.startswith("proj.")]
    layers = [p for name, p in tower.named_parameters() if p.requires_grad and not name.startswith("proj.")]
    stepper = torch.optim.AdamW(
        [
            {"params": layers, "lr": config.learning_rate},
            {"params": heads, "lr": config.head_rate},
        ],
        weight_decay=optimizer.weight_decay,
    )
    total = config.epochs * max(1, len(known) // size)
    schedule = build_schedule(stepper, optimizer.warm_up, total)
    batches = _batches(texts, known, share, size, total, np.random.default_rng(seed))
    for done, batch in enumerate(batches, 1):
        loss = (1 - F.cosine_similarity(texts.features(batch), places[batch], dim=1)).mean()
        stepper.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_([*layers, *heads], optimizer.clip)
        stepper.step()
        schedule.step()
        tick(done, total, float(loss.detach()))
    freeze_text_tower(tower, -1)


def _batches(
    texts: TextSide, known: Index, share: NDArray[np.float64], size: int, total: int, rng: np.random.Generator
) -> Iterator[Index]:
    """`total` batches, drawn some at a time and sorted by length among themselves."""
    for first in range(0, total, _TOGETHER):
        count = min(_TOGETHER, total - first)
        drawn = rng.choice(known, count * size, p=share)
        drawn = drawn[np.argsort(texts.lengths(drawn), kind="stable")]
        yield from rng.permutation(drawn.reshape(count, size))
