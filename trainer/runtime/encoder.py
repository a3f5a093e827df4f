"""The encoder: an open_clip model with everything that decides its output.

Images and texts become unit vectors in one space: the dot product of any two is their cosine. The model
inside is plain open_clip; `trainer.runtime.encoder_folder` describes the folder that it is read from.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from corpus.errors import EncoderError
from corpus.geometry import Framing, Placement
from corpus.statistics import unit_rows
from trainer.runtime import encoder_folder as files
from trainer.runtime.clip_model import read_model
from trainer.runtime.device import choose_device
from trainer.runtime.feature_maps import backbone_features, patch_features
from trainer.runtime.tokens import WindowTokenizer

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Patches:
    """Patch vectors of n images, before pooling, in the space of the image and text vectors.

    `vectors`: (n, gh, gw, dim) float32, unit along dim; the grid covers the letterboxed square evenly.
    `content_boxes`: where each image lies in that square; outside it is padding.
    `image_size`: side of the square in pixels.
    """

    vectors: Vectors
    content_boxes: list[Placement]
    image_size: int

    def inside(self, index: int) -> NDArray[np.bool_]:
        """(gh, gw) bool: the patches of image `index` that are not padding alone."""
        _, gh, gw, _ = self.vectors.shape
        box = self.content_boxes[index]
        top, left = np.arange(gh) * self.image_size / gh, np.arange(gw) * self.image_size / gw
        rows = (top < box.top + box.height) & (top + self.image_size / gh > box.top)
        columns = (left < box.left + box.width) & (left + self.image_size / gw > box.left)
        return np.asarray(rows[:, None] & columns[None, :])


class Encoder:
    """Turns images and texts into unit vectors. Frozen, in evaluation mode; threads may share it.

    A vector is the same alone or in any batch (cosine ≥ 1 − 1e-6): padding enters no mean, and normalisation
    layers use their stored statistics.

    `name`: as its record has it, else the folder's name.
    `dim`: length of a vector.
    `image_size`: side in pixels of the square that images are letterboxed to.
    `framing`: that letterbox.
    `fingerprint`: 64 hex digits of weights, preprocessing, tokenizer and pooling; an index is bound to it.
    `context_length`: tokens of a window; a longer text is encoded in several.
    `record`: `similarity.json` of the folder, the record of its training.
    `folder`: the encoder folder; None for a model in memory.
    `device`: of the network.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: WindowTokenizer,
        preprocessing: Mapping[str, Any],
        *,
        name: str,
        fingerprint: str,
        record: Mapping[str, Any],
        device: torch.device,
        folder: Path | None = None,
    ) -> None:
        """Take over a model; it is moved to the device, frozen, and put into evaluation mode.

        Args:
            model: an open_clip model.
            tokenizer: of its text tower.
            preprocessing: `size`, of the input in pixels (one number, or height and width); `mean` and `std`
                of each channel, for pixels in [0, 1]; `dim`, the length of a vector. More keys are ignored.
            name, fingerprint, record, device, folder: as the attributes.
        """
        self.name = name
        self.folder = folder
        self.fingerprint = fingerprint
        self.record = record
        self.device = device
        self.image_size = int(np.max(preprocessing["size"]))
        self.framing = Framing(self.image_size)
        self.context_length = tokenizer.context_length
        self._tokenizer = tokenizer
        self._mean = torch.tensor(preprocessing["mean"], device=device).view(1, -1, 1, 1)
        self._std = torch.tensor(preprocessing["std"], device=device).view(1, -1, 1, 1)
        self._model: Any = model.to(device).eval().requires_grad_(False)
        self.dim = int(preprocessing["dim"])

    @classmethod
    def load(cls, folder: Path | str, device: str = "auto") -> "Encoder":
        """Load an encoder folder after checking that it is complete and unedited.

        Args:
            folder: an encoder folder, also one that was moved, or the folder of the run that made it.
            device: `auto` (cuda, then mps, then cpu) or a torch device name.

        Raises:
            EncoderError: the folder is missing, incomplete or edited, or the device cannot be used.
        """
        path = files.locate(Path(folder).expanduser().resolve())
        record = files.verify(path)
        config = files.read_json(path / files.CONFIG)
        model = read_model(path, config)
        files.adopt(path)
        size = config["model_cfg"]["vision_cfg"]["image_size"]
        return cls(
            model,
            WindowTokenizer.of_folder(path),
            {**config["preprocess_cfg"], "size": size, "dim": config["model_cfg"]["embed_dim"]},
            name=str(record.get("name", path.name)),
            fingerprint=files.fingerprint(path, record["files"]),
            record=record,
            device=choose_device(device),
            folder=path,
        )

    @property
    def model(self) -> nn.Module:
        """The open_clip model inside, for saliency methods, which need its layers. Do not train it."""
        return cast(nn.Module, self._model)

    def encode_images(self, images: Sequence[Vectors], batch_size: int = 32) -> Vectors:
        """Encode images.

        Args:
            images: (height, width) float32 grey in [0, 1] each; sizes may differ.
            batch_size: images that go through the network at once; it does not change the vectors.

        Returns:
            (n, dim) float32 unit rows, in the order of `images`.

        Raises:
            EncoderError: an image has another shape or holds a value that is not finite; names its position.
        """
        rows = [
            self.encode_framed(self._frame(images[at : at + batch_size], at), batch_size)
            for at in range(0, len(images), batch_size)
        ]
        return np.concatenate(rows) if rows else np.zeros((0, self.dim), np.float32)

    def encode_framed(self, framed: Vectors, batch_size: int = 32) -> Vectors:
        """Encode images that `self.framing` has letterboxed.

        Args:
            framed: (n, image_size, image_size) float32 in [0, 1].
            batch_size: images that go through the network at once.

        Returns:
            (n, dim) float32 unit rows.

        Raises:
            EncoderError: the images are not framed for this encoder.
        """
        if framed.ndim != 3 or framed.shape[1:] != (self.image_size, self.image_size):
            raise EncoderError(
                f"{self.name} takes images framed to (n, {self.image_size}, {self.image_size}), "
                f"not {framed.shape}"
            )
        rows = np.zeros((len(framed), self.dim), np.float32)
        with torch.inference_mode():
            for at in range(0, len(framed), batch_size):
                features = self._model.encode_image(self._normalise(framed[at : at + batch_size]))
                rows[at : at + batch_size] = F.normalize(features.float(), dim=-1).cpu().numpy()
        return self._finite(rows, "image")

    def encode_patches(self, images: Sequence[Vectors], batch_size: int = 16) -> Patches:
        """Encode the patches of images: the network's last feature map through its projection.

        Where the network averages its map and projects linearly, the mean of an image's patch vectors
        before normalisation is its image vector before normalisation.

        Args:
            images: (height, width) float32 grey in [0, 1] each.
            batch_size: images that go through the network at once.

        Returns:
            Patches with vectors (n, gh, gw, dim).

        Raises:
            EncoderError: as `encode_images`; or the network has no feature map to project.
        """
        grids = []
        with torch.inference_mode():
            for at in range(0, max(len(images), 1), batch_size):
                pixels = self._normalise(self._frame(images[at : at + batch_size], at))
                features = patch_features(self._model, pixels)
                grids.append(F.normalize(features.float(), dim=-1).cpu().numpy())
        content_boxes = [self.framing.placement(*image.shape) for image in images]
        return Patches(np.concatenate(grids), content_boxes, self.image_size)

    def inputs(self, images: Sequence[Vectors]) -> torch.Tensor:
        """Images as input of the image tower: (n, channels, image_size, image_size), on the device.

        Raises:
            EncoderError: as `encode_images`.
        """
        return self._normalise(self._frame(images, 0))

    def encode_backbone(self, images: Sequence[Vectors], batch_size: int = 32) -> Vectors:
        """Encode images with the image backbone alone, before the head that was trained on findings.

        Args:
            images: (height, width) float32 grey in [0, 1] each.
            batch_size: images that go through the network at once.

        Returns:
            (n, channels) float32: the backbone's last feature map, averaged over the image; not normalised.

        Raises:
            EncoderError: as `encode_patches`.
        """
        rows = []
        with torch.inference_mode():
            for at in range(0, len(images), batch_size):
                pixels = self._normalise(self._frame(images[at : at + batch_size], at))
                rows.append(backbone_features(self._model, pixels).float().cpu().numpy())
        return self._finite(np.concatenate(rows), "image") if rows else np.zeros((0, 0), np.float32)

    def encode_texts(self, texts: Sequence[str], batch_size: int = 64) -> Vectors:
        """Encode texts. One longer than the context is the normalised mean of its windows' vectors.

        Args:
            texts: any length; none may be empty.
            batch_size: windows that go through the network at once; it does not change the vectors.

        Returns:
            (n, dim) float32 unit rows.

        Raises:
            EncoderError: a text is empty; the message gives its position.
        """
        if not texts:
            return np.zeros((0, self.dim), np.float32)
        owned = [
            (owner, window)
            for owner, windows in enumerate(self._tokenizer.windows(texts))
            for window in windows
        ]
        sums = np.zeros((len(texts), self.dim), np.float64)
        for owners, vectors in self._encode_windows(owned, batch_size):
            np.add.at(sums, owners, vectors)
        return unit_rows(self._finite(sums, "text")).astype(np.float32)

    def count_windows(self, texts: Sequence[str]) -> list[int]:
        """The number of windows that each text is encoded in; 1 for a text that fits the context."""
        return [len(windows) for windows in self._tokenizer.windows(texts)] if texts else []

    def _encode_windows(
        self, owned: list[tuple[int, list[int]]], batch_size: int
    ) -> Iterator[tuple[list[int], Vectors]]:
        """Unit vectors of windows with the index of their text, batched by length to save padding."""
        by_length = sorted(owned, key=lambda pair: len(pair[1]))
        with torch.inference_mode():
            for at in range(0, len(by_length), batch_size):
                batch = by_length[at : at + batch_size]
                tokens = self._tokenizer.pad([window for _, window in batch]).to(self.device)
                features = F.normalize(self._model.encode_text(tokens).float(), dim=-1)
                yield [owner for owner, _ in batch], features.cpu().numpy()

    def _frame(self, images: Sequence[Vectors], first: int) -> Vectors:
        framed = np.zeros((len(images), self.image_size, self.image_size), np.float32)
        for i, image in enumerate(images):
            if image.ndim != 2 or 0 in image.shape:
                raise EncoderError(f"image {first + i} has shape {image.shape}, not (height, width)")
            if not np.isfinite(image).all():
                raise EncoderError(f"image {first + i} holds values that are not finite")
            framed[i] = self.framing.apply(image)
        return framed

    def _normalise(self, framed: Vectors) -> torch.Tensor:
        pixels = torch.from_numpy(np.ascontiguousarray(framed, np.float32)).to(self.device)
        return (pixels.unsqueeze(1) - self._mean) / self._std

    def _finite(self, rows: NDArray[Any], what: str) -> NDArray[Any]:
        bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
        if bad.size:
            raise EncoderError(
                f"{self.name} gives no finite vector for {what} {bad[0]}; its weights are damaged"
            )
        return rows
