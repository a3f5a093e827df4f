"""An image backbone that joins several levels of a network and reads them with a small layer of its own.

The last layer of a network that was trained on photographs describes objects. The levels in its middle
describe texture, and distinguish findings of a radiograph better. `MultiLevel` brings the levels of a timm
network to one grid and joins them; a layer over each patch, the neck, follows. Neck and projection are all
that is learned where the network is frozen.

Importing this module registers the backbone with timm as `similarity_multilevel`. Plain open_clip builds an
encoder with it where this module was imported before.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.models import register_model
from torch import nn

from corpus.errors import EncoderError

NAME = "similarity_multilevel"

_LEAST_DEVIATION = 1e-3  # of the mean deviation: a nearly constant channel is not amplified


class Levels(nn.Module):
    """The levels of a timm network, joined on one grid.

    Args:
        network: name of the timm network.
        levels: indices of its levels, rising, in the order of timm's `feature_info`; each is coarser than the
            one before (strides 2, 4, 8, 16, 32 in the MobileNet and EfficientNet families).
        grid: which of `levels` gives the grid; finer ones are averaged to it, coarser ones interpolated.

    `network`: without the parts after its last level.
    `channels`: of all levels together.

    Raises:
        EncoderError: there is no such network or level.
    """

    def __init__(self, network: str, levels: Sequence[int], grid: int) -> None:
        super().__init__()
        if list(levels) != sorted(set(levels)) or grid not in levels:
            raise EncoderError(
                f"levels must rise and contain the grid; {list(levels)} with the grid {grid} do not"
            )
        try:
            self.network: Any = timm.create_model(
                network, pretrained=False, features_only=True, out_indices=tuple(levels)
            )
        except (RuntimeError, AttributeError, IndexError, AssertionError) as error:
            raise EncoderError(
                f"timm gives no levels {list(levels)} of a network {network!r}: {error}"
            ) from error
        self.channels = sum(self.network.feature_info.channels())
        self._grid = list(levels).index(grid)
        self._last = str(getattr(self.network, "output_fmt", "NCHW")).endswith("NHWC")

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(n, 3, height, width) normalised pixels → (n, channels, gh, gw)."""
        maps = [level.permute(0, 3, 1, 2) if self._last else level for level in self.network(pixels)]
        height, width = maps[self._grid].shape[2:]
        return torch.cat([_to_grid(level, height, width) for level in maps], dim=1)

    def load_published(self, state: Mapping[str, torch.Tensor]) -> None:
        """Load a network's published weights, without those of the parts after the last level.

        Raises:
            EncoderError: weights of a level are missing or misshaped; names one.
        """
        own = self.network.state_dict()
        wrong = [name for name, value in own.items() if name not in state or state[name].shape != value.shape]
        if wrong:
            raise EncoderError(
                f"{len(wrong)} weights of its levels are missing or misshaped, such as {wrong[0]}"
            )
        self.network.load_state_dict({name: state[name] for name in own})


def _to_grid(level: torch.Tensor, height: int, width: int) -> torch.Tensor:
    if level.shape[2] > height:
        return F.adaptive_avg_pool2d(level, (height, width))
    if level.shape[2] < height:
        return F.interpolate(level, size=(height, width), mode="bilinear", align_corners=False)
    return level


