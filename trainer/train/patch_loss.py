"""What a text affirms must be somewhere on the picture: learning where, from the text alone.

A loss between whole pictures and texts leaves open which part of a picture a text is about. Here a picture
is the bag of its patches (multiple-instance learning): a text that affirms what the picture shows must be
like some patch of it, a text that affirms something else like none. Each pair of picture and text is judged
by itself, by a sigmoid (SigLIP, arXiv 2303.15343), so that a cosine means the same on every picture.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from corpus.errors import TrainingError

SHARPNESS = 10.0
"""How near the soft maximum over patches is to the best: a cosine lower by 0.1 weighs e⁻² as much."""

THRESHOLD = 0.2
"""The cosine from which a patch shows what a text says."""

SLOPE = 10.0
"""How fast the odds grow with the cosine: 0.1 above the threshold they are e to 1."""


def best_patches(patches: Tensor, texts: Tensor) -> Tensor:
    """The soft maximum over patches of their cosines with texts, log-mean-exp(k·cos) / k (arXiv 1411.6228).

    While no patch stands out all of them learn, later those that fit.

    Args:
        patches: (n, P, dim) unit rows.
        texts: (m, dim) unit rows.

    Returns:
        (n, m), between the mean cosine and the largest.
    """
    cosines = torch.einsum("npd,md->nmp", patches, texts)
    pooled = torch.logsumexp(SHARPNESS * cosines, dim=2) - math.log(cosines.shape[2])
    return pooled / SHARPNESS


class WithPatches(nn.Module):
    """A loss between pictures and texts, and beside it the sigmoid loss between their patches and texts.

    Args:
        loss: any loss of `trainer.train.losses`.
        weight: > 0; how much the patches' loss counts beside it.
    """

    def __init__(self, loss: nn.Module, weight: float) -> None:
        super().__init__()
        self.loss, self.weight = loss, weight

    def forward(
        self,
        image_features: Tensor,
        text_features: Tensor,
        logit_scale: Tensor,
        *,
        similarity: Tensor | None = None,
        pairs: Tensor | None = None,
        shown: Tensor | None = None,
    ) -> Tensor:
        """Return the scalar loss.

        Args:
            image_features: (n, 1 + P, dim) unit rows: each picture's own, then its patches'.
            text_features: (m, dim) unit rows.
            logit_scale: scalar multiplier, > 0, of the whole pictures' loss.
            similarity, pairs: as the loss takes them.
            shown: (n, m), 1 where the picture shows what the text affirms, 0 where it shows none of it, NaN
                where neither can be said; default: 1 at true pairs, 0 elsewhere.

        Raises:
            TrainingError: as the loss; or neither `shown` nor pairs are given.
        """
        known = {"similarity": similarity, "pairs": pairs}
        whole: Tensor = self.loss(image_features[:, 0], text_features, logit_scale, **known)
        best = best_patches(image_features[:, 1:], text_features)
        if shown is None:
            shown = _paired(best, pairs)
        return whole + self.weight * _sigmoid_loss(SLOPE * (best - THRESHOLD), shown)


def _paired(best: Tensor, pairs: Tensor | None) -> Tensor:
    if pairs is None or not len(pairs):
        raise TrainingError("patches cannot be learned from a batch without findings or true pairs")
    shown = torch.zeros_like(best)
    shown[pairs[:, 0], pairs[:, 1]] = 1
    return shown


def _sigmoid_loss(logits: Tensor, shown: Tensor) -> Tensor:
    """Binary cross-entropy, pairs that show it and pairs that do not weighing the same."""
    total = logits.sum() * 0  # where nothing can be said nothing is learned
    for value in (0.0, 1.0):
        chosen = logits[shown == value]
        if len(chosen):
            total = total + F.binary_cross_entropy_with_logits(chosen, torch.full_like(chosen, value)) / 2
    return total
