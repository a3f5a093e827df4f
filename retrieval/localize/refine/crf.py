"""A dense conditional random field: aligns a map's mask with the edges of the image (arXiv 1210.5644).

Every pixel is connected to every other: to near ones, and to those that are near and similarly bright. The
sums over all pixels are exact; a map is far coarser than its image, so they run over a reduced image.
"""

import torch
import torch.nn.functional as F

SIDE = 64
"""Pixels along the longer side that the field is solved on: 4,096² connections at most."""
FRAME = 224.0
"""Pixels of the longer side that the widths below refer to."""
_EPSILON = 1e-8
_TAU = 1.05
_NEAR, _NEAR_WEIGHT = 3.0, 3.0  # sxy and compatibility of the smoothness kernel
_FAR, _FAR_GREY, _FAR_WEIGHT = 60.0, 5.0, 5.0  # sxy, srgb (of 255) and compatibility of the appearance kernel
_CHANNELS = 3  # grey counts as three equal channels, as in the source of these widths


def refine_maps(image: torch.Tensor, maps: torch.Tensor, steps: int = 1) -> torch.Tensor:
    """Return mean-field probabilities of being inside, for several maps of one image at once.

    Args:
        image: (height, width) grey in [0, 1].
        maps: (p, height, width) in [0, 1].
        steps: of the mean field; one, as in MedCLIP-SAM.

    Returns:
        (p, height, width) in [0, 1].
    """
    height, width = image.shape
    scale = min(1.0, SIDE / max(height, width))
    size = max(1, round(height * scale)), max(1, round(width * scale))
    small = _resize(torch.cat([image[None], maps]), size)
    inside = mean_field(small[0], small[1:], steps, FRAME / max(height, width) / scale)
    return _resize(inside, (height, width)).clamp(0, 1)


def mean_field(image: torch.Tensor, maps: torch.Tensor, steps: int, pixel: float) -> torch.Tensor:
    """The same at the image's own size; a pixel's side is `pixel` in the unit of the widths."""
    unary = _unary(maps.flatten(1))
    kernels = _kernels(image, pixel)
    beliefs = torch.softmax(-unary, dim=0)
    for _ in range(steps):
        beliefs = torch.softmax(beliefs @ kernels - unary, dim=0)  # Potts model
    return beliefs[0].view_as(maps)


def _unary(maps: torch.Tensor) -> torch.Tensor:
    """(2, p, n): cost of being inside and outside, −log(a + ε) / (τ · sigmoid(a)) and the same on 1 − a."""
    both = torch.stack([maps, 1 - maps])
    return -torch.log(both + _EPSILON) / (_TAU * torch.sigmoid(both))


def _kernels(image: torch.Tensor, pixel: float) -> torch.Tensor:
    """(n, n), both kernels, each normalised on both sides (as pydensecrf does), times its compatibility."""
    rows, columns = torch.meshgrid(
        *(torch.arange(side, dtype=torch.float32, device=image.device) * pixel for side in image.shape),
        indexing="ij",
    )
    position = torch.stack([rows, columns], dim=-1).flatten(0, 1)
    grey = image.float().reshape(-1, 1) * (255 * _CHANNELS**0.5)
    smoothness = _normalised(position / _NEAR)
    appearance = _normalised(torch.cat([position / _FAR, grey / _FAR_GREY], dim=1))
    return _NEAR_WEIGHT * smoothness + _FAR_WEIGHT * appearance


def _normalised(features: torch.Tensor) -> torch.Tensor:
    kernel = torch.exp(-0.5 * torch.cdist(features, features).square())
    root = kernel.sum(dim=1).rsqrt()
    return root[:, None] * kernel * root[None, :]


def _resize(planes: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """(k, height, width) planes to another size, averaging on the way down."""
    return F.interpolate(planes[None].float(), size, mode="bilinear", align_corners=False, antialias=True)[0]
