"""Saliency maps by four methods behind one call: where in a picture the encoder sees what a text says.

All four take any image tower whose trunk is a timm network. They give raw numbers over the encoder's square;
`RawMaps.over` brings them into the picture as read.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray

from corpus.errors import UsageError
from retrieval.localize.saliency.gradcam import gradcam
from retrieval.localize.saliency.gscorecam import gscorecam
from retrieval.localize.saliency.m2ib import m2ib
from retrieval.localize.saliency.patch_similarity import patch_similarity
from trainer.runtime.encoder import Encoder

Map = NDArray[np.float32]
Method = Callable[[Encoder, torch.Tensor, torch.Tensor], torch.Tensor]
"""(encoder, (n, channels, size, size) pixels, (p, dim) unit texts) → (n, p, gh, gw) raw maps."""

METHODS: Mapping[str, Method] = MappingProxyType(
    {"gradcam": gradcam, "gscorecam": gscorecam, "m2ib": m2ib, "patches": patch_similarity}
)
_BATCH = 8  # pictures whose activations are held at once


@dataclass(frozen=True, slots=True, eq=False)
class RawMaps:
    """Maps of one picture, one a text: `grids` (p, gh, gw) float32 over the encoder's square.

    `height`, `width`: of the picture as read.
    """

    grids: Map
    height: int
    width: int
    encoder: Encoder

    def over(self, text: int) -> Map:
        """The map of one text over the picture, (height, width) float32 in the method's own units."""
        return self.encoder.framing.undo(self.grids[text], self.height, self.width)


def raw_maps(
    encoder: Encoder, images: Sequence[Map], texts: NDArray[np.float32], method: str
) -> list[RawMaps]:
    """Map every text over every picture. A map is the same alone or in any batch, and in every run.

    Args:
        encoder: whose image tower is looked into.
        images: (height, width) float32 grey in [0, 1] each; sizes may differ.
        texts: (p, dim) float32 unit rows in the encoder's space.
        method: one of `METHODS`.

    Returns:
        In the order of the pictures.

    Raises:
        UsageError: no such method.
        EncoderError: a picture cannot be encoded, or the image tower has no map of features.
    """
    if method not in METHODS:
        raise UsageError(f"unknown method {method!r}; known are {', '.join(METHODS)}")
    wanted = torch.from_numpy(np.ascontiguousarray(texts, np.float32)).to(encoder.device)
    made: list[RawMaps] = []
    for start in range(0, len(images), _BATCH):
        batch = images[start : start + _BATCH]
        grids = METHODS[method](encoder, encoder.inputs(batch), wanted).float().cpu().numpy()
        made += [
            RawMaps(grid, image.shape[0], image.shape[1], encoder)
            for grid, image in zip(grids, batch, strict=True)
        ]
    return made


def scaled(heat: Map) -> Map:
    """A map scaled to [0, 1] by its least and largest value; a level map, which points nowhere, is zero."""
    low, high = float(heat.min()), float(heat.max())
    if not high - low > 1e-12 * max(1.0, abs(high)):
        return np.zeros_like(heat)
    return (heat - np.float32(low)) / np.float32(high - low)
