"""The losses are what their papers write, whatever the batch."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from corpus.errors import TrainingError
from trainer.train.losses import DHNNCELoss, InfoNCELoss, MultiPositiveInfoNCELoss, SemanticMatchingLoss

SCALE = torch.tensor(14.0, dtype=torch.float64)


def batch(n: int, m: int, seed: int, dim: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    """Unit image rows, unit text rows, a similarity in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return F.normalize(draw(n, dim), dim=-1), F.normalize(draw(m, dim), dim=-1), torch.tanh(draw(n, m))


def slow_semantic(
    images: Tensor,
    texts: Tensor,
    label_similarity: Tensor,
    temperature: float,
    weight: float,
    pairs: list[list[int]],
) -> float:
    """Semantic matching as a double loop."""
    logits = (SCALE * images @ texts.T).tolist()

    def one_way(rows: list[list[float]], similar: list[list[float]], own: dict[int, list[int]]) -> float:
        total = 0.0
        for i, row in enumerate(rows):
            norm = sum(math.exp(x) for x in row)
            soft_norm = sum(math.exp(x / temperature) for x in similar[i])
            for j, logit in enumerate(row):
                target = math.exp(similar[i][j] / temperature) / soft_norm
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
    return (
        one_way(logits, label_similarity.tolist(), by_image)
        + one_way(turned, label_similarity.T.tolist(), by_text)
    ) / 2


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
    images, texts, label_similarity = batch(n, m, seed)
    rng = np.random.default_rng(seed)
    pairs = sorted({(int(rng.integers(n)), int(rng.integers(m))) for _ in range(3)})
    loss = SemanticMatchingLoss(temperature, weight)(
        images, texts, SCALE, similarity=label_similarity, pairs=torch.tensor(pairs)
    )
    expected = slow_semantic(images, texts, label_similarity, temperature, weight, [list(p) for p in pairs])
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


EVERY = [
    SemanticMatchingLoss(0.2, 0.3),
    InfoNCELoss(),
    MultiPositiveInfoNCELoss(0.2),
    DHNNCELoss(),
    DHNNCELoss(0.5, 0.2, decoupled=False),
]


@pytest.mark.parametrize("loss", EVERY)
def test_the_order_of_the_batch_does_not_matter(loss: torch.nn.Module) -> None:
    images, texts, label_similarity = batch(6, 6, 3)
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    value = loss(images, texts, SCALE, similarity=label_similarity)
    again = loss(images[order], texts[order], SCALE, similarity=label_similarity[order][:, order])
    torch.testing.assert_close(value, again)


def test_full_identity_weight_is_infonce() -> None:
    images, texts, label_similarity = batch(5, 5, 1)
    torch.testing.assert_close(
        SemanticMatchingLoss(1.0, 1.0)(images, texts, SCALE, similarity=label_similarity),
        InfoNCELoss()(images, texts, SCALE),
    )


def test_hard_targets_become_infonce_as_the_temperature_falls() -> None:
    images, texts, _ = batch(5, 5, 1)
    hard = SemanticMatchingLoss(1e-3)(images, texts, SCALE, similarity=torch.eye(5))
    torch.testing.assert_close(hard, InfoNCELoss()(images, texts, SCALE))


def test_infonce_averages_the_pairs_of_an_image_and_takes_the_unpaired_as_negatives() -> None:
    images, texts, _ = batch(2, 3, 5)
    logits = SCALE * images @ texts.T
    rows, columns = logits.log_softmax(1), logits.T.log_softmax(1)
    expected = -((rows[0, 0] + rows[0, 2]) / 2 + (columns[0, 0] + columns[2, 0]) / 2) / 2
    value = InfoNCELoss()(images, texts, SCALE, pairs=torch.tensor([[0, 0], [0, 2]]))
    torch.testing.assert_close(value, expected)


@pytest.mark.parametrize("loss", [*EVERY, DHNNCELoss(detach_weights=False)])
def test_gradients_are_finite_even_for_identical_and_opposite_rows(loss: torch.nn.Module) -> None:
    rows = F.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]]), dim=-1)
    images, texts = rows.clone().requires_grad_(), rows.clone().requires_grad_()
    scale = torch.tensor(100.0, requires_grad=True)
    loss(images, texts, scale, similarity=torch.eye(3)).backward()
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
    with pytest.raises(TrainingError, match="no true pair"):
        DHNNCELoss()(images, texts, SCALE, pairs=torch.empty(0, 2, dtype=torch.int64))
    with pytest.raises(TrainingError, match=r"label similarity of 0\.5"):
        MultiPositiveInfoNCELoss()(images, texts, SCALE, similarity=torch.zeros(2, 3))
    with pytest.raises(TrainingError, match="at least 0"):
        DHNNCELoss(beta1=-0.1)


