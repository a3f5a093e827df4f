"""Segment Anything (Kirillov et al., arXiv 2304.02643) as a refiner, prompted by a map's regions.

The prompts of a region are its box, the point where the map peaks in it, and the region itself as logits of
SAM's low resolution. An image is embedded once and cached (`retrieval.localize.refine.embedding_cache`);
every further prompt needs the small decoder alone. The model is called without a predictor object, which
would hold one image at a time, while requests share the model.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from corpus.errors import UsageError
from corpus.geometry import Box
from corpus.images.reader import hash_pixels
from retrieval.localize.refine.embedding_cache import EmbeddingCache
from retrieval.localize.refine.regions import boxes_of
from retrieval.localize.refine.sam_checkpoint import SQUARE, Checkpoint, checkpoint_file, load_checkpoint
from trainer.runtime.device import choose_device

PromptKind = Literal["box", "point", "mask"]

LOW = 256
"""Pixels along each side of SAM's low resolution, of the masks it takes and returns."""

_SURE = 8.0  # the logit inside a region; its negative outside

_EMBEDDING = (256, SQUARE // 16, SQUARE // 16)
_PREPROCESSING = "v1"  # version of the preprocessing: part of the name in the cache
_REGIONS_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Region:
    """One region of a mask.

    `mask`: (height, width) bool.
    `box`: of the region.
    `point`: (x, y) where the map peaks in it.
    """

    mask: NDArray[np.bool_]
    box: Box
    point: tuple[float, float]


@dataclass(frozen=True, slots=True)
class _Frame:
    """The part of SAM's square that the image takes: `height` × `width` pixels at its top left."""

    height: int
    width: int


class SamRefiner:
    """Refines each region by a SAM. Threads may share one.

    Args:
        checkpoint: the model with its weights.
        name: in answers, as `sam:<name>`.
        prompts: made of each region. MedSAM was trained on boxes alone and takes no others.
        cache: of image embeddings; default: in the home.

    Raises:
        UsageError: no prompt, or another than a box for MedSAM.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        name: str,
        prompts: Sequence[PromptKind] = ("box",),
        cache: EmbeddingCache | None = None,
    ) -> None:
        if not prompts or set(prompts) == {"mask"}:
            raise UsageError("SAM needs a box or a point of each region; a mask alone is too little")
        if checkpoint.medical and set(prompts) != {"box"}:
            raise UsageError("MedSAM was trained on boxes alone: prompt it with boxes")
        self.name = f"sam:{name}"
        self.prompts = frozenset(prompts)
        self._medical = checkpoint.medical
        self._model: Any = checkpoint.model
        preprocessing = f"{'stretched' if checkpoint.medical else 'padded'}{_PREPROCESSING}"
        self._cache = cache or EmbeddingCache(f"{checkpoint.sha256[:32]}-{preprocessing}", _EMBEDDING)

    @classmethod
    def load(
        cls, checkpoint: str, *, device: str = "auto", prompts: Sequence[PromptKind] = ("box",)
    ) -> "SamRefiner":
        """Load a checkpoint by a name of `trainer.models.catalog` (downloaded if missing) or by its path.

        Raises:
            EncoderError: the file is unavailable or does not fit, or the device cannot be used.
        """
        name, path = checkpoint_file(checkpoint)
        return cls(load_checkpoint(path, name, choose_device(device)), name, prompts)

    def refine(
        self,
        image: NDArray[np.float32],
        heat: NDArray[np.float32],
        mask: NDArray[np.bool_],
        boxes: Sequence[Box],
    ) -> NDArray[np.bool_]:
        """As `retrieval.localize.refine.refiner.Refiner.refine`."""
        regions = regions_of(heat, mask, boxes)
        if not regions:
            return mask
        frame = self._frame(image.shape)
        embedding = self._cache.get(hash_pixels(image), lambda: self._embed(image, frame))
        refined = np.zeros_like(mask)
        with torch.inference_mode():
            features = torch.from_numpy(embedding.astype(np.float32)).to(self._model.device)[None]
            for at in range(0, len(regions), _REGIONS_AT_ONCE):
                some = regions[at : at + _REGIONS_AT_ONCE]
                for region, drawn in zip(some, self._draw(features, some, frame, mask.shape), strict=True):
                    refined |= drawn if drawn.any() else region.mask
        return refined

    def _frame(self, shape: tuple[int, ...]) -> _Frame:
        height, width = shape
        if self._medical:
            return _Frame(SQUARE, SQUARE)
        scale = SQUARE / max(height, width)
        return _Frame(max(1, math.floor(height * scale + 0.5)), max(1, math.floor(width * scale + 0.5)))

    def _embed(self, image: NDArray[np.float32], frame: _Frame) -> NDArray[np.float32]:
        if self._medical:
            span = float(np.ptp(image)) or 1.0
            image = (image - image.min()) / np.float32(span)
        grey = Image.fromarray(np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8))
        framed = np.asarray(grey.resize((frame.width, frame.height), Image.Resampling.BILINEAR))
        pixels = torch.from_numpy(framed.astype(np.float32)).to(self._model.device)
        pixels = pixels.expand(1, 3, *framed.shape)
        with torch.inference_mode():
            square = pixels / 255 if self._medical else self._model.preprocess(pixels)
            embedding: Tensor = self._model.image_encoder(square)[0]
            return embedding.float().cpu().numpy()

    def _draw(
        self, embedding: Tensor, regions: Sequence[Region], frame: _Frame, shape: tuple[int, ...]
    ) -> NDArray[np.bool_]:
        """The decoder's mask of each region, (n, height, width) bool."""
        model, device = self._model, self._model.device
        across, down = frame.width / shape[1], frame.height / shape[0]
        points = box_prompts = masks = None
        if "point" in self.prompts:
            peaks = [[[(r.point[0] + 0.5) * across - 0.5, (r.point[1] + 0.5) * down - 0.5]] for r in regions]
            points = torch.tensor(peaks, device=device), torch.ones(len(regions), 1, device=device)
        if "box" in self.prompts:
            corners = [
                [r.box.left * across, r.box.top * down, r.box.right * across, r.box.bottom * down]
                for r in regions
            ]
            box_prompts = torch.tensor(corners, device=device)
        if "mask" in self.prompts:
            low = max(1, frame.height * LOW // SQUARE), max(1, frame.width * LOW // SQUARE)
            logits = np.stack([low_logits(r.mask, low) for r in regions])[:, None]
            masks = torch.from_numpy(logits).to(device)
        sparse, dense = model.prompt_encoder(points=points, boxes=box_prompts, masks=masks)
        drawn, _ = model.mask_decoder(
            image_embeddings=embedding,
            image_pe=model.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
        return to_image(drawn, (frame.height, frame.width), shape)


def regions_of(heat: NDArray[np.float32], mask: NDArray[np.bool_], boxes: Sequence[Box]) -> list[Region]:
    """The regions of a mask in the given boxes, in their order; without boxes, all components, largest first.

    Args:
        heat: (height, width) float32.
        mask: (height, width) bool.
        boxes: in pixels of the image, clipped to it; one without a pixel of the mask is skipped.
    """
    regions = []
    for box in boxes or boxes_of(mask):
        rows, columns = slice(max(box.top, 0), max(box.bottom, 0)), slice(max(box.left, 0), max(box.right, 0))
        inside = np.zeros_like(mask)
        inside[rows, columns] = mask[rows, columns]
        if not inside.any():
            continue
        warmth = np.where(mask[rows, columns], heat[rows, columns], -np.inf)
        y, x = np.unravel_index(np.argmax(warmth), warmth.shape)
        height, width = mask.shape
        clipped = Box(columns.start, rows.start, min(box.right, width), min(box.bottom, height))
        regions.append(Region(inside, clipped, (float(columns.start + x), float(rows.start + y))))
    return regions


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


def to_image(logits: Tensor, frame: tuple[int, int], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Masks in the image's pixels: logits enlarged to the square, padding removed, resized to the image.

    The last step is done around each mask alone: an image has twenty times the pixels of a finding.

    Args:
        logits: (n, 1, LOW, LOW).
        frame: height and width of the image in the square.
        shape: height and width of the image.

    Returns:
        (n, height, width) bool.
    """
    square = F.interpolate(logits, (SQUARE, SQUARE), mode="bilinear", align_corners=False)
    planes = square[:, 0, : frame[0], : frame[1]]
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
