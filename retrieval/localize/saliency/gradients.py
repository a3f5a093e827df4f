"""Gradient-based saliency: what needs the layers of an image tower, so torch; and Grad-CAM, the shortest."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray

from retrieval.localize.saliency.gscorecam import gscorecam
from retrieval.localize.saliency.m2ib import m2ib
from trainer.runtime.activations import last_map
from trainer.runtime.encoder import Encoder

Method = Callable[[Encoder, torch.Tensor, torch.Tensor], torch.Tensor]
"""(encoder, (n, channels, size, size) pixels, (p, dim) unit texts) → (n, p, gh, gw) raw maps."""


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


METHODS: Mapping[str, Method] = MappingProxyType({"gradcam": gradcam, "gscorecam": gscorecam, "m2ib": m2ib})


def gradient_maps(
    encoder: Encoder, images: Sequence[NDArray[np.float32]], texts: NDArray[np.float32], method: str
) -> NDArray[np.float32]:
    """Map every text over every image.

    Args:
        encoder: its image tower makes the maps.
        images: (height, width) float32 grey in [0, 1] each; their activations are in memory at once.
        texts: (p, dim) float32 unit rows.
        method: one of `METHODS`.

    Returns:
        (n, p, gh, gw) float32, in the method's own units.

    Raises:
        EncoderError: an image cannot be encoded, or the image tower has no map of features.
    """
    pixels = encoder.inputs(images)
    on_device = torch.from_numpy(np.ascontiguousarray(texts, np.float32)).to(pixels.device)
    maps: NDArray[np.float32] = METHODS[method](encoder, pixels, on_device).float().cpu().numpy()
    return maps
