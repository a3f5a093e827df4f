"""Losses between a batch of images and a batch of texts.

All have one signature: `loss(image_features, text_features, logit_scale, *, similarity=None, pairs=None)`.
Features are unit rows (n, dim) and (m, dim); `logit_scale` is the multiplier itself, exp of the parameter.
The value is the mean of the two directions, image → text and text → image; DHN-NCE's their sum, as
published.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from corpus.errors import TrainingError

SHARPNESS = 10.0
"""Sharpness of the soft maximum over patches: a cosine lower by 0.1 weighs e⁻¹ as much."""

THRESHOLD = 0.2
"""The cosine from which a patch counts as showing the findings of a text."""

SLOPE = 10.0
"""Slope of the log-odds over the cosine: 0.1 above the threshold the odds are e to 1."""


class SemanticMatchingLoss(nn.Module):
    """Soft cross-entropy against targets from the similarity of labels (MedCLIP, arXiv 2210.10163).

    Targets are the row softmax of similarity / temperature, for texts the same over its transpose. The
    paper's temperature of 1 gives nearly uniform targets; a lower one distinguishes findings.

    Args:
        temperature: > 0; the lower, the more the target concentrates on the most similar texts.
        identity_weight: in [0, 1]; share of the target for an item's true pairs. A row without a true pair
            has its soft target alone.
    """

    def __init__(self, temperature: float = 1.0, identity_weight: float = 0.0) -> None:
        super().__init__()
        if temperature <= 0:
            raise TrainingError(f"the target temperature must be above 0, not {temperature}")
        if not 0 <= identity_weight <= 1:
            raise TrainingError(f"the identity weight must lie in 0…1, not {identity_weight}")
        self.temperature = temperature
        self.identity_weight = identity_weight

    def forward(
        self,
        image_features: Tensor,
        text_features: Tensor,
        logit_scale: Tensor,
        *,
        similarity: Tensor | None = None,
        pairs: Tensor | None = None,
    ) -> Tensor:
        """Return the scalar loss.

        Args:
            image_features: (n, dim) unit rows.
            text_features: (m, dim) unit rows.
            logit_scale: scalar multiplier, > 0.
            similarity: (n, m) similarity of labels, required.
            pairs: (p, 2) true pairs, read when `identity_weight` is above 0; default the diagonal if n = m.

        Raises:
            TrainingError: `similarity` is missing or misshaped, or pairs are out of range.
        """
        logits = logit_scale * image_features @ text_features.T
        soft = _required(similarity, logits) / self.temperature
        by_image, by_text = soft.softmax(dim=1), soft.T.softmax(dim=1)
        if self.identity_weight > 0:
            true = _true_pairs(logits, pairs)
            by_image, by_text = self._lean(by_image, true), self._lean(by_text, true.T)
        return (_cross_entropy(logits, by_image) + _cross_entropy(logits.T, by_text)) / 2

    def _lean(self, soft: Tensor, true: Tensor) -> Tensor:
        """Move `identity_weight` of each row's target to its true pairs, if it has any."""
        count = true.sum(dim=1, keepdim=True)
        weight = self.identity_weight * (count > 0).to(soft.dtype)
        return (1 - weight) * soft + weight * true / count.clamp(min=1)


class InfoNCELoss(nn.Module):
    """Symmetric InfoNCE (CLIP, arXiv 2103.00020): each true pair against every other item of the batch.

    With several pairs in a row their terms are averaged; items without a pair are negatives only.
    """

    def forward(
        self,
        image_features: Tensor,
        text_features: Tensor,
        logit_scale: Tensor,
        *,
        similarity: Tensor | None = None,
        pairs: Tensor | None = None,
    ) -> Tensor:
        """Return the scalar loss.

        Args:
            image_features: (n, dim) unit rows.
            text_features: (m, dim) unit rows.
            logit_scale: scalar multiplier, > 0.
            similarity: not read.
            pairs: (p, 2) true pairs, p ≥ 1; default the diagonal if n = m.

        Raises:
            TrainingError: there is no true pair, or pairs are out of range.
        """
        logits = logit_scale * image_features @ text_features.T
        true = _true_pairs(logits, pairs)
        if not bool(true.any()):
            raise TrainingError(
                "InfoNCE has no true pair in this batch; pair the corpus or match by findings"
            )
        return (_paired_entropy(logits, true) + _paired_entropy(logits.T, true.T)) / 2


