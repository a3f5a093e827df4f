"""A timm image trunk taken apart, and its activations as maps, whatever family it is of.

Convolutional trunks hand out (n, c, h, w), windowed transformers (n, h, w, c), plain ones (n, tokens, c)
with tokens before the patches that stand for no place. What looks into a trunk needs one form.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

_STEM_FIRST = ("conv_stem", "bn1")  # EfficientNet and MobileNet families
_AFTER_BLOCKS = ("conv_head", "bn2")
_RESNET = ("conv1", "bn1", "act1", "maxpool")


@dataclass(frozen=True, slots=True)
class TrunkParts:
    """The modules that a trunk's `forward_features` runs one after the other."""

    stem: tuple[nn.Module, ...]
    blocks: tuple[nn.Module, ...]
    after: tuple[nn.Module, ...]


def take_apart(trunk: Any) -> TrunkParts | None:
    """Stem, blocks, and what follows them, in the order of `forward_features`; None for an unknown family.

    A trunk of a known family may still run them otherwise: `runs_in_line` tells.
    """
    if all(hasattr(trunk, name) for name in (*_STEM_FIRST, "blocks")):
        after = [getattr(trunk, name) for name in _AFTER_BLOCKS if hasattr(trunk, name)]
        return TrunkParts(
            (trunk.conv_stem, trunk.bn1), tuple(trunk.blocks), tuple(after) if len(after) == 2 else ()
        )
    if all(hasattr(trunk, name) for name in (*_RESNET, "layer4")):
        stem = tuple(getattr(trunk, name) for name in _RESNET)
        return TrunkParts(stem, (trunk.layer1, trunk.layer2, trunk.layer3, trunk.layer4), ())
    if hasattr(trunk, "stem") and hasattr(trunk, "stages"):
        after = [trunk.norm_pre] if hasattr(trunk, "norm_pre") else []
        return TrunkParts((trunk.stem,), tuple(trunk.stages), tuple(after))
    if hasattr(trunk, "patch_embed") and hasattr(trunk, "layers"):
        return TrunkParts((trunk.patch_embed,), tuple(trunk.layers), (trunk.norm,))
    if all(hasattr(trunk, name) for name in ("patch_embed", "_pos_embed", "norm_pre", "blocks")):
        return TrunkParts((_TokenStem(trunk),), tuple(trunk.blocks), (trunk.norm,))
    return None


class _TokenStem(nn.Module):
    """From pixels to the tokens that a plain transformer's first block takes."""

    def __init__(self, trunk: Any) -> None:
        super().__init__()
        self.patch_embed = trunk.patch_embed
        self.norm_pre = trunk.norm_pre
        self._embed = [trunk]  # in a list: its parameters belong to the model, not to this view of it

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        tokens: torch.Tensor = self.norm_pre(self._embed[0]._pos_embed(self.patch_embed(pixels)))
        return tokens


def runs_in_line(trunk: Any, modules: nn.Module, image_size: int) -> bool:
    """Whether modules, run in a line, give a trunk's own features of a random picture."""
    was_training = trunk.training
    trunk.eval()
    with torch.no_grad():
        probe = torch.rand(1, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
        probe = probe.to(next(trunk.parameters()).device)
        same = torch.allclose(modules(probe), trunk.forward_features(probe), atol=1e-5)
    trunk.train(was_training)
    return same


def channels_last(trunk: Any) -> bool:
    """Whether four-dimensional activations of a trunk are (n, h, w, c)."""
    return getattr(trunk, "output_fmt", "NCHW") == "NHWC"


def place_dimensions(trunk: Any, activations: torch.Tensor) -> tuple[int, ...]:
    """The dimensions of activations along which one channel has its places, tokens of no place included."""
    if activations.ndim == 3:
        return (1,)
    return (1, 2) if channels_last(trunk) else (2, 3)


def prefix_tokens(trunk: Any) -> int:
    """How many tokens stand before the patches in three-dimensional activations."""
    return int(getattr(trunk, "num_prefix_tokens", 1))


def as_grid(trunk: Any, activations: torch.Tensor) -> torch.Tensor | None:
    """Activations as (n, gh, gw, channels), tokens of no place left out.

    None where they have no places: neither a map, nor as many tokens as the trunk's grid has.
    """
    if activations.ndim == 4:
        return activations if channels_last(trunk) else activations.permute(0, 2, 3, 1)
    if activations.ndim != 3:
        return None
    patches = activations[:, prefix_tokens(trunk) :]
    n, count, channels = patches.shape
    height, width = getattr(getattr(trunk, "patch_embed", None), "grid_size", (0, 0))
    if height * width != count:  # a trunk that takes pictures of several sizes; ours are square
        height = width = round(count**0.5)
    return patches.reshape(n, height, width, channels) if height * width == count else None
