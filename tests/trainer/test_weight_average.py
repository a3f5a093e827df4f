"""The running mean of weights stands in for the model while it is scored, and leaves no trace."""

import pytest
import torch
from torch import nn

from trainer.train.optimizer import WeightAverage


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(3, 2)


def test_the_mean_is_that_of_a_plain_loop(model: nn.Module) -> None:
    average, weights = WeightAverage(model, 0.5), [model.weight.detach().clone()]
    expected = weights[0].clone()
    for step in range(1, 30):
        with torch.no_grad():
            model.weight.add_(torch.randn(2, 3))
        average.update(step)
        stored = min(0.5, (step + 1) / (step + 10))
        expected = stored * expected + (1 - stored) * model.weight.detach()
    with average.applied():
        torch.testing.assert_close(model.weight.detach(), expected)


def test_training_goes_on_from_the_weights_it_had(model: nn.Module) -> None:
    average = WeightAverage(model, 0.9)
    with torch.no_grad():
        model.weight.add_(1)
    average.update(1)
    before = model.weight.detach().clone()
    with average.applied():
        assert not torch.equal(model.weight, before)
    assert torch.equal(model.weight, before)


def test_without_a_decay_the_mean_is_the_model_itself(model: nn.Module) -> None:
    average, before = WeightAverage(model, 0.0), model.weight.detach().clone()
    average.update(1)
    with average.applied():
        assert torch.equal(model.weight, before)
    assert average.state() == {"mean": {}, "start": {}}


def test_frozen_weights_are_not_stored_twice(model: nn.Module) -> None:
    model.bias.requires_grad_(False)
    assert set(WeightAverage(model, 0.9).state()["mean"]) == {"weight"}


def test_a_share_of_the_start_stays_in_what_is_applied(model: nn.Module) -> None:
    start = model.weight.detach().clone()
    average = WeightAverage(model, 0.0, start_share=0.25)
    with torch.no_grad():
        model.weight.add_(1)
    average.update(1)
    with average.applied():
        torch.testing.assert_close(model.weight.detach(), start + 0.75)
    torch.testing.assert_close(model.weight.detach(), start + 1)
