"""Where projections begin: near what the labels say, so that training starts from likeness, not noise.

From random projections both towers first have to find each other: neither side's gradient means much before
the other's vectors do, and a contrastive loss can stay on that plateau for hundreds of steps (it did, for
towers from scratch). A ridge regression from the features that reach each projection to the items' finding
vectors, turned by one rotation shared by both sides, starts them in one space at once. The projection stays
a plain linear layer. Where labels say nothing, it starts on the directions in which its items differ.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainer.train.heads import StandardisedProjection

ITEMS = 4096
"""At most so many items of a side are looked at."""

_FREE = 0.1  # share of the directions that labels do not speak of
_FLOOR = 0.01  # of the largest variance: directions below it are noise and are not blown up
_CHUNK = 32


def start_projection(
    projection: nn.Module,
    encode: Callable[[NDArray[np.int64]], Tensor],
    labels: NDArray[np.float32] | None,
    index: NDArray[np.int64],
    seed: int,
    ridge: float,
    owners: Callable[[NDArray[np.int64]], Sequence[int]] | None = None,
) -> bool:
    """Set the weights of a linear projection by its items' labels; return whether it was linear.

    A `StandardisedProjection` takes the scale of its features from the same items.

    Args:
        projection: the last layer of a tower; anything but a linear one without bias is left as it is.
        encode: runs the tower over items by their index, (n,) → (n, dim).
        labels: (items, F) finding vectors, less a centre that both sides share; None keeps the map as it is.
        index: the items to begin from, as training draws them, repeats included; the first `ITEMS` count.
        seed: of the rotation; both sides must be given the same.
        ridge: damping of the regression, in mean variances of a feature; the fewer the items, the more.
        owners: (n,) indices → the place in them that each row reaching the projection belongs to, where
            items are several rows (windows of a long text); their mean stands for the item.
    """
    if not isinstance(projection, nn.Linear | StandardisedProjection):
        return False
    if getattr(projection, "bias", None) is not None:
        return False
    index = index[:ITEMS]
    features = _reaching(projection, encode, index, owners)
    if isinstance(projection, StandardisedProjection):
        projection.standardise(features)
    if labels is None:
        return True
    told = torch.from_numpy(labels[index]).double()
    weight = aligned_weight(features, told, projection.out_features, seed, ridge)
    if isinstance(projection, StandardisedProjection):  # vectors of length 1, as the features are of scale 1
        length = (features @ weight.T).norm(dim=1).mean()
        projection.set_matrix(weight / length.clamp(min=1e-12))
        return True
    with torch.no_grad():
        projection.weight.copy_(weight * (projection.weight.norm().cpu() / weight.norm().clamp(min=1e-12)))
    return True


def _reaching(
    projection: nn.Module,
    encode: Callable[[NDArray[np.int64]], Tensor],
    index: NDArray[np.int64],
    owners: Callable[[NDArray[np.int64]], Sequence[int]] | None,
) -> Tensor:
    """The features of the items at `index` that reach a projection, (n, d) float64.

    In float64: the large part that all share leaves float32 few digits for the rest.
    """
    seen: list[Tensor] = []
    features: list[Tensor] = []
    hook = projection.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().double()))
    try:
        with torch.no_grad():
            for start in range(0, len(index), _CHUNK):
                chunk = index[start : start + _CHUNK]
                encode(chunk)
                rows = seen.pop()
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
    """A (dim, d) matrix that carries (n, d) features to where their (n, F) labels lie in `dim` dimensions."""
    rotation = label_directions(dim, labels, seed)
    gram = features.T @ features
    damping = ridge * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    regression = torch.linalg.solve(gram + damping, features.T @ labels)[:, : rotation.shape[1]]
    told = rotation @ regression.T
    free = spread_weight(features, dim, seed)
    reach = (features @ told.T).norm() / (features @ free.T).norm().clamp(min=1e-12)
    weight: Tensor = told + _FREE * reach * free if bool(reach > 0) else free
    return weight


def label_directions(dim: int, labels: Tensor, seed: int) -> Tensor:
    """(dim, F) orthonormal columns: where each column of (n, F) labels lies in `dim` dimensions.

    The same for all labels of one width and dtype; of more than `dim` columns the first.
    """
    directions: Tensor = torch.linalg.qr(_noise(dim, min(dim, labels.shape[1]), seed, labels))[0]
    return directions


def spread_weight(features: Tensor, dim: int, seed: int) -> Tensor:
    """A (dim, d) matrix that whitens (n, d) features, turned at random, blind to their mean's direction.

    Directions of less than a hundredth of the largest variance are damped instead of blown up.
    """
    mean = features.mean(dim=0)
    shared = mean / mean.norm().clamp(min=1e-12)
    differing = features - mean
    differing = differing - (differing @ shared)[:, None] * shared
    _, spread, directions = torch.linalg.svd(differing, full_matrices=False)
    kept = min(dim, len(spread))
    variance = spread[:kept] ** 2
    scale = (variance + _FLOOR * variance[0].clamp(min=1e-12)).rsqrt()
    rotation, _ = torch.linalg.qr(_noise(dim, kept, seed + 1, features))
    weight: Tensor = rotation @ (scale[:, None] * directions[:kept])
    return weight


def _noise(height: int, width: int, seed: int, like: Tensor) -> Tensor:
    drawn = torch.randn(height, width, generator=torch.Generator().manual_seed(seed))
    return drawn.to(like.dtype)
