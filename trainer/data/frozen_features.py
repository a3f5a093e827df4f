"""The frozen part of an image trunk: run once, its activations kept, so that epochs only run the rest.

A trunk is taken apart into the modules its `forward_features` runs one after the other; that their sequence
gives the same features is checked on a random picture before it is relied on.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from corpus.errors import TrainingError
from trainer.runtime.backbone import runs_in_line, take_apart


@dataclass(frozen=True, slots=True)
class SplitTower:
    """An image tower in two parts: `prefix` is frozen, `rest` learns. `rest(prefix(x))` is the tower.

    `map(prefix(x))` is what its trunk gives before pooling.
    """

    prefix: nn.Module
    rest: nn.Module
    map: Callable[[torch.Tensor], torch.Tensor]


class _Rest(nn.Module):
    """The trainable blocks of a trunk, its pooling, and the projection."""

    def __init__(self, blocks: nn.Sequential, visual: nn.Module, recompute: bool) -> None:
        super().__init__()
        self.blocks = blocks
        self.recompute = recompute
        self._visual = [visual]  # in a list: its parameters belong to the model, not to this view of it

    def forward(self, activations: torch.Tensor) -> torch.Tensor:
        """(n, …) activations → (n, dim) features."""
        visual: Any = self._visual[0]
        features: torch.Tensor = visual.head(visual.trunk.forward_head(self.map(activations)))
        return features

    def map(self, activations: torch.Tensor) -> torch.Tensor:
        """(n, …) activations → what the trunk gives before pooling."""
        for block in self.blocks:
            if self.recompute and torch.is_grad_enabled():
                activations = checkpoint(block, activations, use_reentrant=False)
            else:
                activations = block(activations)
        return activations


def split_image_tower(
    visual: nn.Module,
    frozen_blocks: int,
    image_size: int,
    *,
    recompute: bool = False,
    keep_map: bool = False,
) -> SplitTower:
    """Freeze the stem and the first blocks of a timm image tower, and part it there.

    Args:
        visual: open_clip's timm tower; the frozen parameters stop requiring gradients.
        frozen_blocks: how many blocks; 0 freezes nothing, −1 the whole trunk.
        image_size: side of the pictures, for the check.
        recompute: let the learning blocks keep no activations for the way back, but run again on it.
        keep_map: part a wholly frozen trunk before its pooling, not behind it, so that its patches can be
            learned from.

    Raises:
        TrainingError: the trunk has fewer blocks, or is of a kind that cannot be parted.
    """
    trunk: Any = getattr(visual, "trunk", None)
    if frozen_blocks == 0:
        if recompute:
            _recompute_trunk(trunk)
        return SplitTower(nn.Identity(), visual, getattr(trunk, "forward_features", _no_map))
    if not isinstance(trunk, nn.Module):
        raise TrainingError("only a timm image trunk can be frozen")
    if frozen_blocks < 0:
        trunk.requires_grad_(False)
        if keep_map:
            nothing_left = _Rest(nn.Sequential(), visual, recompute)
            return SplitTower(_Unpooled(trunk), nothing_left, nothing_left.map)
        return SplitTower(trunk, visual.head, _no_map)  # type: ignore[arg-type]
    parts = take_apart(trunk)
    if parts is None:
        raise TrainingError(
            f"a {type(trunk).__name__} trunk cannot be frozen in part; set freeze.image_blocks to 0 or -1"
        )
    if frozen_blocks > len(parts.blocks):
        raise TrainingError(
            f"the image trunk has {len(parts.blocks)} blocks; freeze.image_blocks is {frozen_blocks}"
        )
    prefix = nn.Sequential(*parts.stem, *parts.blocks[:frozen_blocks]).requires_grad_(False)
    rest = nn.Sequential(*parts.blocks[frozen_blocks:], *parts.after)
    if not runs_in_line(trunk, nn.Sequential(prefix, rest), image_size):
        raise TrainingError(
            f"a {type(trunk).__name__} trunk cannot be frozen in part: its blocks are not run in a line"
        )
    learning = _Rest(rest, visual, recompute)
    return SplitTower(prefix, learning, learning.map)


class _Unpooled(nn.Module):
    """A trunk up to its pooling."""

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(n, 3, size, size) → the feature map."""
        features: torch.Tensor = self.trunk.forward_features(pixels)  # type: ignore[operator]
        return features


def _no_map(activations: torch.Tensor) -> torch.Tensor:
    raise TrainingError(
        "this image tower gives no map of features to learn patches on; set loss.patches to 0"
    )


def _recompute_trunk(trunk: Any) -> None:
    try:
        trunk.set_grad_checkpointing(True)
    except (AttributeError, AssertionError) as error:
        raise TrainingError(
            f"a {type(trunk).__name__} trunk cannot recompute its activations; set memory.recompute to false"
        ) from error


def freeze_text_tower(text: nn.Module, frozen_layers: int) -> None:
    """Freeze the embeddings and the first layers of a Hugging Face text tower; −1 all but its projection.

    Raises:
        TrainingError: the tower has fewer layers, or is of another kind.
    """
    if frozen_layers == 0:
        return
    transformer: Any = getattr(text, "transformer", None)
    layers = getattr(getattr(transformer, "encoder", None), "layer", None)
    if not isinstance(transformer, nn.Module):
        raise TrainingError("only a Hugging Face text tower can be frozen")
    if frozen_layers < 0:
        transformer.requires_grad_(False)
        return
    if layers is None or frozen_layers > len(layers):
        raise TrainingError(
            f"the text tower has {len(layers or ())} layers to freeze; freeze.text_layers is {frozen_layers}"
        )
    for module in (transformer.embeddings, *layers[:frozen_layers]):
        module.requires_grad_(False)


def recompute_text_tower(text: nn.Module) -> None:
    """Let a Hugging Face text tower keep no activations for the way back, but run its layers again on it.

    Raises:
        TrainingError: the tower is of another kind.
    """
    transformer: Any = getattr(text, "transformer", None)
    if not hasattr(transformer, "gradient_checkpointing_enable"):
        raise TrainingError("this text tower cannot recompute its activations; set memory.recompute to false")
    transformer.gradient_checkpointing_enable({"use_reentrant": False})


def set_modes(model: nn.Module, *, live_batch_norm: bool) -> None:
    """Put what learns into training mode; what is frozen, and batch norms unless live, stays as it is."""
    model.train()
    for module in model.modules():
        own = list(module.parameters())
        if own and not any(parameter.requires_grad for parameter in own):
            module.eval()
    if not live_batch_norm:
        for norm in batch_norms(model):
            norm.eval()


def batch_norms(model: nn.Module) -> Iterator[nn.Module]:
    """The batch normalisation layers of a model."""
    return (m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm))
