"""Frozen parts of towers: an image backbone's frozen prefix runs once, and epochs run only the rest.

A backbone is split into the modules that its `forward_features` runs one after the other. Whether their
sequence gives the same features is checked on a random image.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from corpus.errors import TrainingError
from trainer.runtime.feature_maps import backbone_parts, runs_in_sequence
from trainer.runtime.multilevel import MultiLevel


@dataclass(frozen=True, slots=True)
class SplitTower:
    """An image tower in two parts.

    `prefix`: frozen. `rest`: learns; `rest(prefix(x))` is the tower. `map`: `map(prefix(x))` is the
    backbone's feature map before pooling.
    """

    prefix: nn.Module
    rest: nn.Module
    map: Callable[[torch.Tensor], torch.Tensor]


class _Rest(nn.Module):
    """The trainable blocks of a backbone, its pooling, and the projection."""

    def __init__(self, blocks: nn.Sequential, visual: nn.Module, recompute: bool) -> None:
        super().__init__()
        self.blocks = blocks
        self.recompute = recompute
        self._visual = [visual]  # in a list, so that its parameters are not registered here a second time

    def forward(self, activations: torch.Tensor) -> torch.Tensor:
        """(n, …) activations → (n, dim) features."""
        visual: Any = self._visual[0]
        features: torch.Tensor = visual.head(visual.trunk.forward_head(self.map(activations)))
        return features

    def map(self, activations: torch.Tensor) -> torch.Tensor:
        """(n, …) activations → the backbone's feature map before pooling."""
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
    """Freeze the stem and the first blocks of a timm image tower, and split it there.

    Args:
        visual: open_clip's timm tower; the frozen parameters stop requiring gradients.
        frozen_blocks: number of frozen blocks; 0 freezes nothing, −1 the whole backbone, of a `MultiLevel`
            all but its neck.
        image_size: side of the images in pixels, for the check.
        recompute: gradient checkpointing: the learning blocks store no activations and run again in the
            backward pass.
        keep_map: split a wholly frozen backbone before its pooling instead of after it, for a loss over
        patches.

    Raises:
        TrainingError: the backbone has fewer blocks, or is of a family that cannot be split.
    """
    backbone: Any = getattr(visual, "trunk", None)
    if frozen_blocks == 0:
        if recompute:
            _recompute_backbone(backbone)
        return SplitTower(nn.Identity(), visual, getattr(backbone, "forward_features", _no_map))
    if not isinstance(backbone, nn.Module):
        raise TrainingError("only a timm image backbone can be frozen")
    if frozen_blocks > 0 and isinstance(backbone, MultiLevel):
        raise TrainingError(
            "a backbone with several levels is frozen but for its neck or not at all: set "
            f"freeze.image_blocks to -1 or 0, not {frozen_blocks}"
        )
    if frozen_blocks < 0 and isinstance(backbone, MultiLevel):
        backbone.neck.requires_grad_(True)
        backbone.levels.requires_grad_(False)
        learned = _Rest(nn.Sequential(backbone.neck), visual, recompute)
        return SplitTower(backbone.levels, learned, learned.map)
    if frozen_blocks < 0:
        backbone.requires_grad_(False)
        if keep_map:
            nothing_left = _Rest(nn.Sequential(), visual, recompute)
            return SplitTower(_Unpooled(backbone), nothing_left, nothing_left.map)
        return SplitTower(backbone, visual.head, _no_map)  # type: ignore[arg-type]
    parts = backbone_parts(backbone)
    if parts is None:
        raise TrainingError(
            f"{type(backbone).__name__} cannot be frozen in part; set freeze.image_blocks to 0 or -1"
        )
    if frozen_blocks > len(parts.blocks):
        raise TrainingError(
            f"the image backbone has {len(parts.blocks)} blocks; freeze.image_blocks is {frozen_blocks}"
        )
    prefix = nn.Sequential(*parts.stem, *parts.blocks[:frozen_blocks]).requires_grad_(False)
    rest = nn.Sequential(*parts.blocks[frozen_blocks:], *parts.after)
    if not runs_in_sequence(backbone, nn.Sequential(prefix, rest), image_size):
        raise TrainingError(
            f"{type(backbone).__name__} cannot be frozen in part: its blocks do not run in sequence"
        )
    learning = _Rest(rest, visual, recompute)
    return SplitTower(prefix, learning, learning.map)


class _Unpooled(nn.Module):
    """A backbone up to its pooling."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(n, 3, size, size) → the feature map."""
        features: torch.Tensor = self.backbone.forward_features(pixels)  # type: ignore[operator]
        return features


def _no_map(activations: torch.Tensor) -> torch.Tensor:
    raise TrainingError("this image tower gives no feature map to learn patches on; set loss.patches to 0")


def _recompute_backbone(backbone: Any) -> None:
    try:
        backbone.set_grad_checkpointing(True)
    except (AttributeError, AssertionError) as error:
        raise TrainingError(
            f"a {type(backbone).__name__} cannot recompute its activations; set memory.recompute to false"
        ) from error


def freeze_text_tower(text: nn.Module, frozen_layers: int) -> None:
    """Freeze the embeddings and the first layers of a Hugging Face text tower; −1: all but its projection.

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
    """Turn on gradient checkpointing in a Hugging Face text tower.

    Raises:
        TrainingError: the tower is of another kind.
    """
    transformer: Any = getattr(text, "transformer", None)
    if not hasattr(transformer, "gradient_checkpointing_enable"):
        raise TrainingError("this text tower cannot recompute its activations; set memory.recompute to false")
    transformer.gradient_checkpointing_enable({"use_reentrant": False})


def set_modes(model: nn.Module, *, live_batch_norm: bool) -> None:
    """Put learning modules into training mode; frozen ones, and batch norms unless live, into evaluation."""
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
