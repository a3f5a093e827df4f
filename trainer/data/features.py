"""Features of a training step: images and texts to unit vectors, with cached activations of frozen parts."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.transforms import v2

from corpus.errors import TrainingError
from corpus.progress import OnProgress, silent
from trainer.data.frozen_features import split_image_tower
from trainer.data.image_cache import Pixels
from trainer.runtime.feature_maps import project_map, project_whole_and_map
from trainer.runtime.multilevel import MultiLevel, Neck
from trainer.runtime.tokens import WindowTokenizer
from trainer.train.config import AugmentConfig, FreezeConfig

_CHUNK = 32  # items that go through a frozen tower at once


def augmentation(config: AugmentConfig) -> v2.Transform | None:
    """Small affine and brightness changes of one (1, height, width) image in [0, 1]; None if all are 0.

    There is no flip: it would exchange left and right, which reports distinguish.
    """
    if not any((config.degrees, config.translate, config.scale, config.brightness, config.contrast)):
        return None
    return v2.Compose(
        [
            v2.RandomAffine(
                degrees=config.degrees,
                translate=(config.translate, config.translate),
                scale=(1 - config.scale, 1 + config.scale),
                interpolation=v2.InterpolationMode.BILINEAR,
            ),
            v2.ColorJitter(brightness=config.brightness, contrast=config.contrast),
        ]
    )


class ImageFeatures:
    """Features of a pool's images; the activations of a frozen prefix are cached if they fit.

    Args:
        model: an open_clip model.
        pixels: (n, size, size) uint8, letterboxed.
        preprocessing: `mean` and `std` of each channel.
        freeze: the frozen parts and the size of the cache.
        augment: random changes of training images; None: none.
        device: where the model is.
        recompute: gradient checkpointing.
        patches: whether `with_patches` will be called, also on a wholly frozen backbone.
    """

    def __init__(
        self,
        model: nn.Module,
        pixels: Pixels,
        preprocessing: Mapping[str, Any],
        freeze: FreezeConfig,
        augment: AugmentConfig | None,
        device: torch.device,
        *,
        recompute: bool = False,
        patches: bool = False,
    ) -> None:
        self._pixels = pixels
        self._rows = np.arange(len(pixels))
        self._mean = torch.tensor(preprocessing["mean"], device=device).view(1, -1, 1, 1)
        self._std = torch.tensor(preprocessing["std"], device=device).view(1, -1, 1, 1)
        self._device = device
        self._augment = augmentation(augment) if augment else None
        self._hidden = augment.hidden_patches if augment else 0.0
        self._freeze = freeze
        visual: Any = model.visual
        self._visual = visual
        self._tower = split_image_tower(
            visual,
            freeze.image_blocks,
            pixels.shape[1],
            recompute=recompute,
            keep_map=patches,
        )
        self._cached: NDArray[np.float16] | None = None

    def fill_cache(self, file: Path, on_progress: OnProgress = silent) -> bool:
        """Compute the frozen activations of every image and view; return whether the file holds them.

        View 0 is the image unchanged, the others are augmented. `open_cache` reads them.

        Raises:
            TrainingError: the disk is full.
        """
        if self._freeze.image_blocks == 0:
            return False
        views = self._freeze.views if self._augment else 1
        with torch.no_grad():
            sample = self._tower.prefix(self.inputs(np.arange(1), augment=False))
        shape = (views, len(self._pixels), *sample.shape[1:])
        if 2 * np.prod(shape, dtype=np.float64) > self._freeze.cache_gb * 1e9:
            return False
        try:
            cached = np.lib.format.open_memmap(file, mode="w+", dtype=np.float16, shape=shape)
        except OSError as error:
            raise TrainingError(f"the frozen activations cannot be written to {file}: {error}") from error
        done, total = 0, views * len(self._pixels)
        for view in range(views):
            for chunk in _chunks(len(self._pixels)):
                with torch.no_grad():
                    activations = self._tower.prefix(self.inputs(chunk, augment=view > 0))
                cached[view, chunk] = activations.half().cpu().numpy()
                done += len(chunk)
                on_progress("freeze", done, total, "images")
        cached.flush()
        return True

    def open_cache(self, file: Path) -> None:
        """Read the frozen activations from a file that `fill_cache` wrote, in this process or another."""
        self._cached = np.load(file, mmap_mode="r")

    def only(self, rows: NDArray[np.int64]) -> "ImageFeatures":
        """The features of some of the images: image i of the result is image `rows[i]` of this."""
        some = copy.copy(self)
        some._rows = self._rows[rows]
        return some

    def features(self, index: NDArray[np.int64], *, training: bool) -> Tensor:
        """(n, dim) unit features of the pool's images at `index`; augmented when training."""
        activations = self._activations(self._rows[index], training=training)
        return F.normalize(self._tower.rest(activations).float(), dim=-1)

    def with_patches(self, index: NDArray[np.int64]) -> Tensor:
        """(n, 1 + P, dim) unit features of the augmented images at `index`: the image's, then its patches'.

        A random share of each image's patches is hidden; P patches remain, in no order.

        Raises:
            EncoderError: the tower gives no feature map.
        """
        activations = self._activations(self._rows[index], training=True)
        grid = self._tower.map(activations)
        whole, projected = project_whole_and_map(self._visual, grid)
        patches = self._visible_patches(projected.flatten(1, 2))
        return F.normalize(torch.cat([whole[:, None], patches], dim=1).float(), dim=-1)

    def patch_map(self, index: NDArray[np.int64]) -> Tensor:
        """(n, dim, gh, gw) vectors of the patches of the augmented images at `index`, not normalised."""
        grid = self._tower.map(self._activations(self._rows[index], training=True))
        return project_map(self._visual, grid).permute(0, 3, 1, 2)

    def standardise_neck(self, index: NDArray[np.int64]) -> None:
        """Let a new neck of a `MultiLevel` take the scale of its channels from the images at `index`."""
        backbone = getattr(self._visual, "trunk", None)
        if not isinstance(backbone, MultiLevel) or not isinstance(backbone.neck, Neck):
            return
        if backbone.neck.standardised:
            return

        def levels() -> Iterator[Tensor]:
            for start in range(0, len(index), _CHUNK):
                rows = self._rows[index[start : start + _CHUNK]]
                if self._freeze.image_blocks:
                    yield self._activations(rows, training=False)
                else:
                    yield backbone.levels(self.inputs(rows))

        with torch.no_grad():
            training = backbone.levels.training
            backbone.levels.eval()
            backbone.neck.standardise(levels())
            backbone.levels.train(training)

    def inputs(self, index: NDArray[np.int64], *, augment: bool = False) -> Tensor:
        """(n, 3, size, size) float32: the images at `index` as input of the backbone."""
        pixels = torch.from_numpy(self._pixels[index]).to(self._device).float().div_(255).unsqueeze(1)
        if augment and self._augment is not None:
            pixels = torch.stack([self._augment(image) for image in pixels])
        return (pixels.expand(-1, 3, -1, -1) - self._mean) / self._std

    def _visible_patches(self, patches: Tensor) -> Tensor:
        """Of (n, P, dim) patches a random part that is not hidden, drawn for each image."""
        n, count, dim = patches.shape
        visible = count - int(self._hidden * count)
        if visible == count:
            return patches
        chosen = torch.rand(n, count).argsort(dim=1)[:, :visible].to(patches.device)
        return patches.gather(1, chosen[:, :, None].expand(-1, -1, dim))

    def _activations(self, rows: NDArray[np.int64], *, training: bool) -> Tensor:
        """Input of the learning part of the tower for the images at `rows`."""
        if self._cached is not None:
            view = torch.zeros(len(rows), dtype=torch.int64)
            if training and len(self._cached) > 1:
                view = torch.randint(len(self._cached), (len(rows),))
            return torch.from_numpy(self._cached[view.numpy(), rows]).to(self._device).float()
        inputs = self.inputs(rows, augment=training)
        if self._freeze.image_blocks:
            with torch.no_grad():
                inputs = self._tower.prefix(inputs)
        return inputs


