"""The projections at the ends of the towers: linear maps on standardised features, initialised from labels.

A pretrained backbone's features differ in scale by orders of magnitude and share one large common component.
A step of Adam moves every weight by the same amount, so that features of large scale are learned and those of
small scale, which distinguish findings, are not. A `StandardisedProjection` learns on standardised features
and folds into one plain linear layer without bias for export.

From random projections the two towers first have to find a common space: the gradient of either side is
hardly informative before the other side is, and a contrastive loss can stay on that plateau for hundreds of
steps (it did, for towers from scratch). `start_projection` therefore fits a ridge regression from the
features to the items' finding vectors, and embeds these with one rotation for both towers. The projection
stays a plain linear layer. In directions without labels it is initialised on the principal directions of its
features.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from corpus.errors import TrainingError
from trainer.runtime.multilevel import Neck

ITEMS = 4096
"""The largest number of items for the initialisation of a projection."""

_FREE = 0.1  # relative length of the components without labels
_FLOOR = 0.01  # of the largest variance: smaller ones are noise and are not amplified
_CHUNK = 32
_LEAST_DEVIATION = 1e-3  # of the largest: a nearly constant feature is not amplified


class StandardisedProjection(nn.Module):
    """A (dim, d) projection that replaces a linear layer without bias, trained on standardised features.

    With the unit vector m along the mean of the features, l the mean of m·x and s the deviation of each
    feature once its part along m is taken out, it computes V·(x − m(m·x))/s + b·(m·x)/l. That is linear in x;
    V and b are learned, and every linear map has this form. b acts as a bias where all x share m.

    Args:
        linear: the replaced layer, without bias; its weights are the initial ones.
        drop: dropout of the standardised features.
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
        """Set mean direction and deviations from (n, d) features; the map itself does not change."""
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
        """Set the whole map to a (dim, d) matrix."""
        matrix = matrix.double().to(self.weight.device)
        with torch.no_grad():
            self.weight.copy_(matrix * self.deviation.double())
            self.shared.copy_(self.level.double() * (matrix @ self.direction.double()))

    def folded(self) -> nn.Linear:
        """The equivalent plain linear layer."""
        linear = nn.Linear(self.in_features, self.out_features, bias=False)
        linear.weight.data.copy_(self.matrix())
        return linear


