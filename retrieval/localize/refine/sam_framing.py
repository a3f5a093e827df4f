"""Framing of SAM checkpoints: an image in the square that a checkpoint sees, and masks back in the image.

The square is a property of the checkpoint: 1024 px for Segment Anything, MedSAM and MobileSAM, 256 px for
LiteMedSAM. The decoder's masks have `LOW` pixels along each side in every SAM: a quarter of the one square,
and exactly the other.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

LOW = 256
"""Pixels along each side of SAM's low resolution, of the masks it takes and returns."""

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
"""By which Segment Anything standardises red, green and blue in [0, 255]."""


_SURE = 8.0  # the logit inside a region; its negative outside


@dataclass(frozen=True, slots=True)
class Frame:
    """The part of a checkpoint's square that an image takes, at its top left.

    `height`, `width`: pixels of the image in the square.
    `square`: pixels along each side of the square.
    """

    height: int
    width: int
    square: int

    @property
    def low(self) -> tuple[int, int]:
        """Height and width of the image in the low resolution, at least 1 pixel."""
        return max(1, self.height * LOW // self.square), max(1, self.width * LOW // self.square)


@dataclass(frozen=True, slots=True)
class Framing:
    """How a checkpoint sees an image.

    `name`: of the framing and its version, in the names of cached embeddings.
    `square`: pixels along each side of the square.
    `stretched`: the image fills the square; else its longest side does, and the rest, at the right and the
    bottom, is padding.
    `standardised`: by `MEAN` and `STD`; else each image is scaled from its minimum to its maximum.
    `eight_bits`: grey values are rounded to 8 bits before the image is resized, as the published code does.
    """

    name: str
    square: int
    stretched: bool
    standardised: bool
    eight_bits: bool

    def frame(self, shape: tuple[int, ...]) -> Frame:
        """The part of the square that an image of this height and width takes."""
        if self.stretched:
            return Frame(self.square, self.square, self.square)
        scale = self.square / max(shape)
        height, width = (max(1, math.floor(side * scale + 0.5)) for side in shape)
        return Frame(height, width, self.square)

    def pixels(self, image: NDArray[np.float32]) -> Tensor:
        """The input of the image encoder.

        Args:
            image: (height, width) float32 grey in [0, 1].

        Returns:
            (1, 3, square, square) float32: standardised, or in [0, 1]; padding is 0.
        """
        frame = self.frame(image.shape)
        size = frame.width, frame.height
        if self.eight_bits:
            grey = image if self.standardised else _min_max(image)
            eight = Image.fromarray(np.rint(np.clip(grey, 0, 1) * 255).astype(np.uint8))
            framed = np.asarray(eight.resize(size, Image.Resampling.BILINEAR), np.float32)
        else:
            plane = Image.fromarray(np.ascontiguousarray(image, np.float32))
            framed = _min_max(np.asarray(plane.resize(size, Image.Resampling.BILINEAR), np.float32)) * 255
        pixels = torch.from_numpy(framed).expand(1, 3, *framed.shape)
        if self.standardised:
            mean, deviation = (torch.tensor(values).view(-1, 1, 1) for values in (MEAN, STD))
            pixels = (pixels - mean) / deviation
        else:
            pixels = pixels / 255
        return F.pad(pixels, (0, self.square - frame.width, 0, self.square - frame.height))


PADDED = Framing("paddedv1", 1024, stretched=False, standardised=True, eight_bits=True)
"""Segment Anything and MobileSAM."""
STRETCHED = Framing("stretchedv1", 1024, stretched=True, standardised=False, eight_bits=True)
"""MedSAM."""
SMALL = Framing("smallv1", 256, stretched=False, standardised=False, eight_bits=False)
"""LiteMedSAM."""


def _min_max(image: NDArray[np.float32]) -> NDArray[np.float32]:
    span = float(np.ptp(image)) or 1.0
    scaled: NDArray[np.float32] = (image - image.min()) / np.float32(span)
    return scaled


def low_logits(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.float32]:
    """A region as SAM's mask prompt: (LOW, LOW) float32 logits.

    Args:
        mask: (height, width) bool, in the image.
        size: height and width of the image in the low resolution; the rest is padding.
    """
    plane = Image.fromarray(mask.astype(np.float32)).resize((size[1], size[0]), Image.Resampling.BILINEAR)
    logits = np.full((LOW, LOW), -_SURE, np.float32)
    logits[: size[0], : size[1]] = (np.asarray(plane) * 2 - 1) * _SURE
    return logits


def to_image(logits: Tensor, frame: Frame, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Masks in the image's pixels: logits enlarged to the square, padding removed, resized to the image.

    The last step is done around each mask alone: an image has twenty times the pixels of a finding.

    Args:
        logits: (n, 1, LOW, LOW).
        frame: of the image in the square.
        shape: height and width of the image.

    Returns:
        (n, height, width) bool.
    """
    square = logits
    if frame.square != LOW:
        square = F.interpolate(logits, (frame.square,) * 2, mode="bilinear", align_corners=False)
    planes = square[:, 0, : frame.height, : frame.width]
    masks = np.zeros((len(planes), *shape), dtype=np.bool_)
    for plane, mask in zip(planes, masks, strict=True):
        drawn = plane > 0
        if bool(drawn.any()):
            rows = _around(drawn.any(dim=1), shape[0])
            columns = _around(drawn.any(dim=0), shape[1])
            if len(rows.below) * len(columns.below) > mask.size / 2:  # one pass over all is faster then
                whole = F.interpolate(plane[None, None], mask.shape, mode="bilinear", align_corners=False)
                mask[:] = (whole[0, 0] > 0).cpu().numpy()
                continue
            stretched = columns.between(rows.between(plane[rows.samples, columns.samples], 0), 1)
            mask[rows.pixels, columns.pixels] = (stretched > 0).cpu().numpy()
    return masks


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Linear interpolation along a line: each of `pixels` lies between the samples `below` and `below` + 1.

    `samples`: the range of samples that is needed.
    `share`: of the upper sample, in [0, 1].
    """

    pixels: slice
    samples: slice
    below: Tensor
    share: Tensor

    def between(self, samples: Tensor, dim: int) -> Tensor:
        """Interpolate samples along a dimension of a plane."""
        low = samples.index_select(dim, self.below)
        high = samples.index_select(dim, (self.below + 1).clamp(max=samples.shape[dim] - 1))
        return torch.lerp(low, high, self.share[:, None] if dim == 0 else self.share)


def _around(positive: Tensor, pixels: int) -> _Stretch:
    """The pixels of a line that a positive sample influences, in the geometry of `F.interpolate`."""
    scale = len(positive) / pixels
    found = positive.nonzero()
    first = max(0, math.floor((int(found[0]) - 0.5) / scale - 0.5))
    last = min(pixels, math.ceil((int(found[-1]) + 1.5) / scale - 0.5) + 1)
    at = (torch.arange(first, last, dtype=torch.float64, device=positive.device) + 0.5) * scale - 0.5
    at = at.clamp(0, len(positive) - 1)
    below = at.floor().long()
    samples = slice(int(below[0]), min(int(below[-1]) + 2, len(positive)))
    return _Stretch(slice(first, last), samples, below - samples.start, (at - below).float())
