"""Grad-CAM (Selvaraju et al., arXiv 1610.02391) of the cosine between a picture and a text."""

import torch

from trainer.runtime.activations import last_map
from trainer.runtime.encoder import Encoder


def gradcam(encoder: Encoder, pixels: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    """Weigh the channels of the last map by their mean gradient, sum them, drop what speaks against.

    Args:
        encoder: whose image tower is looked into.
        pixels: (n, channels, size, size), as `Encoder.inputs` makes them.
        texts: (p, dim) unit rows.

    Returns:
        (n, p, gh, gw), at least 0.
    """
    held = last_map(encoder.model, pixels)
    weights = held.gradients(texts).mean(dim=(2, 3))
    return torch.einsum("npc,nhwc->nphw", weights, held.grid).clamp(min=0)
