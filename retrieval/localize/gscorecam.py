"""gScoreCAM (Chen et al., ACCV 2022): channels weighed by what the picture says through each of them alone.

Of the last map those channels count whose mean gradient is largest. Each is scaled to [0, 1], laid over the
picture as a mask, and scored by the masked picture's cosine with the text; the map is their sum, weighed by
the softmax of the scores in the encoder's own scale.

Scored one by one, that is hundreds of forward passes a text. But the score of a mask is a smooth function of
the mask, and a map has only so many cells: a few masks, spread over those of the channels that count for any
of the texts, tell the rest by Gaussian-process regression. So all texts about a picture share one pass.
`benchmarks.saliency` compares with the plain loop over the same channels.
"""

import torch
import torch.nn.functional as F

from trainer.activations import last_map
from trainer.encoder import Encoder

CHANNELS = 300
"""Channels of a convolutional or windowed trunk that count for a text."""
TOKEN_CHANNELS = 100
"""The same in a plain transformer, where fewer channels serve better."""
SCORED = 32
"""Masks that are scored by a forward pass; the others' scores are told from theirs."""
_WIDTH = 1.5  # of the kernel, in median distances between masks
_NOISE = 5e-4  # of the regression, against the kernel's own 1
_BATCH = 8  # masked pictures that go through the network at once


def gscorecam(encoder: Encoder, pixels: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    """Weigh the channels of the last map by the scores of their masks.

    Args:
        encoder: whose image tower is looked into.
        pixels: (n, channels, size, size), as `Encoder.inputs` makes them.
        texts: (p, dim) unit rows.

    Returns:
        (n, p, gh, gw), at least 0.
    """
    held = last_map(encoder.model, pixels)
    gradients = held.gradients(texts).mean(dim=(2, 3))
    most = TOKEN_CHANNELS if held.activations.ndim == 3 else CHANNELS
    maps = []
    for picture, grid, ranks in zip(pixels, held.grid, gradients, strict=True):
        channels = grid.permute(2, 0, 1)
        first = ranks.topk(min(most, len(channels)), dim=1).indices
        counting = first.unique()
        scores = torch.zeros_like(ranks)
        scores[:, counting] = _scores(encoder, picture, as_masks(channels[counting]), texts)
        maps.append(torch.stack([_combine(channels, s, f) for s, f in zip(scores, first, strict=True)]))
    return torch.stack(maps)


def as_masks(channels: torch.Tensor) -> torch.Tensor:
    """(c, gh, gw) channels, each scaled to [0, 1] by its least and largest value."""
    low = channels.amin(dim=(1, 2), keepdim=True)
    reach = channels.amax(dim=(1, 2), keepdim=True) - low
    return (channels - low) / reach.clamp(min=1e-12)


def score_masks(
    encoder: Encoder, picture: torch.Tensor, masks: torch.Tensor, texts: torch.Tensor
) -> torch.Tensor:
    """(p, m) scaled cosines of one picture, masked by each of (m, gh, gw), with texts."""
    scale = encoder.model.logit_scale.exp()  # type: ignore[operator]
    rows = []
    with torch.inference_mode():
        for start in range(0, len(masks), _BATCH):
            some = masks[start : start + _BATCH, None]
            over = F.interpolate(some, picture.shape[1:], mode="bilinear", align_corners=False)
            vectors = encoder.model.encode_image(picture * over)  # type: ignore[operator]
            rows.append(F.normalize(vectors.float(), dim=-1) @ texts.T)
    return scale * torch.cat(rows).T


def _scores(
    encoder: Encoder, picture: torch.Tensor, masks: torch.Tensor, texts: torch.Tensor
) -> torch.Tensor:
    """(p, c) scores of every mask, those of `SCORED` of them measured."""
    if len(masks) <= SCORED:
        return score_masks(encoder, picture, masks, texts)
    chosen, weights = spread(masks.flatten(1), SCORED)
    measured = score_masks(encoder, picture, masks[chosen], texts)
    mean = measured.mean(dim=1, keepdim=True)
    return mean + (measured - mean) @ weights.T


def spread(points: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Choose points that tell most of all others, and how each is told from them.

    Greedily the one with the largest variance left by those before it (pivoted Cholesky), under a Gaussian
    kernel whose width is `_WIDTH` times the points' median distance.

    Args:
        points: (c, d).
        count: how many to choose, fewer than c.

    Returns:
        (count,) places of the chosen, and (c, count) weights of their values in each point's.
    """
    points = points.double()
    squared = torch.cdist(points, points).square()
    kernel = torch.exp(-squared / (2 * _WIDTH**2 * squared.median().clamp(min=1e-12)))
    factor = torch.zeros(len(points), count, dtype=points.dtype, device=points.device)
    left = torch.ones(len(points), dtype=points.dtype, device=points.device)
    chosen: list[int] = []
    for step in range(count):
        at = int(left.argmax())
        chosen.append(at)
        column = kernel[:, at] - factor[:, :step] @ factor[at, :step]
        factor[:, step] = column / left[at].clamp(min=1e-12).sqrt()
        left = (left - factor[:, step].square()).clamp(min=0)
        left[at] = 0
    among = kernel[chosen][:, chosen] + _NOISE * torch.eye(count, dtype=points.dtype, device=points.device)
    weights = torch.linalg.solve(among, kernel[chosen]).T
    return torch.tensor(chosen, device=points.device), weights.float()


def _combine(channels: torch.Tensor, scores: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
    """(gh, gw): the channels that count, weighed by the softmax of their scores."""
    return torch.einsum("c,chw->hw", scores[first].softmax(dim=0), channels[first]).clamp(min=0)
