"""The last layers of the towers while they learn: linear maps that see every feature on one scale.

A pretrained trunk's features differ in scale by orders of magnitude and share one large common part; a step
of Adam moves every weight by as much, so the loud features are learned and the quiet ones, which tell
findings apart, are not. A `StandardisedProjection` learns on standardised features, and folds into a plain
linear layer without a bias when the encoder is written: what it has seen is then one matrix.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from corpus.errors import TrainingError

_LEAST_DEVIATION = 1e-3  # of the largest: a feature that hardly differs is not blown up


class StandardisedProjection(nn.Module):
    """A (dim, d) projection in the place of a linear layer without bias, trained on standardised features.

    With the unit vector m along the mean of the features, l the mean of m·x and s the deviation of each
    feature once its part along m is taken out, it computes V·(x − m(m·x))/s + b·(m·x)/l. That is linear in x;
    V and b are what learns, and every linear map can be written so. b acts as a bias where all x share m.

    Args:
        linear: the layer whose place it takes, without bias; its weights are the beginning.
        drop: share of the standardised features that are dropped in training.
    """

    direction: Tensor
    deviation: Tensor
    level: Tensor

    def __init__(self, linear: nn.Linear, drop: float = 0.0) -> None:
        super().__init__()
        width, device = linear.in_features, linear.weight.device
        self.in_features, self.out_features = width, linear.out_features
        self.weight = nn.Parameter(linear.weight.detach().clone())
        self.shared = nn.Parameter(torch.zeros(linear.out_features, device=device))
        self.drop = nn.Dropout(drop)
        self.register_buffer("direction", torch.zeros(width, device=device))
        self.register_buffer("deviation", torch.ones(width, device=device))
        self.register_buffer("level", torch.ones((), device=device))

    def forward(self, features: Tensor) -> Tensor:
        """(n, d) features → (n, dim)."""
        along = features @ self.direction
        standard = (features - along[:, None] * self.direction) / self.deviation
        projected: Tensor = F.linear(self.drop(standard), self.weight)
        return projected + (along / self.level)[:, None] * self.shared

    def standardise(self, features: Tensor) -> None:
        """Take mean direction and deviations from (n, d) features; the map itself stays what it was."""
        matrix = self.matrix()
        mean = features.double().mean(dim=0)
        direction = mean / mean.norm().clamp(min=1e-12)
        apart = features.double() - (features.double() @ direction)[:, None] * direction
        deviation = apart.std(dim=0, correction=0)
        self.direction.copy_(direction)
        self.deviation.copy_(deviation.clamp(min=_LEAST_DEVIATION * float(deviation.max().clamp(min=1e-12))))
        self.level.copy_(mean.norm().clamp(min=1e-12))
        self.set_matrix(matrix)

    def matrix(self) -> Tensor:
        """The whole map as one (dim, d) matrix, in float64."""
        weight = self.weight.detach().double() / self.deviation.double()
        direction = self.direction.double()
        weight = weight - (weight @ direction)[:, None] * direction
        return weight + torch.outer(self.shared.detach().double() / self.level.double(), direction)

    def set_matrix(self, matrix: Tensor) -> None:
        """Become this (dim, d) matrix."""
        matrix = matrix.double().to(self.weight.device)
        with torch.no_grad():
            self.weight.copy_(matrix * self.deviation.double())
            self.shared.copy_(self.level.double() * (matrix @ self.direction.double()))

    def folded(self) -> nn.Linear:
        """The plain linear layer that computes the same."""
        linear = nn.Linear(self.in_features, self.out_features, bias=False)
        linear.weight.data.copy_(self.matrix())
        return linear


class NormalisedProjection(nn.Module):
    """A (dim, d) projection with a bias, trained on features that batch normalisation centres and scales.

    For a trunk that learns from scratch, whose features have no settled scale: after its last activation all
    of them are positive, all patches of all pictures lie close together, and a loss over cosines does not get
    them apart. In evaluation it is one linear map, into which it folds.

    Args:
        linear: the layer whose place it takes, with a bias; its weights are the beginning.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.norm = nn.BatchNorm1d(linear.in_features, affine=False, device=linear.weight.device)
        self.linear = linear

    def forward(self, features: Tensor) -> Tensor:
        """(n, d) features → (n, dim)."""
        # Under autocast, too: two or three digits are too few to tell patches of one picture apart.
        with torch.autocast(features.device.type, enabled=False):
            projected: Tensor = self.linear(self.norm(features.float()))
        return projected

    def folded(self) -> nn.Linear:
        """The plain linear layer that computes the same in evaluation."""
        assert self.norm.running_mean is not None
        assert self.norm.running_var is not None
        scale = (self.norm.running_var.double() + self.norm.eps).rsqrt()
        weight = self.linear.weight.detach().double() * scale
        linear = nn.Linear(self.in_features, self.out_features)
        linear.weight.data.copy_(weight)
        linear.bias.data.copy_(self.linear.bias.detach().double() - weight @ self.norm.running_mean.double())
        return linear


def projections(model: nn.Module) -> dict[str, nn.Module]:
    """The last layers of both towers by name, `image` and `text`, where they have one."""
    holders = _holders(model)
    return {side: getattr(holder, "proj", None) or nn.Identity() for side, holder in holders.items()}


def standardise_heads(model: nn.Module, drop: float) -> None:
    """Put a `StandardisedProjection` in the place of each linear last layer without bias."""
    for side, holder in _holders(model).items():
        projection = projections(model)[side]
        if isinstance(projection, nn.Linear) and getattr(projection, "bias", None) is None:
            holder.proj = StandardisedProjection(projection, drop)


def normalise_image_head(model: nn.Module) -> None:
    """Put a `NormalisedProjection` in the place of the image tower's linear last layer.

    Raises:
        TrainingError: it has none, or one without a bias.
    """
    projection = projections(model)["image"]
    if not isinstance(projection, nn.Linear) or projection.bias is None:
        raise TrainingError(
            "head.normalise needs an image tower that ends in a linear layer with a bias: give the "
            "architecture timm_proj_bias, or leave the setting out"
        )
    _holders(model)["image"].proj = NormalisedProjection(projection)


def fold_heads(model: nn.Module) -> None:
    """Undo what was put in the place of linear layers: the model computes the same with plain ones."""
    for side, holder in _holders(model).items():
        projection = projections(model)[side]
        if isinstance(projection, StandardisedProjection):
            holder.proj = projection.folded().to(projection.weight.device)
        elif isinstance(projection, NormalisedProjection):
            holder.proj = projection.folded().to(projection.linear.weight.device)


def draw_heads(model: nn.Module, seed: int) -> None:
    """Draw the weights of linear last layers anew."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for projection in projections(model).values():
            if isinstance(projection, nn.Linear):
                projection.reset_parameters()


def _holders(model: Any) -> dict[str, Any]:
    return {"image": getattr(model.visual, "head", None), "text": model.text}