# -- positives by similarity


@settings(max_examples=20, deadline=None)
@given(n=st.integers(2, 6), m=st.integers(2, 6), seed=st.integers(0, 10_000))
def test_multi_positive_infonce_shares_the_target_among_all_similar_items(n: int, m: int, seed: int) -> None:
    images, texts, label_similarity = batch(n, m, seed)
    label_similarity[0, 0] = 1.0
    logits = (SCALE * images @ texts.T).tolist()

    def one_way(rows: list[list[float]], similar: list[list[float]]) -> float:
        terms = []
        for row, likes in zip(rows, similar, strict=True):
            norm = math.log(sum(math.exp(x) for x in row))
            own = [norm - row[j] for j, like in enumerate(likes) if like >= 0.3]
            terms += [sum(own) / len(own)] if own else []
        return sum(terms) / len(terms)

    turned = [list(column) for column in zip(*logits, strict=True)]
    expected = (one_way(logits, label_similarity.tolist()) + one_way(turned, label_similarity.T.tolist())) / 2
    value = MultiPositiveInfoNCELoss(0.3)(images, texts, SCALE, similarity=label_similarity)
    assert float(value) == pytest.approx(expected, rel=1e-9)


def test_a_true_pair_is_a_positive_whatever_its_labels_say() -> None:
    images, texts, _ = batch(4, 4, 2)
    alone = MultiPositiveInfoNCELoss()(
        images, texts, SCALE, similarity=torch.zeros(4, 4), pairs=torch.arange(4)[:, None].expand(4, 2)
    )
    torch.testing.assert_close(alone, InfoNCELoss()(images, texts, SCALE))


# -- decoupled hard negatives


def slow_dhn(logits: list[list[float]], beta: float, decoupled: bool) -> float:
    """One direction of the published formula, as a double loop over the diagonal's rows."""
    total, size = 0.0, len(logits)
    for i, row in enumerate(logits):
        norm = sum(math.exp(beta * row[k]) for k in range(size) if k != i)
        away = 0.0 if decoupled else math.exp(row[i])
        for j in range(size):
            if j != i:
                away += (size - 1) * math.exp(beta * row[j]) / norm * math.exp(row[j])
        total += -row[i] + math.log(away)
    return total / size


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(2, 7),
    seed=st.integers(0, 10_000),
    betas=st.tuples(st.sampled_from([0.0, 0.15, 1.0]), st.sampled_from([0.0, 0.15, 0.7])),
    decoupled=st.booleans(),
)
def test_dhn_nce_is_the_published_formula_as_a_double_loop(
    n: int, seed: int, betas: tuple[float, float], decoupled: bool
) -> None:
    images, texts, _ = batch(n, n, seed)
    logits = (SCALE * images @ texts.T).tolist()
    turned = [list(column) for column in zip(*logits, strict=True)]
    expected = slow_dhn(logits, betas[0], decoupled) + slow_dhn(turned, betas[1], decoupled)
    for detach in (True, False):
        value = DHNNCELoss(*betas, detach_weights=detach, decoupled=decoupled)(images, texts, SCALE)
        assert float(value) == pytest.approx(expected, rel=1e-9)


def test_without_hardness_it_is_dcl_and_with_the_pair_in_the_sum_infonce() -> None:
    images, texts, _ = batch(6, 6, 4)
    logits = SCALE * images @ texts.T
    negatives = logits.masked_fill(torch.eye(6, dtype=torch.bool), -torch.inf)
    dcl = (negatives.logsumexp(1) - logits.diagonal()).mean() + (
        negatives.logsumexp(0) - logits.diagonal()
    ).mean()
    torch.testing.assert_close(DHNNCELoss(0.0, 0.0)(images, texts, SCALE), dcl)
    torch.testing.assert_close(
        DHNNCELoss(0.0, 0.0, decoupled=False)(images, texts, SCALE), 2 * InfoNCELoss()(images, texts, SCALE)
    )


