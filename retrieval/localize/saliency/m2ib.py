"""M2IB: what of a layer a picture needs to keep to stay near its text (arXiv 2312.17174, MedCLIP-SAM v2).

Behind a layer, each activation x becomes λx + (1−λ)ε with ε drawn from that channel's own distribution over
the picture; λ = sigmoid(α) is learned per activation so that the noisy picture's cosine with the text stays
high while as little as possible passes. What still passes is the map. A seed fixes the noise, and every
picture and text meets the same, so that a map is the same alone or in any batch.
"""

import torch

from trainer.runtime.activations import PartedTower, part_tower
from trainer.runtime.encoder import Encoder

BETA = 0.1
"""Weight of what passes against the likeness; published settings go from 0.1 to 2."""
STEPS = 10
COPIES = 10
"""Noisy copies of which the mean likeness is taken."""
_RATE = 1.0
_START = 5.0  # α: nearly everything passes
_SEED = 0


def m2ib(encoder: Encoder, pixels: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    """Learn a bottleneck for each picture and text.

    Args:
        encoder: whose image tower is looked into.
        pixels: (n, channels, size, size), as `Encoder.inputs` makes them.
        texts: (p, dim) unit rows.

    Returns:
        (n, p, gh, gw) information that passes at each place, in nats, at least 0.

    Raises:
        EncoderError: the trunk's layers cannot be run one by one.
    """
    tower = part_tower(encoder.model, encoder.image_size)
    held = tower.activations(pixels)
    with torch.enable_grad():
        return torch.stack([_learn(tower, one[None], texts) for one in held])


def _learn(tower: PartedTower, activations: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    """(p, gh, gw) of one picture; `activations` (1, …) in the trunk's layout."""
    places = tower.place_dimensions(activations)
    mean = activations.mean(dim=places, keepdim=True)
    deviation = activations.std(dim=places, keepdim=True).clamp(min=1e-6)
    standard = (activations - mean) / deviation
    alpha = torch.full((len(texts), *activations.shape[1:]), _START, device=texts.device, requires_grad=True)
    adam = torch.optim.Adam([alpha], lr=_RATE)
    random = torch.Generator().manual_seed(_SEED)
    for _ in range(STEPS):
        noise = torch.randn((COPIES, *activations.shape[1:]), generator=random).to(activations.device)
        kept = torch.sigmoid(alpha)
        noisy = kept[:, None] * activations + (1 - kept[:, None]) * (mean + deviation * noise)
        vectors = tower.vectors(noisy.flatten(0, 1)).view(len(texts), COPIES, -1)
        likeness = torch.einsum("pcd,pd->p", vectors, texts) / COPIES
        passing = _information(kept, standard).flatten(1).mean(dim=1)
        adam.zero_grad()
        # Each text has an α of its own, so that the sum parts into them.
        (BETA * passing - likeness).sum().backward()  # type: ignore[no-untyped-call]
        adam.step()
    with torch.no_grad():
        return tower.grid(_information(torch.sigmoid(alpha), standard)).sum(dim=-1)


def _information(kept: torch.Tensor, standard: torch.Tensor) -> torch.Tensor:
    """KL divergence of what passes from pure noise, in nats, by activation.

    Of N(λx + (1−λ)μ, ((1−λ)σ)²) from N(μ, σ²), with x standardised.
    """
    variance = (1 - kept).square().clamp(min=1e-12)
    return 0.5 * (variance + (kept * standard).square() - 1 - variance.log())
