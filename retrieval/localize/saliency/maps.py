"""Saliency maps by four methods behind one call, and the two short methods, Grad-CAM and patch similarity.

All four take any image tower with a timm network as backbone. They return raw numbers over the encoder's
square; `RawMaps.over` brings them over the image as read.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from corpus.errors import UsageError
from retrieval.localize.saliency.gscorecam import gscorecam
from retrieval.localize.saliency.m2ib import m2ib
from trainer.runtime.activations import last_map
from trainer.runtime.encoder import Encoder
from trainer.runtime.feature_maps import patch_features

Map = NDArray[np.float32]
Method = Callable[[Encoder, torch.Tensor, torch.Tensor], torch.Tensor]
"""(encoder, (n, channels, size, size) pixels, (p, dim) unit texts) → (n, p, gh, gw) raw maps."""

SMOOTHING = 1 / 32
"""Standard deviation, as a share of the image's side, by which patch similarities are averaged with their
neighbours. A finding covers several patches of a fine grid, and one that stands alone is more often wrong. On
grids of 7 or 14 it changes next to nothing."""
_BATCH = 8  # images with their activations in memory at once


def gradcam(encoder: Encoder, pixels: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    """Grad-CAM (Selvaraju et al., arXiv 1610.02391) of the cosine between an image and a text.

    The channels of the last map are weighed by their mean gradient and summed; negative values become 0.

    Args:
        encoder: its image tower makes the maps.
        pixels: (n, channels, size, size), as `Encoder.inputs` makes them.
        texts: (p, dim) unit rows.

    Returns:
        (n, p, gh, gw), at least 0.
    """
    last = last_map(encoder.model, pixels)
    weights = last.gradients(texts).mean(dim=(2, 3))
    return torch.einsum("npc,nhwc->nphw", weights, last.grid).clamp(min=0)


def patch_similarity(encoder: Encoder, pixels: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    """The cosine of each patch, in the space of image vectors, with a text: one forward pass, no gradients.

    Args:
        encoder: its image tower makes the patches.
        pixels: (n, channels, size, size), as `Encoder.inputs` makes them.
        texts: (p, dim) unit rows.

    Returns:
        (n, p, gh, gw) cosines in [-1, 1], each averaged with its neighbours.
    """
    with torch.inference_mode():
        patches = F.normalize(patch_features(encoder.model, pixels).float(), dim=-1)
        return smooth(torch.einsum("nhwd,pd->nphw", patches, texts))


def smooth(maps: torch.Tensor) -> torch.Tensor:
    """(n, p, gh, gw) maps, each cell a Gaussian mean of itself and its neighbours; borders repeat."""
    n, p, height, width = maps.shape
    flat = maps.reshape(n * p, 1, height, width)
    for dimension, side in ((2, height), (3, width)):
        kernel = _gaussian(SMOOTHING * side, maps)
        radius = len(kernel) // 2
        shape, padding = [1, 1, 1, 1], [0, 0, 0, 0]
        shape[dimension] = len(kernel)
        padding[2 * (3 - dimension)] = padding[2 * (3 - dimension) + 1] = radius
        flat = F.conv2d(F.pad(flat, padding, mode="replicate"), kernel.reshape(shape))
    return flat.reshape(n, p, height, width)


def _gaussian(deviation: float, like: torch.Tensor) -> torch.Tensor:
    radius = round(3 * deviation)
    offsets = torch.arange(-radius, radius + 1, dtype=like.dtype, device=like.device)
    weights = torch.exp(-0.5 * (offsets / deviation) ** 2)
    return weights / weights.sum()


METHODS: Mapping[str, Method] = MappingProxyType(
    {"gradcam": gradcam, "gscorecam": gscorecam, "m2ib": m2ib, "patches": patch_similarity}
)


@dataclass(frozen=True, slots=True, eq=False)
class RawMaps:
    """Maps of one image, one per text.

    `grids`: (p, gh, gw) float32 over the encoder's square.
    `height`, `width`: of the image as read.
    `encoder`: the maps are of its image tower.
    """

    grids: Map
    height: int
    width: int
    encoder: Encoder

    def over(self, text: int) -> Map:
        """The map of one text over the image, (height, width) float32 in the method's own units."""
        return self.encoder.framing.undo(self.grids[text], self.height, self.width)


def raw_maps(
    encoder: Encoder, images: Sequence[Map], texts: NDArray[np.float32], method: str
) -> list[RawMaps]:
    """Map every text over every image. A map is the same alone or in any batch, and in every run.

    Args:
        encoder: its image tower makes the maps.
        images: (height, width) float32 grey in [0, 1] each; sizes may differ.
        texts: (p, dim) float32 unit rows in the encoder's space.
        method: one of `METHODS`.

    Returns:
        In the order of the images.

    Raises:
        UsageError: no such method.
        EncoderError: an image cannot be encoded, or the image tower has no map of features.
    """
    if method not in METHODS:
        raise UsageError(f"unknown method {method!r}; known are {', '.join(METHODS)}")
    on_device = torch.from_numpy(np.ascontiguousarray(texts, np.float32)).to(encoder.device)
    made: list[RawMaps] = []
    for start in range(0, len(images), _BATCH):
        batch = images[start : start + _BATCH]
        grids = METHODS[method](encoder, encoder.inputs(batch), on_device).float().cpu().numpy()
        made += [
            RawMaps(grid, image.shape[0], image.shape[1], encoder)
            for grid, image in zip(grids, batch, strict=True)
        ]
    return made


def scaled(heat: Map) -> Map:
    """A map scaled to [0, 1] by its minimum and maximum; a level map, which points nowhere, becomes zero."""
    low, high = float(heat.min()), float(heat.max())
    if not high - low > 1e-12 * max(1.0, abs(high)):
        return np.zeros_like(heat)
    return (heat - np.float32(low)) / np.float32(high - low)
