"""gScoreCAM (Chen et al., ACCV 2022): channels weighed by what the picture says through each of them alone.

Of the last map those channels count whose mean gradient is largest. Each is scaled to [0, 1], laid over the
picture as a mask, and scored by the masked picture's cosine with the text; the map is their sum, weighed by
the softmax of the scores in the encoder's own scale.

Scored one by one, that is hundreds of forward passes a text. But the score of a mask is a smooth function of
the mask, and a map has only so many cells: a few masks, spread over those of the channels that count for any
of the texts and more among those that vary more, tell the rest by Gaussian-process regression. So all texts
about a picture share the passes. `benchmarks.saliency` compares with the plain loop over the same channels.
"""

import torch
import torch.nn.functional as F

from trainer.runtime.activations import last_map
from trainer.runtime.device import quick_precision
from trainer.runtime.encoder import Encoder

CHANNELS = 300
"""Channels of a convolutional or windowed trunk that count for a text."""
TOKEN_CHANNELS = 100
"""The same in a plain transformer, where fewer channels serve better."""
SCORED = 48
"""Masks that are scored by a forward pass; the others' scores are told from theirs."""
_WIDTH = 1.5  # of the kernel, in median distances between masks
_NOISE = 1e-3  # of the regression, against the kernel's own 1
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
    # One by one: beside others the last digits of a picture differ, and with them which masks are chosen.
    return torch.stack([_of_one(encoder, picture, texts) for picture in pixels])


def _of_one(encoder: Encoder, picture: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    """(p, gh, gw) maps of a (channels, size, size) picture."""
    held = last_map(encoder.model, picture[None])
    [ranks] = held.gradients(texts).mean(dim=(2, 3))
    channels = held.grid[0].permute(2, 0, 1)
    most = TOKEN_CHANNELS if held.activations.ndim == 3 else CHANNELS
    first = ranks.topk(min(most, len(channels)), dim=1).indices
    counting = first.unique()
    scores = torch.zeros_like(ranks)
    scores[:, counting] = _scores(encoder, picture, channels[counting], texts)
    return torch.stack([_combine(channels, s, f) for s, f in zip(scores, first, strict=True)])


def as_masks(channels: torch.Tensor) -> torch.Tensor:
    """(c, gh, gw) channels, each scaled to [0, 1] by its least and largest value."""
    low = channels.amin(dim=(1, 2), keepdim=True)
    reach = channels.amax(dim=(1, 2), keepdim=True) - low
    return (channels - low) / reach.clamp(min=1e-12)


def score_masks(
    encoder: Encoder,
    picture: torch.Tensor,
    masks: torch.Tensor,
    texts: torch.Tensor,
    precision: torch.dtype = torch.float32,
) -> torch.Tensor:
    """(p, m) scaled cosines of one picture, masked by each of (m, gh, gw), with texts."""
    quick = torch.autocast(picture.device.type, precision, enabled=precision != torch.float32)
    scale = encoder.model.logit_scale.exp()  # type: ignore[operator]
    rows = []
    with torch.inference_mode():
        for start in range(0, len(masks), _BATCH):
            some = masks[start : start + _BATCH, None]
            over = F.interpolate(some, picture.shape[1:], mode="bilinear", align_corners=False)
            with quick:
                vectors = encoder.model.encode_image(picture * over)  # type: ignore[operator]
            rows.append(F.normalize(vectors.float(), dim=-1) @ texts.T)
    return scale * torch.cat(rows).T


def _scores(
    encoder: Encoder, picture: torch.Tensor, channels: torch.Tensor, texts: torch.Tensor
) -> torch.Tensor:
    """(p, c) scores of (c, gh, gw) channels as masks, `SCORED` of them measured."""
    masks = as_masks(channels)
    if len(masks) <= SCORED:
        return score_masks(encoder, picture, masks, texts)
    kernel = alikeness(masks.flatten(1))
    chosen = spread(kernel, channels.flatten(1).std(dim=1), SCORED)
    measured = score_masks(encoder, picture, masks[chosen], texts, quick_precision(encoder.device))
    return tell(kernel, chosen, measured)


def alikeness(points: torch.Tensor) -> torch.Tensor:
    """(c, c) float64: how much the value at one of (c, d) points says of that at another, 1 at itself.

    The Matérn 5/2 kernel, whose width is `_WIDTH` times the points' median distance.
    """
    squared = torch.cdist(points.double(), points.double()).square()
    reach = (5 * squared / squared.median().clamp(min=1e-12)).sqrt() / _WIDTH
    return (1 + reach + reach.square() / 3) * torch.exp(-reach)


def spread(kernel: torch.Tensor, strengths: torch.Tensor, count: int) -> torch.Tensor:
    """Choose points that tell most of all others.

    Greedily the one with the most left to tell after those before it (pivoted Cholesky).

    Args:
        kernel: (c, c), as `alikeness` makes it.
        strengths: (c,) above 0; how much it matters to be right about each.
        count: how many to choose, fewer than c.

    Returns:
        (count,) places of the chosen.
    """
    factor = kernel.new_zeros(len(kernel), count)
    left = kernel.diagonal().clone()
    weights = strengths.to(kernel).square()
    chosen: list[int] = []
    for step in range(count):
        at = int((left * weights).argmax())
        chosen.append(at)
        column = kernel[:, at] - factor[:, :step] @ factor[at, :step]
        factor[:, step] = column / left[at].clamp(min=1e-12).sqrt()
        left = (left - factor[:, step].square()).clamp(min=0)
        left[at] = 0
    return torch.tensor(chosen, device=kernel.device)


def tell(kernel: torch.Tensor, chosen: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """(p, c): what (p, m) values at the (m,) chosen points tell of all, around their generalised mean.

    At the chosen points it is what was measured there.
    """
    held = values.to(kernel)
    among = kernel[chosen][:, chosen] + _NOISE * torch.eye(
        len(chosen), dtype=kernel.dtype, device=kernel.device
    )
    solved = torch.linalg.solve(among, torch.cat([torch.ones_like(held[:1]), held]).T)
    mean = solved[:, 1:].sum(dim=0) / solved[:, 0].sum()
    told = mean[:, None] + (solved[:, 1:] - solved[:, :1] * mean).T @ kernel[chosen]
    told[:, chosen] = held
    found: torch.Tensor = told.to(values)
    return found


def _combine(channels: torch.Tensor, scores: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
    """(gh, gw): the channels that count, weighed by the softmax of their scores."""
    return torch.einsum("c,chw->hw", scores[first].softmax(dim=0), channels[first]).clamp(min=0)
