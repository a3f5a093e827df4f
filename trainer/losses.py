"""Losses between a batch of pictures and a batch of texts.

All are called alike: `loss(image_features, text_features, logit_scale, *, similarity=None, pairs=None)`.
Features are unit rows (n, dim) and (m, dim); `logit_scale` is the multiplier itself, exp of what is learned.
The value is the mean of the two directions, picture → text and text → picture.
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
        if similarity is None or similarity.shape != logits.shape:
            raise TrainingError(f"semantic matching needs a similarity of shape {tuple(logits.shape)}")
        soft = similarity.to(logits.dtype) / self.temperature
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
