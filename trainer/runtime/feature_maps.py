"""Patch vectors: the last feature map of an image tower, each place of it through the tower's own head.

Every place is treated as a picture of one patch, so pooling, norms and projection are exactly those of the
whole picture. For an averaging tower with a linear head, the mean over places is the picture's vector.
"""

from typing import Any

import torch
from torch import nn

from corpus.errors import EncoderError
from trainer.runtime.backbone import as_grid, channels_last, prefix_tokens


def timm_tower(model: nn.Module) -> tuple[Any, Any]:
    """The image tower of an open_clip model and the timm trunk in it.

    Raises:
        EncoderError: the tower is of another kind.
    """
    visual = model.visual
    trunk = getattr(visual, "trunk", None)
    if not isinstance(trunk, nn.Module) or not isinstance(visual, nn.Module):
        raise EncoderError(
            "this encoder's image tower is not a timm network; its patches cannot be projected"
        )
    return visual, trunk


def patch_features(model: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """Project the feature map of an open_clip model's image tower.

    Args:
        model: an open_clip model whose image tower is a timm network.
        pixels: (n, 3, height, width), normalised.

    Returns:
        (n, gh, gw, dim), not normalised.

    Raises:
        EncoderError: the tower gives no map of features.
    """
    visual, trunk = timm_tower(model)
    return project_map(visual, trunk.forward_features(pixels))


def trunk_features(model: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """What an open_clip model's image trunk sees, averaged over the picture, before head and projection.

    Args:
        model: an open_clip model whose image tower is a timm network.
        pixels: (n, 3, height, width), normalised.

    Returns:
        (n, channels).

    Raises:
        EncoderError: the tower gives no map of features.
    """
    _, trunk = timm_tower(model)
    return feature_grid(trunk, trunk.forward_features(pixels)).mean(dim=(1, 2))


def whole_and_patches(model: nn.Module, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Each picture's own features and those of its patches, in one pass.

    Args:
        model: an open_clip model whose image tower is a timm network.
        pixels: (n, 3, height, width), normalised.

    Returns:
        (n, dim) and (n, gh, gw, dim), neither normalised.

    Raises:
        EncoderError: the tower gives no map of features.
    """
    visual, trunk = timm_tower(model)
    features = trunk.forward_features(pixels)
    return project_whole_and_map(visual, features)


def project_whole_and_map(visual: Any, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Project what the trunk of an image tower gives before pooling, as a whole and place by place.

    All goes through the head at once: a head that is normalised by its batch sees one batch.

    Args:
        visual, features: as `project_map`.

    Returns:
        (n, dim) and (n, gh, gw, dim), neither normalised.

    Raises:
        EncoderError: these are no map of features.
    """
    n, height, width, _ = feature_grid(visual.trunk, features).shape
    pooled = visual.trunk.forward_head(features)
    places = visual.trunk.forward_head(_single_places(visual.trunk, features))
    projected: torch.Tensor = visual.head(torch.cat([pooled, places]))
    return projected[:n], projected[n:].view(n, height, width, -1)


def project_map(visual: Any, features: torch.Tensor) -> torch.Tensor:
    """Project what the trunk of an image tower gives before pooling, place by place.

    Args:
        visual: open_clip's timm tower.
        features: (n, channels, gh, gw), (n, gh, gw, channels) or (n, tokens, channels), as its trunk has it.

    Returns:
        (n, gh, gw, dim), not normalised.

    Raises:
        EncoderError: these are no map of features.
    """
    n, height, width, _ = feature_grid(visual.trunk, features).shape
    places = _single_places(visual.trunk, features)
    projected: torch.Tensor = visual.head(visual.trunk.forward_head(places))
    return projected.view(n, height, width, -1)


def feature_grid(trunk: Any, features: torch.Tensor) -> torch.Tensor:
    """Features as (n, gh, gw, channels).

    Raises:
        EncoderError: they have no places.
    """
    grid = as_grid(trunk, features)
    if grid is not None:
        return grid
    if features.ndim == 3:
        raise EncoderError(
            f"this encoder's image tower gives {features.shape[1] - prefix_tokens(trunk)} tokens, "
            "which is not its grid"
        )
    raise EncoderError("this encoder's image tower gives no feature map; its patches cannot be projected")


def _single_places(trunk: Any, features: torch.Tensor) -> torch.Tensor:
    """Every place as the features of a picture of one patch, in the trunk's own layout."""
    grid = feature_grid(trunk, features)
    single = grid.reshape(-1, grid.shape[-1])
    if features.ndim == 4:
        return single[:, None, None, :] if channels_last(trunk) else single[:, :, None, None]
    # A patch stands in every place of the sequence, so that both a class-token and a mean pooling take it.
    return single[:, None, :].expand(-1, prefix_tokens(trunk) + 1, -1)