class TextFeatures:
    """Features of a pool's texts; a long text is the mean of its windows, as in the encoder."""

    def __init__(
        self,
        model: nn.Module,
        tokenizer: WindowTokenizer,
        texts: Sequence[str],
        freeze: FreezeConfig,
        device: torch.device,
    ) -> None:
        self._text: Any = model.text
        self._windows = tokenizer.windows(texts)
        self._tokenizer = tokenizer
        self._device = device
        self._freeze = freeze
        self._cached: list[Tensor] | None = None

    def fill_cache(self, on_progress: OnProgress = silent) -> bool:
        """Cache the pooled output of a wholly frozen tower for every window; return whether it is frozen."""
        if self._freeze.text_layers >= 0:
            return False
        flat = [window for windows in self._windows for window in windows]
        order = sorted(range(len(flat)), key=lambda position: len(flat[position]))
        pooled: list[Tensor] = [torch.empty(0)] * len(flat)
        for chunk in _chunks(len(flat)):
            positions = [order[position] for position in chunk]
            with torch.no_grad():
                rows = self._pool(self._padded([flat[position] for position in positions]))
            for position, row in zip(positions, rows, strict=True):
                pooled[position] = row
            on_progress("freeze", int(chunk[-1]) + 1, len(flat), "texts")
        rest = iter(pooled)
        self._cached = [torch.stack([next(rest) for _ in windows]) for windows in self._windows]
        return True

    def only(self, rows: NDArray[np.int64]) -> "TextFeatures":
        """The features of some of the texts: text i of the result is text `rows[i]` of this."""
        some = copy.copy(self)
        some._windows = [self._windows[row] for row in rows]
        some._cached = None if self._cached is None else [self._cached[row] for row in rows]
        return some

    def without_cache(self) -> "TextFeatures":
        """The features of the same texts with an empty cache."""
        same = copy.copy(self)
        same._cached = None
        return same

    def features(self, index: NDArray[np.int64]) -> Tensor:
        """(m, dim) unit features of the pool's texts at `index`."""
        owners = self.owners(index)
        if self._cached is not None:
            vectors = self._text.proj(torch.cat([self._cached[text] for text in index]))
        else:
            vectors = self._text(self.tokens(index))
        vectors = F.normalize(vectors.float(), dim=-1)
        if len(owners) == len(index):
            features: Tensor = vectors
            return features
        sums = torch.zeros(len(index), vectors.shape[1], device=self._device)
        return F.normalize(sums.index_add(0, torch.tensor(owners, device=self._device), vectors), dim=-1)

    def lengths(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """(m,) tokens in the longest window of each text at `index`."""
        return np.array([max(map(len, self._windows[text])) for text in index])

    def tokens(self, index: NDArray[np.int64]) -> Tensor:
        """(windows, longest) int64: the token windows of the texts at `index`, padded."""
        windows = [window for text in index for window in self._windows[text]]
        return self._padded(windows)

    def owners(self, index: NDArray[np.int64]) -> list[int]:
        """For each window of the texts at `index`, in order, the position of its text in `index`."""
        return [position for position, text in enumerate(index) for _ in self._windows[text]]

    def _padded(self, windows: Sequence[Sequence[int]]) -> Tensor:
        """(n, longest) int64: token windows, padded, on the device."""
        return torch.from_numpy(self._tokenizer.pad(windows)).to(self._device)

    def _pool(self, tokens: Tensor) -> Tensor:
        """The tower's output before its projection."""
        mask = (tokens != self._text.config.pad_token_id).long()
        pooled: Tensor = self._text.pooler(
            self._text.transformer(input_ids=tokens, attention_mask=mask), mask
        )
        return pooled


def encode_all(features: Callable[[NDArray[np.int64]], Tensor], count: int) -> NDArray[np.float32]:
    """Features of a whole pool, (count, dim) float32, without gradients."""
    with torch.no_grad():
        rows = [features(chunk).float().cpu().numpy() for chunk in _chunks(count)]
    return np.concatenate(rows)


def _chunks(count: int) -> Iterator[NDArray[np.int64]]:
    return (np.arange(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK))