class MultiPositiveInfoNCELoss(nn.Module):
    """InfoNCE with several positives per item (UniCL, arXiv 2204.03610).

    Positives of an item are those with a label similarity of at least `least`, and its true pairs; each has
    an equal share of the target. Items without a positive are negatives only.

    Args:
        least: minimal label similarity of a positive, in (0, 1] for cosine and shared.
    """

    def __init__(self, least: float = 0.5) -> None:
        super().__init__()
        if least <= 0:
            raise TrainingError(f"the minimal similarity of a positive must be above 0, not {least}")
        self.least = least

    def forward(
        self,
        image_features: Tensor,
        text_features: Tensor,
        logit_scale: Tensor,
        *,
        similarity: Tensor | None = None,
        pairs: Tensor | None = None,
    ) -> Tensor:
        """Return the scalar loss.

        Args:
            image_features: (n, dim) unit rows.
            text_features: (m, dim) unit rows.
            logit_scale: scalar multiplier, > 0.
            similarity: (n, m) similarity of labels, required.
            pairs: (p, 2) true pairs, positives regardless of their labels; None: labels alone.

        Raises:
            TrainingError: `similarity` is missing or misshaped, there is no positive, or pairs are out of
            range.
        """
        logits = logit_scale * image_features @ text_features.T
        positive = (_required(similarity, logits) >= self.least).to(logits.dtype)
        if pairs is not None:
            positive = torch.maximum(positive, _true_pairs(logits, pairs))
        if not bool(positive.any()):
            raise TrainingError(
                f"no image and text of this batch have a label similarity of {self.least}; lower loss.least "
                "or draw more texts per step"
            )
        return (_paired_entropy(logits, positive) + _paired_entropy(logits.T, positive.T)) / 2


class DHNNCELoss(nn.Module):
    """Decoupled hard-negative noise-contrastive estimation (MedCLIP-SAM, arXiv 2403.20253), as its formula.

    With S = logit_scale · ⟨image, text⟩, of every image i with its true text p

        −S_ip + log Σ_j W_ij exp(S_ij),    W_ij = N exp(β1 S_ij) / Σ_k exp(β1 S_ik)

    over its N negatives j, k; the same over texts with β2; the value is the sum of both means. The true pair
    is not in the sum (decoupled, arXiv 2110.06848), and harder negatives have more weight (HN-NCE, arXiv
    2301.02280). The published code differs from this formula: it does not sum over the negatives, normalises
    along the wrong axis, and diverges from an aligned initialisation.

    DCL is `beta1 = beta2 = 0`, HN-NCE `decoupled=False`, and both together twice InfoNCE.

    Args:
        beta1: ≥ 0; weight of hard texts for an image.
        beta2: ≥ 0; weight of hard images for a text.
        detach_weights: treat W as a constant. Then the loss pushes every negative away, the nearer the more,
            which does not hold when W has a gradient; the value is the same.
        decoupled: exclude the true pair from the sum.
    """

    def __init__(
        self, beta1: float = 0.15, beta2: float = 0.15, detach_weights: bool = True, decoupled: bool = True
    ) -> None:
        super().__init__()
        if min(beta1, beta2) < 0:
            raise TrainingError(f"the hardness of negatives must be at least 0, not {min(beta1, beta2)}")
        self.beta1, self.beta2 = beta1, beta2
        self.detach_weights, self.decoupled = detach_weights, decoupled

    def forward(
        self,
        image_features: Tensor,
        text_features: Tensor,
        logit_scale: Tensor,
        *,
        similarity: Tensor | None = None,
        pairs: Tensor | None = None,
    ) -> Tensor:
        """Return the scalar loss.

        Items without a true pair or without a negative are excluded from the mean.

        Args:
            image_features: (n, dim) unit rows.
            text_features: (m, dim) unit rows.
            logit_scale: scalar multiplier, > 0.
            similarity: not read.
            pairs: (p, 2) true pairs, p ≥ 1; default the diagonal if n = m. The terms of an item's several
                pairs are averaged, and none of them is a negative of it.

        Raises:
            TrainingError: there is no true pair, or pairs are out of range.
        """
        logits = logit_scale * image_features @ text_features.T
        true = _true_pairs(logits, pairs)
        if not bool(true.any()):
            raise TrainingError(
                "DHN-NCE has no true pair in this batch; pair the corpus or match by findings"
            )
        return self._one_way(logits, true, self.beta1) + self._one_way(logits.T, true.T, self.beta2)

    def _one_way(self, logits: Tensor, true: Tensor, beta: float) -> Tensor:
        chosen = _has_both(true)
        if not bool(chosen.any()):  # all texts of the batch are one text: there are no negatives
            return logits.sum() * 0
        logits, true = logits[chosen], true[chosen]
        negative = true == 0
        hardness = (beta * logits).masked_fill(~negative, -torch.inf)
        weights = hardness.log_softmax(dim=1) + negative.sum(dim=1, keepdim=True).to(logits.dtype).log()
        if self.detach_weights:
            weights = weights.detach()
        away = (weights + logits).masked_fill(~negative, -torch.inf).logsumexp(dim=1, keepdim=True)
        if not self.decoupled:
            away = torch.logaddexp(away.expand_as(logits), logits)
        terms = (true * (away - logits)).sum(dim=1) / true.sum(dim=1)
        return terms.mean()


