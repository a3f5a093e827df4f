"""gScoreCAM (Chen et al., ACCV 2022): channels weighed by the score of the image masked by each of them.

The channels of the last map with the largest mean gradients are used. Each is scaled to [0, 1], laid over the
image as a mask, and scored by the masked image's cosine with the text; the map is their sum, weighed by the
softmax of the scores in the encoder's own scale.

Scored one by one, that is hundreds of forward passes per text. The score of a mask is a smooth function of
the mask, and a map has few cells: the scores of a few masks, spread over the channels that are used for any
of the texts and denser among those that vary more, predict the rest by Gaussian-process regression. All texts
about an image share the passes. `benchmarks.saliency` compares with the plain loop over the same channels.
"""

import torch
import torch.nn.functional as F

from trainer.runtime.activations import last_map
from trainer.runtime.device import quick_precision
from trainer.runtime.encoder import Encoder

CHANNELS = 300
"""Channels of a convolutional or windowed backbone that are used for a text."""
TOKEN_CHANNELS = 100
"""The same in a plain transformer, where fewer channels work better."""
SCORED = 48
"""Masks that are scored by a forward pass; the scores of the others are predicted."""
_WIDTH = 1.5  # of the kernel, in median distances between masks
_NOISE = 1e-3  # of the regression, against the kernel's own 1
_BATCH = 8  # masked images that go through the network at once


def gscorecam(encoder: Encoder, pixels: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    """Return maps: the channels of the last map, weighed by the scores of their masks.

    Args:
        encoder: its image tower makes the maps.
        pixels: (n, channels, size, size), as `Encoder.inputs` makes them.
        texts: (p, dim) unit rows.

    Returns:
        (n, p, gh, gw), at least 0.
    """
    # One by one: in a batch the last digits of an image differ, and with them the choice of masks.
    return torch.stack([_of_one(encoder, image, texts) for image in pixels])


def _of_one(encoder: Encoder, image: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    """(p, gh, gw) maps of a (channels, size, size) image."""
    last = last_map(encoder.model, image[None])
    [ranks] = last.gradients(texts).mean(dim=(2, 3))
    channels = last.grid[0].permute(2, 0, 1)
    most = TOKEN_CHANNELS if last.activations.ndim == 3 else CHANNELS
    first = ranks.topk(min(most, len(channels)), dim=1).indices
    used = first.unique()
    scores = torch.zeros_like(ranks)
    scores[:, used] = _scores(encoder, image, channels[used], texts)
    return torch.stack([_combine(channels, s, f) for s, f in zip(scores, first, strict=True)])


def as_masks(channels: torch.Tensor) -> torch.Tensor:
    """(c, gh, gw) channels, each scaled to [0, 1] by its minimum and maximum."""
    low = channels.amin(dim=(1, 2), keepdim=True)
    reach = channels.amax(dim=(1, 2), keepdim=True) - low
    return (channels - low) / reach.clamp(min=1e-12)


def score_masks(
    encoder: Encoder,
    image: torch.Tensor,
    masks: torch.Tensor,
    texts: torch.Tensor,
    precision: torch.dtype = torch.float32,
) -> torch.Tensor:
    """(p, m) scaled cosines of one image, masked by each of (m, gh, gw), with texts."""
    quick = torch.autocast(image.device.type, precision, enabled=precision != torch.float32)
    scale = encoder.model.logit_scale.exp()  # type: ignore[operator]
    rows = []
    with torch.inference_mode():
        for start in range(0, len(masks), _BATCH):
            some = masks[start : start + _BATCH, None]
            over = F.interpolate(some, image.shape[1:], mode="bilinear", align_corners=False)
            with quick:
                vectors = encoder.model.encode_image(image * over)  # type: ignore[operator]
            rows.append(F.normalize(vectors.float(), dim=-1) @ texts.T)
    return scale * torch.cat(rows).T


def _scores(
    encoder: Encoder, image: torch.Tensor, channels: torch.Tensor, texts: torch.Tensor
) -> torch.Tensor:
    """(p, c) scores of (c, gh, gw) channels as masks, `SCORED` of them measured."""
    masks = as_masks(channels)
    if len(masks) <= SCORED:
        return score_masks(encoder, image, masks, texts)
    kernel = matern_kernel(masks.flatten(1))
    chosen = choose_points(kernel, channels.flatten(1).std(dim=1), SCORED)
    measured = score_masks(encoder, image, masks[chosen], texts, quick_precision(image.device))
    return predict(kernel, chosen, measured)


def matern_kernel(points: torch.Tensor) -> torch.Tensor:
    """(c, c) float64 Matérn 5/2 covariances of the values at (c, d) points, 1 on the diagonal.

    The kernel's width is `_WIDTH` times the points' median distance.
    """
    squared = torch.cdist(points.double(), points.double()).square()
    reach = (5 * squared / squared.median().clamp(min=1e-12)).sqrt() / _WIDTH
    return (1 + reach + reach.square() / 3) * torch.exp(-reach)


def choose_points(kernel: torch.Tensor, strengths: torch.Tensor, count: int) -> torch.Tensor:
    """Choose the points with the values that determine the others best.

    Greedily the point with the largest weighted variance given those before it (pivoted Cholesky).

    Args:
        kernel: (c, c), as `matern_kernel` returns it.
        strengths: (c,) above 0; the weight of an error at each point.
        count: of points to choose, fewer than c.

    Returns:
        (count,) indices of the chosen points.
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


def predict(kernel: torch.Tensor, chosen: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """(p, c) values at all points from (p, m) values at the (m,) chosen ones, by Gaussian-process regression.

    The mean is the generalised least-squares one. At the chosen points the values are returned unchanged.
    """
    measured = values.to(kernel)
    among = kernel[chosen][:, chosen] + _NOISE * torch.eye(
        len(chosen), dtype=kernel.dtype, device=kernel.device
    )
    solved = torch.linalg.solve(among, torch.cat([torch.ones_like(measured[:1]), measured]).T)
    mean = solved[:, 1:].sum(dim=0) / solved[:, 0].sum()
    predicted = mean[:, None] + (solved[:, 1:] - solved[:, :1] * mean).T @ kernel[chosen]
    predicted[:, chosen] = measured
    result: torch.Tensor = predicted.to(values)
    return result


def _combine(channels: torch.Tensor, scores: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
    """(gh, gw): the used channels, weighed by the softmax of their scores."""
    return torch.einsum("c,chw->hw", scores[first].softmax(dim=0), channels[first]).clamp(min=0)
