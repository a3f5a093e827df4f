"""Segment Anything (Kirillov et al., arXiv 2304.02643) as a refiner, prompted by a map's regions.

A film is embedded once and kept (`retrieval.localize.refine.embedding_cache`); every question about it then
takes the small decoder alone. The model is called without a predictor object: that would hold one picture at
a time, and requests share the model.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from corpus.errors import UsageError
from corpus.images.reader import hash_pixels
from retrieval.localize.answer import Box
from retrieval.localize.refine.embedding_cache import EmbeddingCache
from retrieval.localize.refine.prompts import LOW, PromptKind, Region, low_logits, regions_of
from retrieval.localize.refine.refiner import checkpoint_file
from retrieval.localize.refine.sam_checkpoint import SQUARE, Checkpoint, load_checkpoint
from trainer.runtime.device import choose_device

_EMBEDDING = (256, SQUARE // 16, SQUARE // 16)
_PICTURES = "v1"  # of what is done to a picture before it is embedded: part of what is kept under
_REGIONS_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where the image lies in SAM's square: at its top left, `height` × `width` pixels of it."""

    height: int
    width: int


class SamRefiner:
    """Lets a SAM draw the outline of each region. Threads may share one.

    Args:
        checkpoint: the model with its weights.
        name: what answers call it: `sam:<name>`.
        prompts: what is told of each region. MedSAM was trained on boxes alone and takes no others.
        cache: of image embeddings; default is in the home.

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
            raise UsageError("SAM needs a box or a point of each region; a mask alone tells it too little")
        if checkpoint.medical and set(prompts) != {"box"}:
            raise UsageError("MedSAM was trained on boxes alone: prompt it with boxes")
        self.name = f"sam:{name}"
        self.prompts = frozenset(prompts)
        self._medical = checkpoint.medical
        self._model: Any = checkpoint.model
        pictures = f"{'stretched' if checkpoint.medical else 'padded'}{_PICTURES}"
        self._cache = cache or EmbeddingCache(f"{checkpoint.sha256[:32]}-{pictures}", _EMBEDDING)

    @classmethod
    def load(
        cls, checkpoint: str, *, device: str = "auto", prompts: Sequence[PromptKind] = ("box",)
    ) -> "SamRefiner":
        """Load a checkpoint by a name of `trainer.models.catalog` (fetched if need be) or by its path.

        Raises:
            EncoderError: the file cannot be had, or does not fit; or the device cannot be used.
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
            known = torch.from_numpy(embedding.astype(np.float32)).to(self._model.device)[None]
            for at in range(0, len(regions), _REGIONS_AT_ONCE):
                some = regions[at : at + _REGIONS_AT_ONCE]
                for region, drawn in zip(some, self._draw(known, some, frame, mask.shape), strict=True):
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
        """Ask the decoder for one mask a region, (n, height, width) bool."""
        model, device = self._model, self._model.device
        across, down = frame.width / shape[1], frame.height / shape[0]
        points = box_prompts = masks = None
        if "point" in self.prompts:
            places = [[[(r.point[0] + 0.5) * across - 0.5, (r.point[1] + 0.5) * down - 0.5]] for r in regions]
            points = torch.tensor(places, device=device), torch.ones(len(regions), 1, device=device)
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


def to_image(logits: Tensor, frame: tuple[int, int], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """From SAM's low resolution to the image's pixels: enlarge to the square, cut the padding off, fit.

    The last step is done around each mask alone: a film has twenty times the pixels of what is found on it.

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
    """Pixels, the samples of a line that they lie between, and where: at `below`, `share` of the way on."""

    pixels: slice
    samples: slice
    below: Tensor
    share: Tensor

    def between(self, samples: Tensor, dim: int) -> Tensor:
        """The samples along a dimension of a plane → the pixels."""
        low = samples.index_select(dim, self.below)
        high = samples.index_select(dim, (self.below + 1).clamp(max=samples.shape[dim] - 1))
        return torch.lerp(low, high, self.share[:, None] if dim == 0 else self.share)


def _around(positive: Tensor, pixels: int) -> _Stretch:
    """The pixels of a line that one of its positive samples has a say in, as `F.interpolate` lays them."""
    scale = len(positive) / pixels
    found = positive.nonzero()
    first = max(0, math.floor((int(found[0]) - 0.5) / scale - 0.5))
    last = min(pixels, math.ceil((int(found[-1]) + 1.5) / scale - 0.5) + 1)
    at = (torch.arange(first, last, dtype=torch.float64, device=positive.device) + 0.5) * scale - 0.5
    at = at.clamp(0, len(positive) - 1)
    below = at.floor().long()
    samples = slice(int(below[0]), min(int(below[-1]) + 2, len(positive)))
    return _Stretch(slice(first, last), samples, below - samples.start, (at - below).float())
