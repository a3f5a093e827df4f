"""The losses are what their papers write, whatever the batch."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from corpus.errors import TrainingError
from trainer.losses import InfoNCELoss, SemanticMatchingLoss

SCALE = torch.tensor(14.0, dtype=torch.float64)


def batch(n: int, m: int, seed: int, dim: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    """Unit picture rows, unit text rows, a likeness in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return F.normalize(draw(n, dim), dim=-1), F.normalize(draw(m, dim), dim=-1), torch.tanh(draw(n, m))


def slow_semantic(
    images: Tensor, texts: Tensor, likeness: Tensor, temperature: float, weight: float, pairs: list[list[int]]
) -> float:
    """Semantic matching as a double loop."""
    logits = (SCALE * images @ texts.T).tolist()

    def one_way(rows: list[list[float]], alike: list[list[float]], own: dict[int, list[int]]) -> float:
        total = 0.0
        for i, row in enumerate(rows):
            norm = sum(math.exp(x) for x in row)
            soft_norm = sum(math.exp(x / temperature) for x in alike[i])
            for j, logit in enumerate(row):
                target = math.exp(alike[i][j] / temperature) / soft_norm
                if i in own:
                    target = (1 - weight) * target + weight * (j in own[i]) / len(own[i])
                total -= target * (logit - math.log(norm))
        return total / len(rows)

    by_image: dict[int, list[int]] = {}
    by_text: dict[int, list[int]] = {}
    for i, j in pairs:
        by_image.setdefault(i, []).append(j)
        by_text.setdefault(j, []).append(i)
    turned = [list(column) for column in zip(*logits, strict=True)]
    return (one_way(logits, likeness.tolist(), by_image) + one_way(turned, likeness.T.tolist(), by_text)) / 2


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(1, 7),
    m=st.integers(1, 7),
    seed=st.integers(0, 10_000),
    temperature=st.sampled_from([0.05, 0.3, 1.0]),
    weight=st.sampled_from([0.0, 0.4, 1.0]),
)
def test_semantic_matching_is_the_papers_double_sum_for_any_batch_shape(
    n: int, m: int, seed: int, temperature: float, weight: float
) -> None:
    images, texts, likeness = batch(n, m, seed)
    rng = np.random.default_rng(seed)
    pairs = sorted({(int(rng.integers(n)), int(rng.integers(m))) for _ in range(3)})
    loss = SemanticMatchingLoss(temperature, weight)(
        images, texts, SCALE, similarity=likeness, pairs=torch.tensor(pairs)
    )
    expected = slow_semantic(images, texts, likeness, temperature, weight, [list(p) for p in pairs])
    assert float(loss) == pytest.approx(expected, rel=1e-9)


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 8), seed=st.integers(0, 10_000))
def test_infonce_is_the_double_loop_over_the_diagonal(n: int, seed: int) -> None:
    images, texts, _ = batch(n, n, seed)
    logits = (SCALE * images @ texts.T).tolist()
    total = 0.0
    for i in range(n):
        total -= logits[i][i] - math.log(sum(math.exp(x) for x in logits[i]))
        total -= logits[i][i] - math.log(sum(math.exp(row[i]) for row in logits))
    assert float(InfoNCELoss()(images, texts, SCALE)) == pytest.approx(total / (2 * n), rel=1e-9)


@pytest.mark.parametrize("loss", [SemanticMatchingLoss(0.2, 0.3), InfoNCELoss()])
def test_the_order_of_the_batch_does_not_matter(loss: torch.nn.Module) -> None:
    images, texts, likeness = batch(6, 6, 3)
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    value = loss(images, texts, SCALE, similarity=likeness)
    again = loss(images[order], texts[order], SCALE, similarity=likeness[order][:, order])
    torch.testing.assert_close(value, again)


def test_full_identity_weight_is_infonce() -> None:
    images, texts, likeness = batch(5, 5, 1)
    torch.testing.assert_close(
        SemanticMatchingLoss(1.0, 1.0)(images, texts, SCALE, similarity=likeness),
        InfoNCELoss()(images, texts, SCALE),
    )


def test_hard_targets_become_infonce_as_the_temperature_falls() -> None:
    images, texts, _ = batch(5, 5, 1)
    hard = SemanticMatchingLoss(1e-3)(images, texts, SCALE, similarity=torch.eye(5))
    torch.testing.assert_close(hard, InfoNCELoss()(images, texts, SCALE))


def test_infonce_averages_the_pairs_of_a_picture_and_takes_the_unpaired_as_negatives() -> None:
    images, texts, _ = batch(2, 3, 5)
    logits = SCALE * images @ texts.T
    rows, columns = logits.log_softmax(1), logits.T.log_softmax(1)
    expected = -((rows[0, 0] + rows[0, 2]) / 2 + (columns[0, 0] + columns[2, 0]) / 2) / 2
    value = InfoNCELoss()(images, texts, SCALE, pairs=torch.tensor([[0, 0], [0, 2]]))
    torch.testing.assert_close(value, expected)


@pytest.mark.parametrize("loss", [SemanticMatchingLoss(0.05, 0.2), InfoNCELoss()])
def test_gradients_are_finite_even_for_identical_and_opposite_rows(loss: torch.nn.Module) -> None:
    rows = F.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]]), dim=-1)
    images, texts = rows.clone().requires_grad_(), rows.clone().requires_grad_()
    scale = torch.tensor(100.0, requires_grad=True)
    loss(images, texts, scale, similarity=torch.ones(3, 3)).backward()
    for leaf in (images, texts, scale):
        assert leaf.grad is not None
        assert torch.isfinite(leaf.grad).all()


def test_what_does_not_fit_is_refused_in_words() -> None:
    images, texts, _ = batch(2, 3, 0)
    with pytest.raises(TrainingError, match="similarity of shape"):
        SemanticMatchingLoss()(images, texts, SCALE)
    with pytest.raises(TrainingError, match="true pairs"):
        InfoNCELoss()(images, texts, SCALE)
    with pytest.raises(TrainingError, match="no true pair"):
        InfoNCELoss()(images, texts, SCALE, pairs=torch.empty(0, 2, dtype=torch.int64))
    with pytest.raises(TrainingError, match="outside the batch"):
        InfoNCELoss()(images, texts, SCALE, pairs=torch.tensor([[0, 3]]))
    with pytest.raises(TrainingError, match="above 0"):
        SemanticMatchingLoss(0.0)