def best_patches(patches: Tensor, texts: Tensor) -> Tensor:
    """The soft maximum over patches of their cosines with texts, log-mean-exp(k·cos) / k (arXiv 1411.6228).

    Gradients reach all patches at first, and later the most similar ones.

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
    """The sum of a loss between images and texts and a sigmoid loss between patches and texts.

    A loss between whole images and texts does not determine which part of an image a text describes. Here an
    image is the bag of its patches (multiple-instance learning): a text with findings that the image shows
    must be similar to some patch, a text with other findings to none. A sigmoid scores each pair of image and
    text separately (SigLIP, arXiv 2303.15343), so that a cosine means the same on every image.

    Args:
        loss: any other loss of this module.
        weight: > 0; of the loss over patches.
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
            image_features: (n, 1 + P, dim) unit rows: each image's own, then its patches'.
            text_features: (m, dim) unit rows.
            logit_scale: scalar multiplier, > 0, of the loss over whole images.
            similarity, pairs: as the loss takes them.
            shown: (n, m), 1 where the image shows the findings of the text, 0 where it shows none of them,
                NaN where neither is known; default: 1 at true pairs, 0 elsewhere.

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
    """Binary cross-entropy; positive and negative pairs have the same total weight."""
    total = logits.sum() * 0  # pairs with an unknown label contribute nothing
    for value in (0.0, 1.0):
        chosen = logits[shown == value]
        if len(chosen):
            total = total + F.binary_cross_entropy_with_logits(chosen, torch.full_like(chosen, value)) / 2
    return total


def _required(similarity: Tensor | None, logits: Tensor) -> Tensor:
    if similarity is None or similarity.shape != logits.shape:
        raise TrainingError(f"this loss needs a similarity of shape {tuple(logits.shape)}")
    return similarity.to(logits.dtype)


def _has_both(true: Tensor) -> Tensor:
    """(n,) bool: rows with a true pair and a negative."""
    count = true.sum(dim=1)
    return (count > 0) & (count < true.shape[1])


def _true_pairs(logits: Tensor, pairs: Tensor | None) -> Tensor:
    """(n, m) with 1 at true pairs."""
    n, m = logits.shape
    if pairs is None:
        if n != m:
            raise TrainingError(f"{n} images and {m} texts have no diagonal; give the true pairs")
        return torch.eye(n, dtype=logits.dtype, device=logits.device)
    true = torch.zeros_like(logits)
    if pairs.numel():
        if int(pairs.min()) < 0 or int(pairs[:, 0].max()) >= n or int(pairs[:, 1].max()) >= m:
            raise TrainingError(f"a true pair lies outside the batch of {n} images and {m} texts")
        true[pairs[:, 0], pairs[:, 1]] = 1
    return true


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean over rows of −Σ target · log softmax(logits)."""
    return -(targets * F.log_softmax(logits, dim=1)).sum(dim=1).mean()


def _paired_entropy(logits: Tensor, true: Tensor) -> Tensor:
    """Mean over the rows that have true pairs of the mean −log softmax at them."""
    count = true.sum(dim=1)
    rows = -(true * F.log_softmax(logits, dim=1)).sum(dim=1) / count.clamp(min=1)
    return rows[count > 0].mean()
