"""Feature maps of timm image towers: one layout for every family, and patch vectors.

Convolutional backbones give (n, c, h, w), windowed transformers (n, h, w, c), plain ones (n, tokens, c) with
prefix tokens (class, registers) before the patches; `as_grid` gives all of them as (n, gh, gw, c).

Patch vectors are the last feature map through the tower's own head, patch by patch. Every patch is treated as
an image of one patch, so pooling, norms and projection are exactly those of the whole image. For an averaging
tower with a linear head, the mean over patches is the image's vector.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from corpus.errors import EncoderError
from trainer.runtime.multilevel import MultiLevel

_STEM_FIRST = ("conv_stem", "bn1")  # EfficientNet and MobileNet families
_AFTER_BLOCKS = ("conv_head", "bn2")
_RESNET = ("conv1", "bn1", "act1", "maxpool")


def timm_tower(model: nn.Module) -> tuple[Any, Any]:
    """The image tower of an open_clip model and the timm backbone in it.

    Raises:
        EncoderError: the tower is of another kind.
    """
    visual = model.visual
    backbone = getattr(visual, "trunk", None)
    if not isinstance(backbone, nn.Module) or not isinstance(visual, nn.Module):
        raise EncoderError(
            "this encoder's image tower is not a timm network; its patches cannot be projected"
        )
    return visual, backbone


def patch_features(model: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """Project the feature map of an open_clip model's image tower.

    Args:
        model: an open_clip model with a timm image tower.
        pixels: (n, 3, height, width), normalised.

    Returns:
        (n, gh, gw, dim), not normalised.

    Raises:
        EncoderError: the tower gives no feature map.
    """
    visual, backbone = timm_tower(model)
    return project_map(visual, backbone.forward_features(pixels))


def backbone_features(model: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """Features of an open_clip model's image backbone before neck and head, averaged over the image.

    Args:
        model: an open_clip model with a timm image tower.
        pixels: (n, 3, height, width), normalised.

    Returns:
        (n, channels).

    Raises:
        EncoderError: the tower gives no feature map.
    """
    _, backbone = timm_tower(model)
    if isinstance(backbone, MultiLevel):
        features: torch.Tensor = backbone.levels(pixels).mean(dim=(2, 3))
        return features
    return feature_grid(backbone, backbone.forward_features(pixels)).mean(dim=(1, 2))


def project_whole_and_map(visual: Any, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Project a backbone's features as a whole and patch by patch.

    Both go through the head at once, so that a head with batch normalisation sees one batch.

    Args:
        visual, features: as `project_map`.

    Returns:
        (n, dim) and (n, gh, gw, dim), neither normalised.

    Raises:
        EncoderError: these are no feature map.
    """
    n, height, width, _ = feature_grid(visual.trunk, features).shape
    pooled = visual.trunk.forward_head(features)
    patches = visual.trunk.forward_head(_single_patches(visual.trunk, features))
    projected: torch.Tensor = visual.head(torch.cat([pooled, patches]))
    return projected[:n], projected[n:].view(n, height, width, -1)


def project_map(visual: Any, features: torch.Tensor) -> torch.Tensor:
    """Project a backbone's features patch by patch.

    Args:
        visual: open_clip's timm tower.
        features: before pooling, in the layout of its backbone: (n, channels, gh, gw), (n, gh, gw, channels)
            or (n, tokens, channels).

    Returns:
        (n, gh, gw, dim), not normalised.

    Raises:
        EncoderError: these are no feature map.
    """
    n, height, width, _ = feature_grid(visual.trunk, features).shape
    patches = _single_patches(visual.trunk, features)
    projected: torch.Tensor = visual.head(visual.trunk.forward_head(patches))
    return projected.view(n, height, width, -1)


def feature_grid(backbone: Any, features: torch.Tensor) -> torch.Tensor:
    """Features as a grid, whatever the layout of their backbone.

    Args:
        backbone: a timm network.
        features: of its `forward_features`: (n, channels, gh, gw), (n, gh, gw, channels) or
            (n, tokens, channels), where prefix tokens precede the gh · gw patches.

    Returns:
        (n, gh, gw, channels).

    Raises:
        EncoderError: they are no feature map.
    """
    grid = as_grid(backbone, features)
    if grid is not None:
        return grid
    if features.ndim == 3:
        raise EncoderError(
            f"this encoder's image tower gives {features.shape[1] - prefix_tokens(backbone)} tokens, "
            "which is not its grid"
        )
    raise EncoderError("this encoder's image tower gives no feature map; its patches cannot be projected")


def _single_patches(backbone: Any, features: torch.Tensor) -> torch.Tensor:
    """Every patch as the features of an image of one patch, in the backbone's own layout."""
    grid = feature_grid(backbone, features)
    single = grid.reshape(-1, grid.shape[-1])
    if features.ndim == 4:
        return single[:, None, None, :] if channels_last(backbone) else single[:, :, None, None]
    # The patch fills every position of the sequence, so that class-token and mean pooling both take it.
    return single[:, None, :].expand(-1, prefix_tokens(backbone) + 1, -1)


