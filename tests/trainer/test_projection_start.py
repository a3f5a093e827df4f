"""Projections that start aligned put both sides into one space before a single step."""

import numpy as np
import pytest
import torch
from torch import nn

from trainer.train.heads import StandardisedProjection, aligned_weight, spread_weight, start_projection

EVERY = np.arange(300)


def sides(n: int = 300, labels: int = 6) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Labels, and two kinds of features that hold them under a large part that all items share."""
    generator = torch.Generator().manual_seed(0)
    result = (torch.rand(n, labels, generator=generator) < 0.3).float()
    result -= result.mean(dim=0)

    def seen(width: int) -> torch.Tensor:
        mixing = torch.randn(labels, width, generator=generator)
        noise = 0.3 * torch.randn(n, width, generator=generator)
        return result @ mixing + noise + 20 * torch.randn(width, generator=generator)

    return result, seen(40), seen(64)


def test_similarity_across_the_sides_follows_the_labels_at_once() -> None:
    result, images, texts = sides()
    vectors = [
        nn.functional.normalize(features @ aligned_weight(features, result, 32, seed=3, ridge=0.03).T, dim=-1)
        for features in (images, texts)
    ]
    similarity = (vectors[0] @ vectors[1].T).flatten().numpy()
    wanted = (nn.functional.normalize(result, dim=-1) @ nn.functional.normalize(result, dim=-1).T).flatten()
    assert np.corrcoef(similarity, wanted.numpy())[0, 1] > 0.9


def test_without_labels_items_are_spread_instead_of_laid_on_one_point() -> None:
    _, images, _ = sides()
    plain = nn.functional.normalize(images, dim=-1)
    assert (plain @ plain.T).mean() > 0.9
    weight = aligned_weight(images, torch.zeros(len(images), 6), 32, seed=3, ridge=0.03)
    spread = nn.functional.normalize(images @ weight.T, dim=-1)
    assert abs(float((spread @ spread.T).mean())) < 0.1
    assert spread_weight(images, 32, seed=3).shape == (32, 40)


def test_only_a_plain_linear_projection_is_set() -> None:
    result, images, _ = sides()
    labels = result.numpy()
    projection = nn.Linear(40, 16, bias=False)
    before = projection.weight.clone()
    assert start_projection(projection, lambda index: projection(images[index]), labels, EVERY, 0, 0.03)
    assert not torch.equal(projection.weight, before)
    torch.testing.assert_close(projection.weight.norm(), before.norm())
    for other in (nn.Linear(40, 16), nn.Identity()):
        assert not start_projection(other, lambda index: images[index], labels, EVERY, 0, 0.03)


def test_a_text_of_several_windows_counts_once() -> None:
    result, _, texts = sides()
    projection, duplicate = nn.Linear(64, 16, bias=False), nn.Linear(64, 16, bias=False)
    duplicate.load_state_dict(projection.state_dict())
    start_projection(projection, lambda index: projection(texts[index]), result.numpy(), EVERY, 0, 0.03)

    def in_halves(index: np.ndarray) -> torch.Tensor:  # type: ignore[type-arg]
        return duplicate(torch.cat([texts[index], texts[index]]))

    start_projection(
        duplicate, in_halves, result.numpy(), EVERY, 0, 0.03, lambda index: [*range(len(index))] * 2
    )
    torch.testing.assert_close(projection.weight, duplicate.weight, atol=1e-5, rtol=1e-4)


def test_a_standardised_projection_starts_where_a_plain_one_does() -> None:
    result, images, _ = sides()
    plain = nn.Linear(40, 16, bias=False)
    standard = StandardisedProjection(plain)
    for projection in (plain, standard):
        start_projection(
            projection, lambda index, p=projection: p(images[index]), result.numpy(), EVERY, 0, 0.03
        )
    one, other = (nn.functional.normalize(projection(images), dim=-1) for projection in (plain, standard))
    torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)
    assert standard(images).norm(dim=1).mean().item() == pytest.approx(1.0, abs=1e-3)


def test_without_labels_a_standardised_projection_keeps_its_map() -> None:
    _, images, _ = sides()
    plain = nn.Linear(40, 16, bias=False)
    standard = StandardisedProjection(plain)
    start_projection(standard, lambda index: standard(images[index]), None, EVERY, 0, 0.03)
    torch.testing.assert_close(standard(images), plain(images), atol=1e-4, rtol=1e-4)
