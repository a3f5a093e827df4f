"""Losses between a batch of pictures and a batch of texts.

All are called alike: `loss(image_features, text_features, logit_scale, *, similarity=None, pairs=None)`.
Features are unit rows (n, dim) and (m, dim); `logit_scale` is the multiplier itself, exp of what is learned.
The value is the mean of the two directions, picture → text and text → picture; DHN-NCE's their sum, as
published.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from corpus.errors import TrainingError


class SemanticMatchingLoss(nn.Module):
    """Soft cross-entropy against targets made from the likeness of labels (MedCLIP, arXiv 2210.10163).

    Targets are the row softmax of similarity / temperature, for texts the same over its transpose. The paper
    has temperature 1, which leaves them nearly uniform; a sharper one tells findings apart.

    Args:
        temperature: > 0; the smaller, the more the most alike texts take all.
        identity_weight: in [0, 1]; share of the target that goes to an item's own true pairs. A row without
            a true pair keeps its soft target whole.
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
            similarity: (n, m) likeness of labels, required.
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
        """Move `identity_weight` of each row's target to its true pairs, where it has some."""
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
    """InfoNCE in which every text that says what a picture shows is a positive (UniCL, arXiv 2204.03610).

    Positives of an item are those at least `least` alike by their labels, and its true pairs; each has an
    equal share of the target. Items without a positive are negatives only.

    Args:
        least: likeness of labels from which two items count as alike, in (0, 1] for cosine and shared.
    """

    def __init__(self, least: float = 0.5) -> None:
        super().__init__()
        if least <= 0:
            raise TrainingError(f"the least likeness of a positive must be above 0, not {least}")
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
            similarity: (n, m) likeness of labels, required.
            pairs: (p, 2) true pairs, positives whatever their labels; None: labels alone decide.

        Raises:
            TrainingError: `similarity` is missing or misshaped, nothing is alike, or pairs are out of range.
        """
        logits = logit_scale * image_features @ text_features.T
        alike = (_required(similarity, logits) >= self.least).to(logits.dtype)
        if pairs is not None:
            alike = torch.maximum(alike, _true_pairs(logits, pairs))
        if not bool(alike.any()):
            raise TrainingError(
                f"no picture and text of this batch are {self.least} alike; lower loss.least or draw more "
                "texts a step"
            )
        return (_paired_entropy(logits, alike) + _paired_entropy(logits.T, alike.T)) / 2


class DHNNCELoss(nn.Module):
    """Decoupled hard-negative noise-contrastive estimation (MedCLIP-SAM, arXiv 2403.20253), as its formula.

    With S = logit_scale · ⟨image, text⟩, of every picture i with its true text p

        −S_ip + log Σ_j W_ij exp(S_ij),    W_ij = N exp(β1 S_ij) / Σ_k exp(β1 S_ik)

    over its N negatives j, k; the same over texts with β2; the value is the sum of both means. The true pair
    is not in the sum (decoupled, arXiv 2110.06848) and the harder a negative the more it weighs (HN-NCE,
    arXiv 2301.02280). The published code is not this formula: it does not sum over the negatives and
    normalises along the wrong axis, and falls apart from an aligned start.

    DCL is `beta1 = beta2 = 0`, HN-NCE `decoupled=False`, and both together twice InfoNCE.

    Args:
        beta1: ≥ 0; how much hard texts weigh for a picture.
        beta2: ≥ 0; how much hard pictures weigh for a text.
        detach_weights: take W as a constant. Then the loss pushes every negative away, the nearer the more,
            which is false when W carries a gradient; the value is the same.
        decoupled: leave the true pair out of the sum.
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

        Items without a true pair, or for which nothing is a negative, are left out of their mean.

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
        if not bool(chosen.any()):  # all texts of the batch are one text: nothing to tell apart
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
            raise TrainingError(f"{n} pictures and {m} texts have no diagonal; give the true pairs")
        return torch.eye(n, dtype=logits.dtype, device=logits.device)
    true = torch.zeros_like(logits)
    if pairs.numel():
        if int(pairs.min()) < 0 or int(pairs[:, 0].max()) >= n or int(pairs[:, 1].max()) >= m:
            raise TrainingError(f"a true pair lies outside the batch of {n} pictures and {m} texts")
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
