"""Saliency maps by four methods behind one call, and the one without gradients, patch similarity.

All four take any image tower with a timm network as backbone. They return raw numbers over the encoder's
square; `RawMaps.over` brings them over the image as read. Patch similarity needs the patch vectors alone, so
an exported encoder without torch; the other three are in `retrieval.localize.saliency.gradients`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from corpus.errors import UsageError
from corpus.extras import LOCALIZE, needs_extra
from trainer.runtime.encoder import Encoder

Map = NDArray[np.float32]

PATCHES = "patches"
"""The method that needs no gradients."""
METHODS = ("gradcam", "gscorecam", "m2ib", PATCHES)

SMOOTHING = 1 / 32
"""Standard deviation, as a share of the image's side, by which patch similarities are averaged with their
neighbours. A finding covers several patches of a fine grid, and one that stands alone is more often wrong. On
grids of 7 or 14 it changes next to nothing."""
_BATCH = 8  # images with their activations in memory at once


def patch_similarity(patches: Map, texts: Map) -> Map:
    """The cosine of each patch, in the space of image vectors, with a text.

    Args:
        patches: (n, gh, gw, dim) float32 unit vectors, as of `Encoder.encode_patches`.
        texts: (p, dim) float32 unit rows.

    Returns:
        (n, p, gh, gw) float32 cosines in [-1, 1], each averaged with its neighbours.
    """
    n, height, width, dim = patches.shape
    cosines = texts @ patches.reshape(n, -1, dim).transpose(0, 2, 1)
    return smooth(cosines.reshape(n, len(texts), height, width))


def smooth(maps: Map) -> Map:
    """(…, gh, gw) maps, each cell a Gaussian mean of itself and its neighbours; borders repeat."""
    for axis in (-2, -1):
        deviation = SMOOTHING * maps.shape[axis]
        maps = ndimage.gaussian_filter1d(maps, deviation, axis, mode="nearest", radius=round(3 * deviation))
    return maps


@dataclass(frozen=True, slots=True, eq=False)
class RawMaps:
    """Maps of one image, one per text.

    `grids`: (p, gh, gw) float32 over the encoder's square.
    `height`, `width`: of the image as read.
    `encoder`: the maps are of its image tower.
    """

    grids: Map
    height: int
    width: int
    encoder: Encoder

    def over(self, text: int) -> Map:
        """The map of one text over the image, (height, width) float32 in the method's own units."""
        return self.encoder.framing.undo(self.grids[text], self.height, self.width)


def raw_maps(
    encoder: Encoder, images: Sequence[Map], texts: NDArray[np.float32], method: str
) -> list[RawMaps]:
    """Map every text over every image. A map is the same alone or in any batch, and in every run.

    Args:
        encoder: its image tower makes the maps.
        images: (height, width) float32 grey in [0, 1] each; sizes may differ.
        texts: (p, dim) float32 unit rows in the encoder's space.
        method: one of `METHODS`.

    Returns:
        In the order of the images.

    Raises:
        UsageError: no such method.
        EncoderError: an image cannot be encoded, the image tower has no map of features, or the method needs
            torch and there is none.
    """
    if method not in METHODS:
        raise UsageError(f"unknown method {method!r}; known are {', '.join(METHODS)}")
    made: list[RawMaps] = []
    for start in range(0, len(images), _BATCH):
        batch = images[start : start + _BATCH]
        grids = _grids(encoder, batch, texts, method)
        made += [
            RawMaps(grid, image.shape[0], image.shape[1], encoder)
            for grid, image in zip(grids, batch, strict=True)
        ]
    return made


def _grids(encoder: Encoder, images: Sequence[Map], texts: Map, method: str) -> Map:
    """(n, p, gh, gw) raw maps."""
    if method == PATCHES:
        return patch_similarity(encoder.encode_patches(images).vectors, texts)
    with needs_extra(f"the method {method}", LOCALIZE):
        from retrieval.localize.saliency.gradients import gradient_maps  # late: torch
    return gradient_maps(encoder, images, texts, method)


def scaled(heat: Map) -> Map:
    """A map scaled to [0, 1] by its minimum and maximum; a level map, which points nowhere, becomes zero."""
    low, high = float(heat.min()), float(heat.max())
    if not high - low > 1e-12 * max(1.0, abs(high)):
        return np.zeros_like(heat)
    return (heat - np.float32(low)) / np.float32(high - low)
