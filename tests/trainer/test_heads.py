"""Projections that learn on standardised features are plain linear maps when they are done."""

import pytest
import torch
from torch import nn

from corpus.errors import TrainingError
from trainer.train.heads import (
    NormalisedProjection,
    StandardisedProjection,
    fold_heads,
    normalise_image_head,
    projections,
    standardise_heads,
)


def loud_and_quiet(n: int = 500) -> torch.Tensor:
    """Features of very different scale over a large part that all items share."""
    generator = torch.Generator().manual_seed(0)
    scale = torch.logspace(-2, 1, 20)
    return torch.randn(n, 20, generator=generator) * scale + 30 * torch.randn(20, generator=generator)


class Model(nn.Module):
    """The places of an open_clip model's last layers."""

    def __init__(self) -> None:
        super().__init__()
        self.visual, self.text = nn.Module(), nn.Module()
        self.visual.head = nn.Module()
        self.visual.head.proj = nn.Linear(20, 8, bias=False)
        self.text.proj = nn.Linear(20, 8, bias=False)


@pytest.fixture
def projection() -> StandardisedProjection:
    torch.manual_seed(0)
    standard = StandardisedProjection(nn.Linear(20, 8, bias=False))
    standard.standardise(loud_and_quiet())
    return standard


def test_what_its_weights_see_has_mean_0_and_deviation_1(projection: StandardisedProjection) -> None:
    seen: list[torch.Tensor] = []
    projection.drop.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0]))
    projection(loud_and_quiet())
    torch.testing.assert_close(seen[0].mean(dim=0), torch.zeros(20), atol=0.02, rtol=0)
    torch.testing.assert_close(seen[0].std(dim=0), torch.ones(20), atol=0.02, rtol=0)


def test_standardising_does_not_change_the_map() -> None:
    linear, features = nn.Linear(20, 8, bias=False), loud_and_quiet()
    standard = StandardisedProjection(linear)
    standard.standardise(features)
    torch.testing.assert_close(standard(features), linear(features), atol=1e-3, rtol=1e-4)


def test_it_folds_into_a_plain_layer_after_any_training(projection: StandardisedProjection) -> None:
    features = loud_and_quiet()
    with torch.no_grad():
        projection.weight.add_(torch.randn_like(projection.weight))
        projection.shared.add_(torch.randn_like(projection.shared))
    torch.testing.assert_close(projection.folded()(features), projection(features), atol=1e-3, rtol=1e-3)


def test_it_becomes_the_matrix_it_is_given(projection: StandardisedProjection) -> None:
    matrix = torch.randn(8, 20, dtype=torch.float64)
    projection.set_matrix(matrix)
    torch.testing.assert_close(projection.matrix(), matrix, atol=1e-4, rtol=1e-4)


def test_features_are_dropped_in_training_only() -> None:
    standard, features = StandardisedProjection(nn.Linear(20, 8, bias=False), drop=0.5), loud_and_quiet()
    standard.standardise(features)
    assert not torch.equal(standard(features), standard(features))
    standard.eval()
    assert torch.equal(standard(features), standard(features))


def test_both_towers_are_dressed_and_undressed() -> None:
    model, features = Model(), loud_and_quiet()
    before = {side: layer(features) for side, layer in projections(model).items()}
    names = set(model.state_dict())
    standardise_heads(model, 0.0)
    assert all(isinstance(layer, StandardisedProjection) for layer in projections(model).values())
    fold_heads(model)
    assert set(model.state_dict()) == names
    for side, layer in projections(model).items():
        torch.testing.assert_close(layer(features), before[side], atol=1e-3, rtol=1e-4)


def test_other_last_layers_are_left_alone() -> None:
    model = Model()
    model.visual.head.proj = nn.Linear(20, 8)
    model.text.proj = nn.Identity()
    standardise_heads(model, 0.0)
    assert not any(isinstance(layer, StandardisedProjection) for layer in projections(model).values())


def test_a_normalised_projection_keeps_its_digits_under_autocast() -> None:
    projection = NormalisedProjection(nn.Linear(6, 4)).eval()
    features = torch.randn(9, 6, generator=torch.Generator().manual_seed(0)).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        halved = projection(features)
    assert halved.dtype == torch.float32
    torch.testing.assert_close(halved, projection(features))


def test_a_normalised_projection_folds_into_one_linear_layer() -> None:
    torch.manual_seed(0)
    projection = NormalisedProjection(nn.Linear(6, 4))
    features = torch.randn(64, 6) * torch.tensor([1e-2, 0.1, 1.0, 3.0, 10.0, 100.0]) + 5
    projection.train()
    for _ in range(200):
        projection(features)
    projection.eval()
    torch.testing.assert_close(projection.folded()(features), projection(features), rtol=1e-4, atol=1e-4)
    centred = projection(features) - projection.linear.bias
    assert float(centred.detach().mean(dim=0).abs().max()) < 0.05  # what all features share is taken out


def test_only_a_layer_with_a_bias_is_normalised() -> None:
    model = Model()
    with pytest.raises(TrainingError, match="timm_proj_bias"):
        normalise_image_head(model)
    model.visual.head.proj = nn.Linear(20, 8)
    normalise_image_head(model)
    assert isinstance(model.visual.head.proj, NormalisedProjection)
    fold_heads(model)
    assert isinstance(model.visual.head.proj, nn.Linear)


def test_they_learn_on_the_device_of_the_layer_that_they_replace() -> None:
    """`meta` stands for a GPU: a tensor left on the CPU would meet the others there in the first step."""
    model = Model().to("meta")
    model.visual.head.proj = nn.Linear(20, 8, device="meta")
    normalise_image_head(model)
    standardise_heads(model, 0.1)
    assert {tensor.device.type for tensor in model.state_dict().values()} == {"meta"}
