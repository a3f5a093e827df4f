"""Into the layers of an image tower: what saliency needs of them, for any timm trunk.

Two places are looked at. The last layer whose places the picture's vector still depends on, for methods that
weigh its channels; and a layer about two thirds down, where a bottleneck can be set (layers 7 to 9 of 12 in
MedCLIP-SAM v2), for which the trunk is parted.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from corpus.errors import EncoderError
from trainer.runtime.backbone import as_grid, place_dimensions, runs_in_line, take_apart
from trainer.runtime.feature_maps import feature_grid, timm_tower

_DEPTH = 2 / 3


@dataclass(frozen=True, slots=True, eq=False)
class LastMap:
    """The last map of some pictures, and the vectors made of it.

    `activations` is a leaf that requires gradients, in the trunk's own layout; `grid` (n, gh, gw, channels)
    shows its places; `vectors` (n, dim) are unit and depend on it.
    """

    activations: torch.Tensor
    vectors: torch.Tensor
    trunk: Any

    @property
    def grid(self) -> torch.Tensor:
        """(n, gh, gw, channels), without gradient."""
        return feature_grid(self.trunk, self.activations.detach())

    def gradients(self, texts: torch.Tensor) -> torch.Tensor:
        """Gradients of each picture's cosine with each text.

        Args:
            texts: (p, dim) unit rows.

        Returns:
            (n, p, gh, gw, channels).
        """
        cosines = (self.vectors @ texts.T).sum(dim=0)  # pictures do not meet in one another's cosines
        found = [torch.autograd.grad(cosine, self.activations, retain_graph=True)[0] for cosine in cosines]
        return torch.stack([feature_grid(self.trunk, gradient) for gradient in found], dim=1)


def last_map(model: nn.Module, pixels: torch.Tensor) -> LastMap:
    """Run pictures through the image tower and hold its last map.

    That is the last feature map; in a plain transformer the normalised input of the last attention
    (`blocks[-1].norm1`): behind it, no patch reaches a class token any more, and every gradient is zero.

    Args:
        model: an open_clip model whose image tower is a timm network; its parameters are frozen.
        pixels: (n, 3, height, width), normalised.

    Raises:
        EncoderError: the tower gives no map of features.
    """
    visual, trunk = timm_tower(model)
    with torch.enable_grad():
        layer = getattr(getattr(trunk, "blocks", [None])[-1], "norm1", None)
        if layer is None or not hasattr(trunk, "patch_embed"):
            with torch.no_grad():
                leaf = trunk.forward_features(pixels).detach()
            leaf.requires_grad_()
            features = leaf
        else:
            features, leaf = _with_leaf(trunk.forward_features, layer, pixels)
        feature_grid(trunk, leaf.detach())
        return LastMap(leaf, F.normalize(visual.head(trunk.forward_head(features)).float(), dim=-1), trunk)


def _with_leaf(
    run: Callable[[torch.Tensor], torch.Tensor], layer: nn.Module, pixels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run with a layer's output in this thread cut off from what made it; the result, and that output."""
    thread = threading.get_ident()
    held: list[torch.Tensor] = []

    def cut(_module: nn.Module, _given: Any, output: torch.Tensor) -> torch.Tensor | None:
        if threading.get_ident() != thread:
            return None
        held.append(output.detach().requires_grad_())
        return held[-1]

    handle = layer.register_forward_hook(cut)
    try:
        return run(pixels), held[-1]
    finally:
        handle.remove()


@dataclass(frozen=True, slots=True, eq=False)
class PartedTower:
    """An image tower in two: pixels to activations, and activations to (n, dim) unit vectors."""

    before: nn.Module
    after: nn.Module
    visual: Any

    def activations(self, pixels: torch.Tensor) -> torch.Tensor:
        """The layer's output in the trunk's own layout, without gradient."""
        with torch.no_grad():
            held: torch.Tensor = self.before(pixels)
            return held.detach()

    def vectors(self, activations: torch.Tensor) -> torch.Tensor:
        """(n, dim) unit rows."""
        features = self.visual.head(self.visual.trunk.forward_head(self.after(activations)))
        return F.normalize(features.float(), dim=-1)

    def place_dimensions(self, activations: torch.Tensor) -> tuple[int, ...]:
        """The dimensions of activations along which one channel has its places."""
        return place_dimensions(self.visual.trunk, activations)

    def grid(self, activations: torch.Tensor) -> torch.Tensor:
        """Activations of this layer as (n, gh, gw, channels).

        Raises:
            EncoderError: they have no places.
        """
        grid = as_grid(self.visual.trunk, activations)
        if grid is None:
            raise EncoderError("the layer two thirds down this image tower has no map of features")
        return grid


def part_tower(model: nn.Module, image_size: int) -> PartedTower:
    """Part an image tower two thirds down its blocks.

    Raises:
        EncoderError: the tower is no timm network, or of a family that cannot be parted.
    """
    visual, trunk = timm_tower(model)
    parts = take_apart(trunk)
    if parts is None:
        raise EncoderError(_CANNOT_PART.format(type(trunk).__name__))
    depth = round(_DEPTH * len(parts.blocks))
    before = nn.Sequential(*parts.stem, *parts.blocks[:depth])
    after = nn.Sequential(*parts.blocks[depth:], *parts.after)
    if not runs_in_line(trunk, nn.Sequential(before, after), image_size):
        raise EncoderError(_CANNOT_PART.format(type(trunk).__name__))
    return PartedTower(before, after, visual)


_CANNOT_PART = (
    "the layers of a {} trunk cannot be run one by one, which the method m2ib needs; "
    "gradcam, gscorecam and patches work with it"
)
