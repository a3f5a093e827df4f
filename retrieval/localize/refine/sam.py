"""Segment Anything (Kirillov et al., arXiv 2304.02643) as a refiner, prompted by a map's regions.

The prompts of a region are its box, the point where the map peaks in it, and the region itself as logits of
SAM's low resolution. A map's region covers about half of the finding, and SAM stays inside its box: where the
checkpoint's family has growths, the box is enlarged by each, all in one call of the decoder, and the answer
of the highest predicted IoU is returned. An image is embedded once and cached
(`retrieval.localize.refine.embedding_cache`); every further prompt needs the small decoder alone. The model
is called without a predictor object, which would hold one image at a time, while requests share the model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from corpus.errors import UsageError
from corpus.geometry import Box
from corpus.images.reader import hash_pixels
from retrieval.localize.refine.embedding_cache import EmbeddingCache
from retrieval.localize.refine.regions import boxes_of
from retrieval.localize.refine.sam_checkpoint import CELLS, Checkpoint, checkpoint_file, load_once
from retrieval.localize.refine.sam_decoder import draw_best
from retrieval.localize.refine.sam_framing import Frame, low_logits, to_image
from trainer.runtime.device import choose_device, quick_precision

PromptKind = Literal["box", "point", "mask"]

_EMBEDDING = (256, CELLS, CELLS)
_PROMPTS_AT_ONCE = 16

LARGE_SHARE = 0.08
"""A region of more than this share of the image is large: the map outlines it well, its box grows less."""
LARGE_GROWTH = 0.4
"""The largest growth of a large region's box. Grown by 70 or 100 %, the box contains so much of the image
that SAM outlines the organ around the finding, and predicts a high IoU for that. Chosen on 360 maps of 97
images (busi, covid-cxr-segmentation): Dice +0.013 (95 % CI 0.006 to 0.021) over all, malignant tumours in
maps of 20 cells 0.79 → 0.86, consolidations 0.59 → 0.66; lungs and malignant tumours in maps of 6 cells lose
0.006."""


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
class RegionAnswer:
    """SAM's answer to one region.

    `mask`: (height, width) bool; the region itself where SAM draws nothing.
    `predicted_iou`: SAM's own estimate of how well the mask fits, about 0 to 1.
    `growth`: by how much the box of the chosen prompt was enlarged.
    """

    mask: NDArray[np.bool_]
    predicted_iou: float
    growth: float


class SamRefiner:
    """Refines each region by a SAM. Threads may share one.

    Args:
        checkpoint: the model with its weights.
        name: in answers, as `sam:<name>`.
        prompts: made of each region. MedSAM and LiteMedSAM were trained on boxes alone and take no others.
        cache: of image embeddings; default: in the home.
        precision: of encoder and decoder on their device: bfloat16 or float32. None: bfloat16 where the
            family allows it and the device multiplies in it (LiteMedSAM), else float32.

    Raises:
        UsageError: no prompt, or another than a box for MedSAM or LiteMedSAM.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        name: str,
        prompts: Sequence[PromptKind] = ("box",),
        cache: EmbeddingCache | None = None,
        precision: torch.dtype | None = None,
    ) -> None:
        if not prompts or set(prompts) == {"mask"}:
            raise UsageError("SAM needs a box or a point of each region; a mask alone is too little")
        family = checkpoint.family
        if family.boxes_only and set(prompts) != {"box"}:
            raise UsageError("MedSAM and LiteMedSAM were trained on boxes alone: prompt them with boxes")
        self.name = f"sam:{name}"
        self.prompts = frozenset(prompts)
        self._model: Any = checkpoint.model
        self._framing, self._growths = family.framing, family.growths
        quick = quick_precision(self._model.device) if family.quick else torch.float32
        self.precision = precision or quick
        # Embeddings of two precisions differ (cosine 0.997 on a drawn radiograph): they are cached apart.
        version = family.framing.name + ("-bf16" if self.precision == torch.bfloat16 else "")
        self._cache = cache or EmbeddingCache(f"{checkpoint.sha256[:32]}-{version}", _EMBEDDING)

    @classmethod
    def load(
        cls, checkpoint: str, *, device: str = "auto", prompts: Sequence[PromptKind] = ("box",)
    ) -> "SamRefiner":
        """Load a checkpoint by a name of `trainer.models.catalog` (downloaded if missing) or by its path.

        Raises:
            EncoderError: the file is unavailable or does not fit, or the device cannot be used.
        """
        name, path = checkpoint_file(checkpoint)
        return cls(load_once(path, name, choose_device(device)), name, prompts)

    def refine(
        self,
        image: NDArray[np.float32],
        heat: NDArray[np.float32],
        mask: NDArray[np.bool_],
        boxes: Sequence[Box],
        *,
        largest: float | None = None,
    ) -> NDArray[np.bool_]:
        """As `retrieval.localize.refine.refiner.Refiner.refine`."""
        answers = self.answers(image, regions_of(heat, mask, boxes), largest)
        refined = np.zeros_like(mask)
        for answer in answers:
            refined |= answer.mask
        return refined if answers else mask

    def answers(
        self, image: NDArray[np.float32], regions: Sequence[Region], largest: float | None = None
    ) -> list[RegionAnswer]:
        """The answer to each region of an image.

        Args:
            image: (height, width) float32 grey in [0, 1].
            regions: of one mask of the image, as `regions_of` returns them.
            largest: pixels, beyond which no side of a box grows; None without a bound.
        """
        if not regions:
            return []
        embedding = self._cache.get(hash_pixels(image), lambda: self._embed(image))
        frame = self._framing.frame(image.shape)
        answers: list[RegionAnswer] = []
        with torch.inference_mode():
            features = torch.from_numpy(embedding.astype(np.float32)).to(self._model.device)[None]
            for growths, group in groupby(regions, partial(self._bounded_growths, largest=largest)):
                some, at_once = list(group), max(1, _PROMPTS_AT_ONCE // len(growths))
                for first in range(0, len(some), at_once):
                    answers += self._draw(features, some[first : first + at_once], growths, frame)
        return answers

    def _growths_of(self, region: Region) -> tuple[float, ...]:
        if float(region.mask.mean()) <= LARGE_SHARE:
            return self._growths
        return tuple(growth for growth in self._growths if growth <= LARGE_GROWTH)

    def _bounded_growths(self, region: Region, largest: float | None) -> tuple[float, ...]:
        """The growths with which no side exceeds the bound; the smallest one where all exceed it."""
        growths = self._growths_of(region)
        if largest is None:
            return growths
        side = max(region.box.right - region.box.left, region.box.bottom - region.box.top)
        return tuple(growth for growth in growths if side * (1 + growth) <= largest) or (min(growths),)

    def _embed(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        device = self._model.device
        pixels = self._framing.pixels(image).to(device)
        quick = self.precision == torch.bfloat16
        if quick:
            pixels = pixels.contiguous(memory_format=torch.channels_last)
        with torch.inference_mode(), self._autocast():
            embedding: Tensor = self._model.image_encoder(pixels)[0]
        return embedding.float().cpu().numpy()

    def _autocast(self) -> torch.autocast:
        """Computing in bfloat16, where that is the precision.

        Five boxes take 0.21 s of a core instead of 0.33 s, an image 1.1 s instead of 2.1 s; over 58 maps of
        tumours the mean Dice stays at 0.77.
        """
        quick = self.precision == torch.bfloat16
        return torch.autocast(self._model.device.type, torch.bfloat16, enabled=quick)

    def _draw(
        self, embedding: Tensor, regions: Sequence[Region], growths: tuple[float, ...], frame: Frame
    ) -> list[RegionAnswer]:
        """One call of the decoder, for all prompts of these regions."""
        model, device, choices = self._model, self._model.device, len(growths)
        shape = regions[0].mask.shape
        across, down = frame.width / shape[1], frame.height / shape[0]
        points = box_prompts = masks = None
        if "point" in self.prompts:
            peaks = [[[(r.point[0] + 0.5) * across - 0.5, (r.point[1] + 0.5) * down - 0.5]] for r in regions]
            repeated = torch.tensor(peaks, device=device).repeat_interleave(choices, dim=0)
            points = repeated, torch.ones(len(repeated), 1, device=device)
        if "box" in self.prompts:
            corners = np.concatenate([enlarged(r.box, growths, shape) for r in regions])
            scaled = corners * np.array([across, down, across, down])
            box_prompts = torch.from_numpy(scaled.astype(np.float32)).to(device)
        if "mask" in self.prompts:
            low = np.stack([low_logits(r.mask, frame.low) for r in regions])[:, None]
            masks = torch.from_numpy(low).to(device).repeat_interleave(choices, dim=0)
        sparse, dense = model.prompt_encoder(points=points, boxes=box_prompts, masks=masks)
        if masks is None:
            dense = dense[:1]  # the same for every prompt
        with self._autocast():
            logits, chosen, predicted = draw_best(model, embedding, sparse, dense, choices)
        masks_drawn = to_image(logits.float(), frame, shape)
        return [
            RegionAnswer(drawn if drawn.any() else region.mask, float(iou), growths[int(choice)])
            for region, drawn, iou, choice in zip(regions, masks_drawn, predicted, chosen, strict=True)
        ]


def enlarged(box: Box, growths: Sequence[float], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """A box with its sides enlarged about its centre and clipped to the image.

    Args:
        box: in pixels of the image.
        growths: 0.4 makes each side 1.4 times as long.
        shape: height and width of the image.

    Returns:
        (growths, 4) float64: left, top, right, bottom.
    """
    sides = np.array([box.right - box.left, box.bottom - box.top]) / 2
    centre = np.array([box.right + box.left, box.bottom + box.top]) / 2
    reach = (1 + np.asarray(growths))[:, None] * sides
    limits = np.array([shape[1], shape[0]])
    corners = np.clip(centre - reach, 0, limits), np.clip(centre + reach, 0, limits)
    return np.concatenate(corners, axis=1)


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