@dataclass(frozen=True, slots=True)
class BackboneParts:
    """The modules that a backbone's `forward_features` runs one after the other.

    `stem`: from pixels to the first block. `blocks`: the repeated part. `after`: what follows the last block.
    """

    stem: tuple[nn.Module, ...]
    blocks: tuple[nn.Module, ...]
    after: tuple[nn.Module, ...]


def backbone_parts(backbone: Any) -> BackboneParts | None:
    """The parts of a backbone in the order of `forward_features`; None for an unknown family.

    A backbone of a known family may still run them in another way: check with `runs_in_sequence`.
    """
    if isinstance(backbone, MultiLevel):
        return BackboneParts((backbone.levels,), (backbone.neck,), ())
    if all(hasattr(backbone, name) for name in (*_STEM_FIRST, "blocks")):
        after = [getattr(backbone, name) for name in _AFTER_BLOCKS if hasattr(backbone, name)]
        return BackboneParts(
            (backbone.conv_stem, backbone.bn1),
            tuple(backbone.blocks),
            tuple(after) if len(after) == 2 else (),
        )
    if all(hasattr(backbone, name) for name in (*_RESNET, "layer4")):
        stem = tuple(getattr(backbone, name) for name in _RESNET)
        return BackboneParts(stem, (backbone.layer1, backbone.layer2, backbone.layer3, backbone.layer4), ())
    if hasattr(backbone, "stem") and hasattr(backbone, "stages"):
        after = [backbone.norm_pre] if hasattr(backbone, "norm_pre") else []
        return BackboneParts((backbone.stem,), tuple(backbone.stages), tuple(after))
    if hasattr(backbone, "patch_embed") and hasattr(backbone, "layers"):
        return BackboneParts((backbone.patch_embed,), tuple(backbone.layers), (backbone.norm,))
    if all(hasattr(backbone, name) for name in ("patch_embed", "_pos_embed", "norm_pre", "blocks")):
        return BackboneParts((_TokenStem(backbone),), tuple(backbone.blocks), (backbone.norm,))
    return None


class _TokenStem(nn.Module):
    """From pixels to the tokens that a plain transformer's first block takes."""

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.patch_embed = backbone.patch_embed
        self.norm_pre = backbone.norm_pre
        self._embed = [backbone]  # in a list, so that its parameters are not registered here a second time

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        tokens: torch.Tensor = self.norm_pre(self._embed[0]._pos_embed(self.patch_embed(pixels)))
        return tokens


def runs_in_sequence(backbone: Any, modules: nn.Module, image_size: int) -> bool:
    """Whether modules, run in sequence, give the backbone's own features of a random image (to 1e-5)."""
    was_training = backbone.training
    backbone.eval()
    with torch.no_grad():
        probe = torch.rand(1, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
        probe = probe.to(next(backbone.parameters()).device)
        same = torch.allclose(modules(probe), backbone.forward_features(probe), atol=1e-5)
    backbone.train(was_training)
    return same


def channels_last(backbone: Any) -> bool:
    """Whether four-dimensional activations of a backbone are (n, h, w, c)."""
    return getattr(backbone, "output_fmt", "NCHW") == "NHWC"


def spatial_dimensions(backbone: Any, activations: torch.Tensor) -> tuple[int, ...]:
    """The dimensions of activations that run over patches, prefix tokens included."""
    if activations.ndim == 3:
        return (1,)
    return (1, 2) if channels_last(backbone) else (2, 3)


def prefix_tokens(backbone: Any) -> int:
    """The number of tokens before the patches in three-dimensional activations."""
    return int(getattr(backbone, "num_prefix_tokens", 1))


def as_grid(backbone: Any, activations: torch.Tensor) -> torch.Tensor | None:
    """Activations as a grid, without prefix tokens.

    Args:
        backbone: a timm network.
        activations: of one of its layers: (n, channels, gh, gw), (n, gh, gw, channels) or
            (n, tokens, channels), where prefix tokens precede the gh · gw patches.

    Returns:
        (n, gh, gw, channels); None where the activations are no feature map, or have another number of tokens
        than the backbone's grid.
    """
    if activations.ndim == 4:
        return activations if channels_last(backbone) else activations.permute(0, 2, 3, 1)
    if activations.ndim != 3:
        return None
    patches = activations[:, prefix_tokens(backbone) :]
    n, count, channels = patches.shape
    height, width = getattr(getattr(backbone, "patch_embed", None), "grid_size", (0, 0))
    if height * width != count:  # the backbone takes several image sizes; ours are square
        height = width = round(count**0.5)
    return patches.reshape(n, height, width, channels) if height * width == count else None
