"""Activations inside an image tower, for saliency methods; any timm backbone.

Two layers are offered: the last one on which the image vector still depends patch by patch, for methods that
weigh its channels; and one about two thirds down, where an information bottleneck can be inserted (layers 7
to 9 of 12 in MedCLIP-SAM v2), at which the backbone is split.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from corpus.errors import EncoderError
from trainer.runtime.feature_maps import (
    as_grid,
    backbone_parts,
    feature_grid,
    runs_in_sequence,
    spatial_dimensions,
    timm_tower,
)

_DEPTH = 2 / 3


@dataclass(frozen=True, slots=True, eq=False)
class LastMap:
    """The last feature map of n images, and the image vectors computed from it.

    `activations`: a leaf tensor that requires gradients, in the backbone's own layout.
    `vectors`: (n, dim) unit rows that depend on it.
    `backbone`: the timm network.
    """

    activations: torch.Tensor
    vectors: torch.Tensor
    backbone: Any

    @property
    def grid(self) -> torch.Tensor:
        """The feature map as (n, gh, gw, channels), without gradient."""
        return feature_grid(self.backbone, self.activations.detach())

    def gradients(self, texts: torch.Tensor) -> torch.Tensor:
        """Gradients of each image's cosine with each text.

        Args:
            texts: (p, dim) unit rows.

        Returns:
            (n, p, gh, gw, channels).
        """
        cosines = (self.vectors @ texts.T).sum(dim=0)  # one image's cosines do not depend on the others
        found = [torch.autograd.grad(cosine, self.activations, retain_graph=True)[0] for cosine in cosines]
        return torch.stack([feature_grid(self.backbone, gradient) for gradient in found], dim=1)


def last_map(model: nn.Module, pixels: torch.Tensor) -> LastMap:
    """Run images through the image tower and capture its last feature map.

    In a plain transformer that is the normalised input of the last attention (`blocks[-1].norm1`): after it
    no patch reaches the class token any more, and every gradient is zero.

    Args:
        model: an open_clip model with a timm image tower; its parameters are frozen.
        pixels: (n, 3, height, width), normalised.

    Raises:
        EncoderError: the tower gives no feature map.
    """
    visual, backbone = timm_tower(model)
    with torch.enable_grad():
        layer = getattr(getattr(backbone, "blocks", [None])[-1], "norm1", None)
        if layer is None or not hasattr(backbone, "patch_embed"):
            with torch.no_grad():
                leaf = backbone.forward_features(pixels).detach()
            leaf.requires_grad_()
            features = leaf
        else:
            features, leaf = _with_leaf(backbone.forward_features, layer, pixels)
        feature_grid(backbone, leaf.detach())
        return LastMap(
            leaf, F.normalize(visual.head(backbone.forward_head(features)).float(), dim=-1), backbone
        )


def _with_leaf(
    run: Callable[[torch.Tensor], torch.Tensor], layer: nn.Module, pixels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run with a layer's output, in this thread only, replaced by a leaf; the result, and that leaf."""
    thread = threading.get_ident()
    leaves: list[torch.Tensor] = []

    def detach(_module: nn.Module, _inputs: Any, output: torch.Tensor) -> torch.Tensor | None:
        if threading.get_ident() != thread:
            return None
        leaves.append(output.detach().requires_grad_())
        return leaves[-1]

    handle = layer.register_forward_hook(detach)
    try:
        return run(pixels), leaves[-1]
    finally:
        handle.remove()


@dataclass(frozen=True, slots=True, eq=False)
class PartedTower:
    """An image tower split in two.

    `before`: pixels to activations. `after`: activations to the last feature map. `visual`: the whole tower.
    """

    before: nn.Module
    after: nn.Module
    visual: Any

    def activations(self, pixels: torch.Tensor) -> torch.Tensor:
        """The layer's output in the backbone's own layout, without gradient."""
        with torch.no_grad():
            activations: torch.Tensor = self.before(pixels)
            return activations.detach()

    def vectors(self, activations: torch.Tensor) -> torch.Tensor:
        """The image vectors of activations, (n, dim) unit rows."""
        features = self.visual.head(self.visual.trunk.forward_head(self.after(activations)))
        return F.normalize(features.float(), dim=-1)

    def spatial_dimensions(self, activations: torch.Tensor) -> tuple[int, ...]:
        """The dimensions of activations that run over patches."""
        return spatial_dimensions(self.visual.trunk, activations)

    def grid(self, activations: torch.Tensor) -> torch.Tensor:
        """Activations of this layer as (n, gh, gw, channels).

        Raises:
            EncoderError: they are no feature map.
        """
        grid = as_grid(self.visual.trunk, activations)
        if grid is None:
            raise EncoderError("the layer two thirds down this image tower has no feature map")
        return grid


def part_tower(model: nn.Module, image_size: int) -> PartedTower:
    """Split an image tower two thirds down its blocks.

    Args:
        model: an open_clip model.
        image_size: side of the images in pixels, for the check that the parts give the whole.

    Raises:
        EncoderError: the tower is no timm network, or of a family that cannot be split.
    """
    visual, backbone = timm_tower(model)
    parts = backbone_parts(backbone)
    if parts is None:
        raise EncoderError(_CANNOT_PART.format(type(backbone).__name__))
    depth = round(_DEPTH * len(parts.blocks))
    before = nn.Sequential(*parts.stem, *parts.blocks[:depth])
    after = nn.Sequential(*parts.blocks[depth:], *parts.after)
    if not runs_in_sequence(backbone, nn.Sequential(before, after), image_size):
        raise EncoderError(_CANNOT_PART.format(type(backbone).__name__))
    return PartedTower(before, after, visual)


_CANNOT_PART = (
    "the layers of a {} backbone cannot be run one by one, which the method m2ib needs; "
    "gradcam, gscorecam and patches work with it"
)