class NormalisedProjection(nn.Module):
    """A (dim, d) projection with a bias, trained on batch-normalised features.

    For a backbone from scratch, with features of changing scale: after its last activation all features are
    positive and all patches of all images lie close together, so that a loss over cosines does not separate
    them. In evaluation it is one linear map, into which it folds.

    Args:
        linear: the replaced layer, with a bias; its weights are the initial ones.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.norm = nn.BatchNorm1d(linear.in_features, affine=False, device=linear.weight.device)
        self.linear = linear

    def forward(self, features: Tensor) -> Tensor:
        """(n, d) features → (n, dim)."""
        # Also under autocast: two or three digits do not distinguish the patches of one image.
        with torch.autocast(features.device.type, enabled=False):
            projected: Tensor = self.linear(self.norm(features.float()))
        return projected

    def folded(self) -> nn.Linear:
        """The plain linear layer that is equivalent in evaluation."""
        assert self.norm.running_mean is not None
        assert self.norm.running_var is not None
        scale = (self.norm.running_var.double() + self.norm.eps).rsqrt()
        weight = self.linear.weight.detach().double() * scale
        linear = nn.Linear(self.in_features, self.out_features)
        linear.weight.data.copy_(weight)
        linear.bias.data.copy_(self.linear.bias.detach().double() - weight @ self.norm.running_mean.double())
        return linear


def projections(model: nn.Module) -> dict[str, nn.Module]:
    """The projections of both towers, by `image` and `text`; an identity where there is none."""
    holders = _holders(model)
    return {side: getattr(holder, "proj", None) or nn.Identity() for side, holder in holders.items()}


def standardise_heads(model: nn.Module, drop: float) -> None:
    """Replace each linear projection without bias by a `StandardisedProjection`."""
    for side, holder in _holders(model).items():
        projection = projections(model)[side]
        if isinstance(projection, nn.Linear) and getattr(projection, "bias", None) is None:
            holder.proj = StandardisedProjection(projection, drop)


def normalise_image_head(model: nn.Module) -> None:
    """Replace the image tower's linear projection by a `NormalisedProjection`.

    Raises:
        TrainingError: there is none, or one without a bias.
    """
    projection = projections(model)["image"]
    if not isinstance(projection, nn.Linear) or projection.bias is None:
        raise TrainingError(
            "head.normalise needs an image tower that ends in a linear layer with a bias: give the "
            "architecture timm_proj_bias, or leave the setting out"
        )
    _holders(model)["image"].proj = NormalisedProjection(projection)


def fold_heads(model: nn.Module) -> None:
    """Fold the replaced projections into equivalent plain linear layers."""
    for side, holder in _holders(model).items():
        projection = projections(model)[side]
        if isinstance(projection, StandardisedProjection):
            holder.proj = projection.folded().to(projection.weight.device)
        elif isinstance(projection, NormalisedProjection):
            holder.proj = projection.folded().to(projection.linear.weight.device)


def draw_heads(model: nn.Module, seed: int) -> None:
    """Initialise the weights of linear projections, and of a neck that has not learned yet, at random."""
    neck = getattr(getattr(model.visual, "trunk", None), "neck", None)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if isinstance(neck, Neck) and not neck.standardised:
            neck.project.reset_parameters()
        for projection in projections(model).values():
            if isinstance(projection, nn.Linear):
                projection.reset_parameters()


def _holders(model: Any) -> dict[str, Any]:
    return {"image": getattr(model.visual, "head", None), "text": model.text}


def start_projection(
    projection: nn.Module,
    encode: Callable[[NDArray[np.int64]], Tensor],
    labels: NDArray[np.float32] | None,
    index: NDArray[np.int64],
    seed: int,
    ridge: float,
    owners: Callable[[NDArray[np.int64]], Sequence[int]] | None = None,
) -> bool:
    """Initialise a linear projection from its items' labels; return whether it was linear.

    A `StandardisedProjection` takes the scale of its features from the same items.

    Args:
        projection: the last layer of a tower; only a linear one without bias is changed.
        encode: runs the tower over items by their index, (n,) → (n, dim).
        labels: (items, F) finding vectors, less a centre common to both towers; None leaves the map
        unchanged.
        index: the items, as training draws them, with repeats; the first `ITEMS` are used.
        seed: of the rotation; the same for both towers.
        ridge: penalty of the regression, in mean variances of a feature; more with fewer items.
        owners: (n,) indices → for each input row of the projection, the position of its item in them, where
            items have several rows (windows of a long text); the mean of the rows stands for the item.
    """
    if not isinstance(projection, nn.Linear | StandardisedProjection):
        return False
    if getattr(projection, "bias", None) is not None:
        return False
    index = index[:ITEMS]
    features = _input_features(projection, encode, index, owners)
    if isinstance(projection, StandardisedProjection):
        projection.standardise(features)
    if labels is None:
        return True
    targets = torch.from_numpy(labels[index]).double()
    weight = aligned_weight(features, targets, projection.out_features, seed, ridge)
    if isinstance(projection, StandardisedProjection):  # features have scale 1, so vectors get length 1
        length = (features @ weight.T).norm(dim=1).mean()
        projection.set_matrix(weight / length.clamp(min=1e-12))
        return True
    with torch.no_grad():
        projection.weight.copy_(weight * (projection.weight.norm().cpu() / weight.norm().clamp(min=1e-12)))
    return True


def _input_features(
    projection: nn.Module,
    encode: Callable[[NDArray[np.int64]], Tensor],
    index: NDArray[np.int64],
    owners: Callable[[NDArray[np.int64]], Sequence[int]] | None,
) -> Tensor:
    """The input features of a projection for the items at `index`, (n, d) float64.

    In float64, because the large common component leaves float32 few digits for the rest.
    """
    inputs_seen: list[Tensor] = []
    features: list[Tensor] = []
    hook = projection.register_forward_pre_hook(
        lambda _, inputs: inputs_seen.append(inputs[0].detach().double())
    )
    try:
        with torch.no_grad():
            for start in range(0, len(index), _CHUNK):
                chunk = index[start : start + _CHUNK]
                encode(chunk)
                rows = inputs_seen.pop()
                features.append(rows if owners is None else _means(rows, owners(chunk), len(chunk)))
    finally:
        hook.remove()
    return torch.cat(features).cpu()


def _means(rows: Tensor, owners: Sequence[int], count: int) -> Tensor:
    """The mean of each owner's rows, (count, d)."""
    where = torch.tensor(owners, device=rows.device)
    sums = torch.zeros(count, rows.shape[1], dtype=rows.dtype, device=rows.device).index_add(0, where, rows)
    return sums / torch.bincount(where, minlength=count)[:, None]


def aligned_weight(features: Tensor, labels: Tensor, dim: int, seed: int, ridge: float) -> Tensor:
    """A (dim, d) matrix from (n, d) features to their (n, F) labels, embedded in `dim` dimensions."""
    rotation = label_directions(dim, labels.shape[1], seed).to(labels.dtype)
    gram = features.T @ features
    damping = ridge * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    regression = torch.linalg.solve(gram + damping, features.T @ labels)[:, : rotation.shape[1]]
    labelled = rotation @ regression.T
    free = spread_weight(features, dim, seed)
    reach = (features @ labelled.T).norm() / (features @ free.T).norm().clamp(min=1e-12)
    weight: Tensor = labelled + _FREE * reach * free if bool(reach > 0) else free
    return weight


def label_directions(dim: int, columns: int, seed: int) -> Tensor:
    """(dim, columns) float64 orthonormal directions, one for each column of labels, in `dim` dimensions.

    They depend only on these three numbers: another number of columns gives other directions. Of more than
    `dim` columns the first are used.
    """
    directions: Tensor = torch.linalg.qr(_noise(dim, min(dim, columns), seed))[0]
    return directions


def spread_weight(features: Tensor, dim: int, seed: int) -> Tensor:
    """A (dim, d) matrix that whitens (n, d) features without the direction of their mean, randomly rotated.

    Directions with less than a hundredth of the largest variance are damped instead of amplified.
    """
    mean = features.mean(dim=0)
    shared = mean / mean.norm().clamp(min=1e-12)
    differing = features - mean
    differing = differing - (differing @ shared)[:, None] * shared
    _, spread, directions = torch.linalg.svd(differing, full_matrices=False)
    rank = min(dim, len(spread))
    variance = spread[:rank] ** 2
    scale = (variance + _FLOOR * variance[0].clamp(min=1e-12)).rsqrt()
    rotation = torch.linalg.qr(_noise(dim, rank, seed + 1))[0].to(features.dtype)
    weight: Tensor = rotation @ (scale[:, None] * directions[:rank])
    return weight


def _noise(height: int, width: int, seed: int) -> Tensor:
    return torch.randn(height, width, generator=torch.Generator().manual_seed(seed)).double()
