"""Patch vectors: the last feature map of an image tower, each place of it through the tower's own head.

Every place is treated as a picture of one patch, so pooling, norms and projection are exactly those of the
whole picture. For an averaging tower with a linear head, the mean over places is the picture's vector.
"""

import torch
from torch import nn

from corpus.errors import EncoderError


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
    visual = model.visual
    trunk = getattr(visual, "trunk", None)
    if not isinstance(trunk, nn.Module) or not isinstance(visual, nn.Module):
        raise EncoderError(
            "this encoder's image tower is not a timm network; its patches cannot be projected"
        )
    features: torch.Tensor = trunk.forward_features(pixels)  # type: ignore[operator]
    if features.ndim == 4:
        return _map_features(visual, trunk, features)
    if features.ndim == 3:
        return _token_features(visual, trunk, features)
    raise EncoderError("this encoder's image tower gives no feature map; its patches cannot be projected")


def _map_features(visual: nn.Module, trunk: nn.Module, features: torch.Tensor) -> torch.Tensor:
    channels_last = getattr(trunk, "output_fmt", "NCHW") == "NHWC"
    grid = features if channels_last else features.permute(0, 2, 3, 1)
    n, height, width, channels = grid.shape
    single = grid.reshape(n * height * width, channels)
    places = single[:, None, None, :] if channels_last else single[:, :, None, None]
    return _head(visual, trunk, places).view(n, height, width, -1)


def _token_features(visual: nn.Module, trunk: nn.Module, features: torch.Tensor) -> torch.Tensor:
    prefix = int(getattr(trunk, "num_prefix_tokens", 1))
    tokens = features[:, prefix:]
    n, count, channels = tokens.shape
    height, width = getattr(getattr(trunk, "patch_embed", None), "grid_size", (round(count**0.5),) * 2)
    if height * width != count:
        raise EncoderError(f"this encoder's image tower gives {count} tokens, which is not its grid")
    # A patch stands in every place of the sequence, so that both a class-token and a mean pooling take it.
    places = tokens.reshape(n * count, 1, channels).expand(-1, prefix + 1, -1)
    return _head(visual, trunk, places).view(n, height, width, -1)


def _head(visual: nn.Module, trunk: nn.Module, places: torch.Tensor) -> torch.Tensor:
    projected: torch.Tensor = visual.head(trunk.forward_head(places))  # type: ignore[operator]
    return projected
