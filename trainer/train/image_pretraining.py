"""Image-tower pretraining: the neck of a backbone and the projection learn findings from image-level labels.

An image is the bag of its patches (multiple-instance learning): a finding that an image shows must be on
some patch, an absent one on none. The direction of a finding in the space of the vectors is fixed and the
same as in text-tower pretraining, so that a phrase finds its patches without having been a label. The
contrastive loss over cosines learns the same neck worse (macro AUROC 0.72 instead of 0.77 on held-out
radiographs).
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from corpus.errors import TrainingError
from corpus.findings import VOCABULARY, Statuses
from corpus.progress import OnProgress, silent
from trainer.data.features import ImageFeatures
from trainer.evaluation.labels import CLASSES
from trainer.evaluation.metrics import MIN_QUERIES
from trainer.evaluation.scoring import Contrasts
from trainer.runtime.multilevel import Neck
from trainer.train.config import ImagePretrainingConfig
from trainer.train.heads import projections
from trainer.train.optimizer import build_schedule

Index = NDArray[np.int64]

_WARM_UP = 0.3
_SMOOTHED = 3  # patches a side: a finding is larger than a patch, and one that stands alone is noise
_CONSTANT = 2.0
"""Length of the constant part of a patch's vector, in mean lengths of its other part. A cosine without it
divides a patch's evidence for a finding by that for all findings: on the boxes of two folds of three, maps of
evidence have a pointing-game accuracy of 0.34 and 0.30, of cosines 0.21 and 0.27, of cosines with a constant
of 1, 2 and 4 lengths 0.29, 0.33 and 0.33, and 0.32, 0.32 and 0.30."""
_CONSTANT_BY = 256  # training images that these lengths are measured on
_SCALE = 3.0  # first factor of the mean over patches, which is smaller than its maximum


class FindingLogits(nn.Module):
    """The log-odds of each class from the vectors of an image's patches.

    Args:
        directions: (dim, C) orthonormal directions of the classes.
        prior: (C,) share of the training images with each class.
        bags: (C,) bool: classes that a part of an image decides; the others are read off the whole.
    """

    directions: Tensor
    bags: Tensor

    def __init__(self, directions: Tensor, prior: Tensor, bags: Tensor) -> None:
        super().__init__()
        self.register_buffer("directions", directions.float())
        self.register_buffer("bags", bags)
        log_odds = torch.logit(prior.float())
        self.bag_bias = nn.Parameter(torch.zeros_like(log_odds))
        self.whole_bias = nn.Parameter(log_odds.clone())
        self.whole_scale = nn.Parameter(torch.full_like(log_odds, _SCALE))

    def forward(self, patches: Tensor, hidden: float) -> tuple[Tensor, Tensor]:
        """Log-odds by the strongest patches, and by the mean of all.

        Args:
            patches: (n, dim, gh, gw) vectors, not normalised.
            hidden: share of the patches that the first of the two does not see, drawn for each image.

        Returns:
            (n, C) log-mean-exp over visible patches, and (n, C) scaled mean over all patches.
        """
        evidence = torch.einsum("ndhw,dc->nchw", patches.float(), self.directions)
        border = _SMOOTHED // 2
        evidence = F.avg_pool2d(F.pad(evidence, (border,) * 4, mode="replicate"), _SMOOTHED, 1).flatten(2)
        whole = self.whole_scale * evidence.mean(dim=2) + self.whole_bias
        n, classes, count = evidence.shape
        visible = max(1, count - int(hidden * count))
        if visible < count:
            chosen = torch.rand(n, count, device=evidence.device).argsort(dim=1)[:, :visible]
            evidence = evidence.gather(2, chosen[:, None].expand(-1, classes, -1))
        strongest = torch.logsumexp(evidence, dim=2) - math.log(visible) + self.bag_bias
        return strongest, whole


def pretrain_image_tower(
    images: ImageFeatures,
    model: Any,
    statuses: list[Statuses],
    weights: NDArray[np.float64],
    directions: Tensor,
    config: ImagePretrainingConfig,
    seed: int,
    on_progress: OnProgress = silent,
) -> None:
    """Train the neck and the projection of an image tower in place; the neck is frozen afterwards.

    Args:
        images: the training images.
        model: an open_clip model with a `MultiLevel` with a neck as image backbone.
        statuses: of each image.
        weights: (n,) relative frequency of each image in the draws.
        directions: (dim, F) orthonormal direction of each finding of `VOCABULARY.names`.
        config: epochs, rates and the mixture of the two losses.
        seed: of the draws.
        on_progress: called with the stage `look`, the steps done, the steps in all, and the loss as a note.

    Raises:
        TrainingError: the backbone has no neck, or no finding has enough images.
    """
    neck = require_neck(model).train().requires_grad_(True)
    positive, known = _labels(statuses)
    enough = np.minimum(positive.sum(axis=0), (known & ~positive).sum(axis=0)) >= MIN_QUERIES
    columns = [VOCABULARY.names.index(name) for name in np.array(CLASSES)[enough]]
    if directions.shape[1] < len(VOCABULARY.names):
        raise TrainingError(
            f"image_pretraining needs a direction for each of {len(VOCABULARY.names)} findings: the "
            f"architecture's embed_dim is {directions.shape[0]}"
        )
    if not columns:
        raise TrainingError(
            f"no finding is shown by {MIN_QUERIES} training images and not by {MIN_QUERIES} others: the "
            "image tower cannot be pretrained; set image_pretraining.epochs to 0"
        )
    if neck.constant and directions.shape[1] >= directions.shape[0]:
        raise TrainingError(
            f"the constant channel of this architecture needs a direction of its own: raise embed_dim above "
            f"{directions.shape[1]}"
        )
    device = directions.device
    target = torch.from_numpy(positive[:, enough]).float().to(device)
    counts = torch.from_numpy(known[:, enough]).float().to(device)
    share = (target * counts).sum(dim=0) / counts.sum(dim=0)
    bags = torch.tensor([column != VOCABULARY.names.index("no_finding") for column in columns], device=device)
    head = FindingLogits(directions[:, columns], share, bags).to(device)
    projection: Any = projections(model)["image"]
    _keep_inside(projection, directions)
    learning = [*neck.parameters(), *projection.parameters(), *head.parameters()]
    stepper = torch.optim.AdamW(
        [
            {"params": [p for p in learning if p.ndim > 1], "weight_decay": config.weight_decay},
            {"params": [p for p in learning if p.ndim == 1], "weight_decay": 0.0},
        ],
        lr=config.learning_rate,
    )
    batches = list(_batches(weights, config, seed))
    schedule = build_schedule(stepper, _WARM_UP, len(batches))
    rare = ((1 - share) / share).sqrt()  # the plain ratio would give the rarest finding most of the gradient
    for done, batch in enumerate(batches, 1):
        strongest, whole = head(images.patch_map(batch), config.hidden_patches)
        wanted, counted = target[batch], counts[batch]
        loss = _cross_entropy(strongest, wanted, counted * bags, rare)
        if config.whole:
            loss = loss + config.whole * _cross_entropy(whole, wanted, counted, rare)
        stepper.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        stepper.step()
        schedule.step()
        on_progress("look", done, len(batches), f"loss {float(loss.detach()):.3f}")
    learn_neck(model, learn=False)
    _keep_inside(projection, directions)  # a step of Adam leaves the space of its gradients
    if neck.constant:
        drawn = min(_CONSTANT_BY, int(np.count_nonzero(weights)))
        measured = np.random.default_rng(seed).choice(len(weights), drawn, replace=False, p=weights)
        _add_constant(images, measured, projection, directions)


def _keep_inside(projection: Any, directions: Tensor) -> None:
    """Take out what lies outside the directions of findings: it would only add to a vector's length."""
    inside = directions.float() @ directions.float().T
    with torch.no_grad():
        projection.weight.copy_(inside @ projection.weight)