class Neck(nn.Module):
    """A layer over each patch: standardise its channels, project them linearly, GELU.

    Args:
        channels: of the joined levels.
        hidden: channels of its output.
        drop: dropout of its output while training.
        constant: add a last channel that is 1 everywhere. The projection after the neck has no bias; through
            this channel a vector gets a part that no patch changes, and its cosine with a text grows with the
            patch's evidence instead of depending on its direction alone.

    `mean`, `deviation`: (channels,) of the training images, see `standardise`.
    """

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, channels: int, hidden: int, drop: float, constant: bool = False) -> None:
        super().__init__()
        self.constant = constant
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("deviation", torch.ones(channels))
        self.project = nn.Conv2d(channels, hidden, 1)
        self.drop = nn.Dropout(drop)

    def forward(self, levels: torch.Tensor) -> torch.Tensor:
        """(n, channels, gh, gw) → (n, hidden, gh, gw), with the constant channel one more."""
        standard = (levels - self.mean.view(1, -1, 1, 1)) / self.deviation.view(1, -1, 1, 1)
        features: torch.Tensor = self.drop(F.gelu(self.project(standard)))
        return torch.cat([features, torch.ones_like(features[:, :1])], dim=1) if self.constant else features

    @property
    def standardised(self) -> bool:
        """Whether mean and deviation were set."""
        return bool((self.mean != 0).any())

    def standardise(self, levels: Iterable[torch.Tensor]) -> None:
        """Set mean and deviation of each channel.

        Args:
            levels: (n, channels, gh, gw) of some training images each, at least one.
        """
        count = 0
        sums, squares = (torch.zeros(len(self.mean), dtype=torch.float64) for _ in range(2))
        for some in levels:
            values = some.cpu().double()
            count += values.numel() // values.shape[1]
            sums += values.sum(dim=(0, 2, 3))
            squares += values.square().sum(dim=(0, 2, 3))
        mean = sums / count
        deviation = (squares / count - mean.square()).clamp(min=0).sqrt()
        self.mean.copy_(mean)
        self.deviation.copy_(deviation.clamp(min=_LEAST_DEVIATION * float(deviation.mean())))


class MultiLevel(nn.Module):
    """A timm backbone over several levels of another.

    Args:
        network, levels, grid: as `Levels` takes them.
        hidden: width of the neck; 0: there is none, and the feature map is the joined levels.
        drop: dropout of the neck while training.
        constant: whether the neck adds a constant channel, see `Neck`.

    Raises:
        EncoderError: as `Levels`; or a constant channel is wanted without a neck.
    """

    def __init__(
        self,
        network: str,
        levels: Sequence[int],
        grid: int,
        hidden: int = 0,
        drop: float = 0.0,
        constant: bool = False,
    ) -> None:
        super().__init__()
        if constant and not hidden:
            raise EncoderError("a constant channel needs a neck: set hidden above 0")
        self.levels = Levels(network, levels, grid)
        channels = self.levels.channels
        self.neck: Neck | nn.Identity = Neck(channels, hidden, drop, constant) if hidden else nn.Identity()
        self.num_features = hidden + constant or channels
        self.default_cfg: dict[str, Any] = {}

    def forward_features(self, pixels: torch.Tensor) -> torch.Tensor:
        """(n, 3, height, width) normalised pixels → (n, num_features, gh, gw)."""
        features: torch.Tensor = self.neck(self.levels(pixels))
        return features

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:
        """(n, num_features, gh, gw) → (n, num_features), the mean over patches."""
        return features.mean(dim=(2, 3))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(n, 3, height, width) → (n, num_features)."""
        return self.forward_head(self.forward_features(pixels))

    def reset_classifier(self, num_classes: int, global_pool: str = "avg") -> None:
        """Answer timm's call; there is no classifier to reset.

        Raises:
            EncoderError: a classifier or another pooling than the mean is wanted.
        """
        if num_classes or global_pool != "avg":
            raise EncoderError(f"{NAME} has no classifier and averages its patches: set timm_pool to avg")


@register_model  # type: ignore[untyped-decorator]
def similarity_multilevel(
    pretrained: bool = False,
    *,
    network: str,
    levels: Sequence[int],
    grid: int,
    hidden: int = 0,
    drop: float = 0.0,
    constant: bool = False,
    **_unused: Any,  # timm passes what it knows of a published network
) -> MultiLevel:
    """Build a `MultiLevel` for timm. There are no published weights: `pretrained` must be false."""
    if pretrained:
        raise EncoderError(f"{NAME} has no published weights")
    return MultiLevel(network, levels, grid, hidden, drop, constant)