def pushes(loss: DHNNCELoss, images: Tensor, texts: Tensor) -> Tensor:
    """dL/dS of the image → text direction alone, through S itself."""
    logits = (3 * images @ texts.T).detach().requires_grad_()
    value = loss._one_way(logits, torch.eye(len(logits), dtype=logits.dtype), loss.beta1)
    (gradient,) = torch.autograd.grad(value, logits)
    return gradient


@settings(max_examples=20, deadline=None)
@given(n=st.integers(3, 8), seed=st.integers(0, 10_000))
def test_every_negative_is_pushed_away_the_nearer_the_more(n: int, seed: int) -> None:
    images, texts, _ = batch(n, n, seed)
    gradient, label_similarity = pushes(DHNNCELoss(0.5, 0.5), images, texts), images @ texts.T
    for i in range(n):
        others = [j for j in range(n) if j != i]
        order = sorted(others, key=lambda j: float(label_similarity[i, j]))
        pushed = [float(gradient[i, j]) for j in order]
        assert pushed == sorted(pushed)
        assert pushed[0] > 0
        assert float(gradient[i, i]) < 0


def test_weights_that_carry_gradient_pull_some_negatives_near() -> None:
    images, texts, _ = batch(8, 8, 0)
    gradient = pushes(DHNNCELoss(3.0, 3.0, detach_weights=False), images, texts)
    assert float((gradient - gradient.diagonal().diag()).min()) < 0


def test_items_with_several_true_texts_and_items_with_none() -> None:
    images, texts, _ = batch(3, 4, 6)
    logits = SCALE * images @ texts.T
    pairs = torch.tensor([[0, 0], [0, 2], [1, 3]])
    rows = [
        logits[0, [1, 3]].logsumexp(0) - logits[0, [0, 2]].mean(),
        logits[1, :3].logsumexp(0) - logits[1, 3],
    ]
    columns = [
        logits[[1, 2], 0].logsumexp(0) - logits[0, 0],
        logits[[1, 2], 2].logsumexp(0) - logits[0, 2],
        logits[[0, 2], 3].logsumexp(0) - logits[1, 3],
    ]
    expected = torch.stack(rows).mean() + torch.stack(columns).mean()
    torch.testing.assert_close(DHNNCELoss(0.0, 0.0)(images, texts, SCALE, pairs=pairs), expected)


def test_a_batch_of_one_distinct_text_has_a_zero_loss() -> None:
    images, texts, _ = batch(3, 1, 0)
    images.requires_grad_()
    value = DHNNCELoss()(images, texts, SCALE, pairs=torch.tensor([[0, 0], [1, 0], [2, 0]]))
    value.backward()
    assert float(value.detach()) == 0
    assert images.grad is not None
    assert not images.grad.any()


def as_published(images: Tensor, texts: Tensor, logit_scale: Tensor) -> Tensor:
    """What the published code computes, restated: no sum over negatives, the norm along the other axis."""
    logits = logit_scale * images @ texts.T
    size, beta = len(logits), 0.15
    other = 1 - torch.eye(size)

    def one_way(s: Tensor) -> Tensor:
        weights = (size - 1) * (beta * s).exp() / (s.exp() * other).sum(dim=0)
        each = weights * s.exp() * other + torch.eye(size)
        return (each.log() - s.diagonal()[:, None]).mean()

    return one_way(logits) + one_way(logits.T)


def test_from_an_aligned_start_the_formula_finds_every_pair_and_the_published_code_loses_them() -> None:
    def retrieved(loss: Callable[[Tensor, Tensor, Tensor], Tensor]) -> tuple[float, float]:
        generator = torch.Generator().manual_seed(0)
        start = F.normalize(torch.randn(64, 32, generator=generator), dim=-1)
        free = [(start + 0.19 * torch.randn(64, 32, generator=generator)).requires_grad_() for _ in range(2)]
        optimizer = torch.optim.Adam(free, lr=0.05)

        def recall() -> float:
            images, texts = (F.normalize(rows.detach(), dim=-1) for rows in free)
            return float(((images @ texts.T).argmax(1) == torch.arange(64)).float().mean())

        before = recall()
        for _ in range(300):
            optimizer.zero_grad()
            loss(*(F.normalize(rows, dim=-1) for rows in free), torch.tensor(1 / 0.6)).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return before, recall()

    before, after = retrieved(DHNNCELoss())
    assert before < 0.8
    assert after == 1.0
    assert retrieved(as_published)[1] < 0.1
