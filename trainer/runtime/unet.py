"""A residual U-Net small enough to learn on two cores: what the segmenter is.

Encoder and decoder of residual blocks (Zhang et al., IEEE GRSL 15, 2018), one channel out for each structure.
Group normalisation, so that a picture's map does not depend on the pictures beside it. The finest level has
half the picture's resolution: there, three quarters of the work would be done for edges that masks from a
saliency map do not have.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_GROUP = 8  # channels that are normalised together


class ResidualUNet(nn.Module):
    """(n, 1, size, size) grey in [0, 1] to (n, structures, size, size) logits.

    Args:
        structures: channels out.
        width: channels of the first level; each level below has twice as many. A multiple of 8.
        levels: resolutions; the size must be divisible by two to the power of that.
    """

    def __init__(self, structures: int, width: int, levels: int) -> None:
        super().__init__()
        widths = [width << level for level in range(levels)]
        self.stem = nn.Conv2d(1, width, 5, stride=2, padding=2)
        self.down = nn.ModuleList(
            _Block(widths[max(0, level - 1)], widths[level], stride=1 if level == 0 else 2)
            for level in range(levels)
        )
        self.up = nn.ModuleList(
            _Block(widths[level + 1] + widths[level], widths[level]) for level in reversed(range(levels - 1))
        )
        self.head = nn.Conv2d(width, structures, 1)
        with torch.no_grad():
            self.head.bias.fill_(-2.0)  # type: ignore[union-attr]  # most of a picture is none of them

    def forward(self, pixels: Tensor) -> Tensor:
        """Draw each structure."""
        features = self.stem(2 * pixels - 1)
        skipped = []
        for block in self.down:
            features = block(features)
            skipped.append(features)
        skipped.pop()
        for block in self.up:
            beside = skipped.pop()
            larger = F.interpolate(features, beside.shape[-2:], mode="bilinear", align_corners=False)
            features = block(torch.cat([larger, beside], dim=1))
        return F.interpolate(self.head(features), pixels.shape[-2:], mode="bilinear", align_corners=False)


class _Block(nn.Module):
    """Two convolutions and a way around them."""

    def __init__(self, inside: int, outside: int, stride: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(inside, outside, 3, stride, padding=1, bias=False)
        self.first_norm = nn.GroupNorm(outside // _GROUP, outside)
        self.second = nn.Conv2d(outside, outside, 3, padding=1, bias=False)
        self.second_norm = nn.GroupNorm(outside // _GROUP, outside)
        self.around: nn.Module = nn.Identity()
        if inside != outside or stride != 1:
            self.around = nn.Conv2d(inside, outside, 1, stride, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        inner = F.relu(self.first_norm(self.first(features)))
        inner = self.second_norm(self.second(inner))
        return F.relu(inner + self.around(features))
