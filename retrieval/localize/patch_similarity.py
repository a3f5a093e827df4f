"""The fast map: the cosine of each patch with the text, in one forward pass and without gradients."""

import torch
import torch.nn.functional as F

from trainer.encoder import Encoder
from trainer.patches import patch_features


def patch_similarity(encoder: Encoder, pixels: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    """Compare the patches of pictures, in the space of their vectors, with texts.

    Args:
        encoder: whose image tower is looked into.
        pixels: (n, channels, size, size), as `Encoder.inputs` makes them.
        texts: (p, dim) unit rows.

    Returns:
        (n, p, gh, gw) cosines in [-1, 1].
    """
    with torch.inference_mode():
        patches = F.normalize(patch_features(encoder.model, pixels).float(), dim=-1)
        return torch.einsum("nhwd,pd->nphw", patches, texts)
