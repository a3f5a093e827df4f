"""Text-tower pretraining: text vectors are fitted to targets from findings, before images are used.

A projection alone, on the pooled features of a language model without radiology, encodes many texts wrongly,
and every comparison with texts suffers. The last layers, trained on the labeler's findings, classify nearly
as the labeler does; the few images then have only findings to learn. Reports are plentiful and need no images
for this.
"""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from corpus.progress import OnProgress, silent
from trainer.data.features import TextFeatures
from trainer.data.frozen_features import freeze_text_tower
from trainer.train.config import OptimizerConfig, TextPretrainingConfig
from trainer.train.optimizer import build_schedule

Index = NDArray[np.int64]

_TOGETHER = 8  # batches drawn together and sorted by length, to save padding


def pretrain_text_tower(
    texts: TextFeatures,
    tower: nn.Module,
    targets: Tensor,
    weights: NDArray[np.float64],
    config: TextPretrainingConfig,
    optimizer: OptimizerConfig,
    seed: int,
    on_progress: OnProgress = silent,
) -> None:
    """Train a text tower in place, with the loss 1 − cosine between each text's vector and its target.

    Args:
        texts: the texts, without a cache, because the tower changes.
        tower: a Hugging Face text tower; afterwards all of it except its projection is frozen.
        targets: (n, dim) target vectors; texts with a row of zeros are skipped.
        weights: (n,) relative frequency of each text in the draws.
        config: epochs, rates and frozen layers.
        optimizer: weight decay, warm-up and clipping.
        seed: of the draws.
        on_progress: called with the stage `read`, the steps done, the steps in all, and the loss as a note.

    Raises:
        TrainingError: the tower has fewer layers than are to be frozen.
    """
    known = np.flatnonzero(targets.norm(dim=1).cpu().numpy() > 0)
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
        loss = (1 - F.cosine_similarity(texts.features(batch), targets[batch], dim=1)).mean()
        stepper.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_([*layers, *heads], optimizer.clip)
        stepper.step()
        schedule.step()
        on_progress("read", done, total, f"loss {float(loss.detach()):.3f}")
    freeze_text_tower(tower, -1)


def _batches(
    texts: TextFeatures,
    known: Index,
    share: NDArray[np.float64],
    size: int,
    total: int,
    rng: np.random.Generator,
) -> Iterator[Index]:
    """`total` batches, drawn in groups within which texts are sorted by length."""
    for first in range(0, total, _TOGETHER):
        count = min(_TOGETHER, total - first)
        drawn = rng.choice(known, count * size, p=share)
        drawn = drawn[np.argsort(texts.lengths(drawn), kind="stable")]
        yield from rng.permutation(drawn.reshape(count, size))