def _add_constant(images: ImageFeatures, measured: Index, projection: Any, directions: Tensor) -> None:
    """Give every patch's vector a constant part, in a direction that is no finding's.

    `measured`: the images that the length of the other part is measured on.
    """
    dim, columns = directions.shape
    every = torch.eye(dim, dtype=torch.float64, device=directions.device)
    basis = torch.linalg.qr(torch.cat([directions.double(), every], dim=1))[0]
    with torch.no_grad():
        length = images.patch_map(measured).float().norm(dim=1).mean()
        projection.weight[:, -1] += _CONSTANT * length * basis[:, columns].to(projection.weight)


def learn_neck(model: Any, *, learn: bool) -> None:
    """Let the neck of an image tower learn in training steps, or freeze it where it is pretrained instead.

    An image tower without a neck stays as it is.
    """
    neck = getattr(getattr(model.visual, "trunk", None), "neck", None)
    if isinstance(neck, Neck):
        neck.train(learn).requires_grad_(learn)


def require_neck(model: Any) -> Neck:
    """The neck of an open_clip model's image tower, with a plain linear projection after it.

    Raises:
        TrainingError: there is none; names the setting to change.
    """
    neck = getattr(getattr(model.visual, "trunk", None), "neck", None)
    projection = projections(model)["image"]
    if not isinstance(neck, Neck) or not hasattr(projection, "weight"):
        raise TrainingError(
            "image_pretraining trains the neck of a backbone with several levels, which this "
            "architecture lacks: take levels-minilm, or set image_pretraining.epochs to 0"
        )
    return neck


def _labels(statuses: list[Statuses]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(n, C) bool over `CLASSES`: which images have a class, and of which that is known."""
    contrasts = Contrasts.of(statuses)
    return contrasts.present, contrasts.present | contrasts.absent | contrasts.others


def _cross_entropy(logits: Tensor, wanted: Tensor, counted: Tensor, rare: Tensor) -> Tensor:
    """Mean binary cross-entropy over the counted entries."""
    each = F.binary_cross_entropy_with_logits(logits, wanted, pos_weight=rare, reduction="none")
    return (each * counted).sum() / counted.sum().clamp(min=1)


def _batches(weights: NDArray[np.float64], config: ImagePretrainingConfig, seed: int) -> Iterator[Index]:
    """The batches of all epochs; an epoch draws as many images as there are."""
    rng = np.random.default_rng(seed)
    size = min(config.batch_size, int(np.count_nonzero(weights)))
    for _ in range(config.epochs * max(1, len(weights) // size)):
        yield rng.choice(len(weights), size, replace=False, p=weights)
