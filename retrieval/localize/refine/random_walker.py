"""The random walker (Grady, IEEE PAMI 28, 2006): a refiner that needs no weights.

Each undecided pixel takes the label that a walker starting there reaches first, inside or outside, when steps
across edges of the image are unlikely.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import random_walker

from corpus.geometry import Box
from retrieval.localize.refine.crf import resized

_LONGEST = 256  # pixels of the longest side of the reduced image: the map is coarser than this anyway
_BETA = 8_000.0  # how unlikely steps across edges are; this and the next two: chosen on maps of phantoms
_CORE = 0.8  # quantile of a region's heat above which it is certainly inside
_REACH = 0.6  # how far beyond the mask the walk extends, in roots of a region's area


class RandomWalkerRefiner:
    """Labels the pixels between the warm core of each region and the area well outside all regions."""

    name = "random-walker"

    def refine(
        self,
        image: NDArray[np.float32],
        heat: NDArray[np.float32],
        mask: NDArray[np.bool_],
        boxes: Sequence[Box],
        *,
        largest: float | None = None,
    ) -> NDArray[np.bool_]:
        """As `retrieval.localize.refine.refiner.Refiner.refine`; boxes and `largest` are not used."""
        height, width = image.shape
        scale = min(1.0, _LONGEST / max(height, width))
        size = max(1, round(height * scale)), max(1, round(width * scale))
        small = resized(mask.astype(np.float32), size) >= 0.5
        labels = _seeds(resized(heat, size), small)
        if not ((labels == 1).any() and (labels == 2).any() and (labels == 0).any()):
            return mask  # it covers nearly everything or is a speck: no pixel is undecided
        smoothed = ndimage.gaussian_filter(resized(image, size), 1.0)
        # Solved directly: with edges as steep as these, iterative solvers do not converge and take as long.
        inside = random_walker(smoothed, labels, beta=_BETA, mode="bf", return_full_prob=True)[0]
        refined = resized(np.asarray(inside, np.float32), (height, width)) >= 0.5
        return refined if refined.any() else mask


def _seeds(heat: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """1 in the warm core of each region, 2 well outside all, 0 between."""
    labels = np.zeros(mask.shape, np.int32)
    regions, count = ndimage.label(mask)
    reach = np.full(mask.shape, np.inf)
    for number in range(1, count + 1):
        region = regions == number
        labels[region & (heat >= np.quantile(heat[region], _CORE))] = 1
        away = ndimage.distance_transform_edt(~region)
        reach = np.minimum(reach, away / max(2.0, _REACH * np.sqrt(region.sum())))
    labels[reach > 1] = 2
    return labels
