"""M2IB: the information of a layer that keeps an image near its text (arXiv 2312.17174, MedCLIP-SAM v2).

Behind a layer, each activation x becomes λx + (1−λ)ε with ε drawn from that channel's own distribution over
the image; λ = sigmoid(α) is learned per activation so that the noisy image's cosine with the text stays high
while as little information as possible passes. The information that still passes is the map. A seed fixes the
noise, which is the same for every image and text, so that a map is the same alone or in any batch.
"""

import torch

from trainer.runtime.activations import PartedTower, part_tower
from trainer.runtime.encoder import Encoder

BETA = 0.1
"""Weight of the information against the cosine; published settings go from 0.1 to 2."""
STEPS = 10
COPIES = 10
"""Noisy copies over which the cosine is averaged."""
_RATE = 1.0
_START = 5.0  # α: nearly everything passes
_SEED = 0


def m2ib(encoder: Encoder, pixels: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    """Learn a bottleneck for each image and text.

    Args:
        encoder: its image tower makes the maps.
        pixels: (n, channels, size, size), as `Encoder.inputs` makes them.
        texts: (p, dim) unit rows.

    Returns:
        (n, p, gh, gw) information that passes at each position, in nats, at least 0.

    Raises:
        EncoderError: the backbone's layers cannot be run one by one.
    """
    tower = part_tower(encoder.model, encoder.image_size)
    activations = tower.activations(pixels)
    with torch.enable_grad():
        return torch.stack([_learn(tower, one[None], texts) for one in activations])


def _learn(tower: PartedTower, activations: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    """(p, gh, gw) of one image; `activations` (1, …) in the backbone's layout."""
    positions = tower.spatial_dimensions(activations)
    mean = activations.mean(dim=positions, keepdim=True)
    deviation = activations.std(dim=positions, keepdim=True).clamp(min=1e-6)
    standard = (activations - mean) / deviation
    alpha = torch.full((len(texts), *activations.shape[1:]), _START, device=texts.device, requires_grad=True)
    adam = torch.optim.Adam([alpha], lr=_RATE)
    random = torch.Generator().manual_seed(_SEED)
    for _ in range(STEPS):
        noise = torch.randn((COPIES, *activations.shape[1:]), generator=random).to(activations.device)
        passed = torch.sigmoid(alpha)
        noisy = passed[:, None] * activations + (1 - passed[:, None]) * (mean + deviation * noise)
        vectors = tower.vectors(noisy.flatten(0, 1)).view(len(texts), COPIES, -1)
        cosine = torch.einsum("pcd,pd->p", vectors, texts) / COPIES
        information = _information(passed, standard).flatten(1).mean(dim=1)
        adam.zero_grad()
        # Each text has an α of its own, so that the gradients of the sum are separate.
        (BETA * information - cosine).sum().backward()  # type: ignore[no-untyped-call]
        adam.step()
    with torch.no_grad():
        return tower.grid(_information(torch.sigmoid(alpha), standard)).sum(dim=-1)


def _information(passed: torch.Tensor, standard: torch.Tensor) -> torch.Tensor:
    """KL divergence of the noisy activation from pure noise, in nats, by activation.

    Of N(λx + (1−λ)μ, ((1−λ)σ)²) from N(μ, σ²), with x standardised.
    """
    variance = (1 - passed).square().clamp(min=1e-12)
    return 0.5 * (variance + (passed * standard).square() - 1 - variance.log())
