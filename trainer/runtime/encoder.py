"""The encoder: an open_clip model with everything that decides its output.

Images and texts become unit vectors in one space: the dot product of any two is their cosine. The network
runs in ONNX Runtime from the folder's exported graphs (`trainer.runtime.graph_towers`), or in torch
(`trainer.runtime.torch_towers`); both give the same vectors (cosine ≥ 1 − 1e-6). Importing this module
imports neither. `trainer.runtime.encoder_folder` describes the folder that it is read from.
"""

import importlib.util
import logging
import shlex
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from corpus.errors import EncoderError
from corpus.geometry import Framing, Placement
from corpus.settings import Settings, settings
from corpus.statistics import unit_rows
from trainer.runtime import encoder_folder as files
from trainer.runtime.tokens import WindowTokenizer

if TYPE_CHECKING:
    import torch

    from trainer.runtime.torch_towers import TorchTowers

logger = logging.getLogger(__name__)

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


class Towers(Protocol):
    """The network of an encoder, in any runtime. `framed`: (n, side, side) float32 in [0, 1]."""

    def images(self, framed: Vectors) -> Vectors:
        """(n, dim) unit rows."""

    def patches(self, framed: Vectors) -> Vectors:
        """(n, gh, gw, dim), unit along dim."""

    def images_and_patches(self, framed: Vectors) -> tuple[Vectors, Vectors]:
        """What `images` and `patches` return, in one pass."""

    def backbone(self, framed: Vectors) -> Vectors:
        """(n, channels): the backbone's last feature map, averaged over the image."""

    def texts(self, tokens: NDArray[np.int64]) -> Vectors:
        """(n, length) token ids, padded → (n, dim) unit rows."""


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
    `folder`: the encoder folder.
    `towers`: the network, in the runtime that encodes.
    """

    def __init__(self, folder: Path, record: Mapping[str, Any], towers: Towers, device: str = "auto") -> None:
        """Join a network with the tokenizer and the preprocessing of its folder.

        Args:
            folder, record, towers: as the attributes.
            device: where torch runs if `torch_towers` needs it: `auto` or a torch device name.

        Raises:
            EncoderError: the folder's configuration or tokenizer cannot be read.
        """
        config = files.read_json(folder / files.CONFIG)
        self.folder = folder
        self.record = record
        self.towers = towers
        self.name = str(record.get("name", folder.name))
        self.fingerprint = files.fingerprint(folder, record["files"])
        self.dim = int(config["model_cfg"]["embed_dim"])
        self.image_size = int(np.max(config["model_cfg"]["vision_cfg"]["image_size"]))
        self.framing = Framing(self.image_size)
        self._tokenizer = WindowTokenizer.of_folder(folder)
        self.context_length = self._tokenizer.context_length
        self._device = device
        self._torch: TorchTowers | None = None
        self._loading = threading.Lock()

    @classmethod
    def load(cls, folder: Path | str, device: str = "auto") -> "Encoder":
        """Load an encoder folder after checking that it is complete and unedited.

        The setting `SIMILARITY_RUNTIME` selects the runtime. By default the exported graphs serve where the
        folder has them and ONNX Runtime is installed, else torch.

        Args:
            folder: an encoder folder, also one that was moved, or the folder of the run that made it.
            device: `auto`, `cpu`, or another torch device name. Graphs run on the CPU, or on the execution
                providers that `SIMILARITY_EXECUTION_PROVIDERS` names; without those, another device means
                torch. In torch `auto` is cuda, then mps, then cpu.

        Raises:
            EncoderError: the folder is missing, incomplete or edited; or the device, the execution provider
                or the runtime cannot be used.
        """
        path = files.locate(Path(folder).expanduser().resolve())
        record = files.verify(path, graphs=False, weights=False)
        towers = _open_towers(path, record, device, settings())
        encoder = cls(path, record, towers, device)
        files.adopt(path)
        return encoder

    def torch_towers(self) -> "TorchTowers":
        """The network in torch, for what needs its layers; loaded once, late where graphs encode.

        Raises:
            EncoderError: the weights are missing or edited, torch is not installed, or the device cannot be
                used.
        """
        with self._loading:
            if self._torch is None:
                self._torch = _torch_towers(self.folder, self._device, self.towers)
            return self._torch

    @property
    def model(self) -> "torch.nn.Module":
        """The open_clip model, for saliency methods, which need its layers. Do not train it. Loads torch."""
        return self.torch_towers().model

    @property
    def device(self) -> "torch.device":
        """The device of `model`. Loads torch."""
        return self.torch_towers().device

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
        for at in range(0, len(framed), batch_size):
            rows[at : at + batch_size] = self.towers.images(framed[at : at + batch_size])
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
        grids = [
            self.towers.patches(self._frame(images[at : at + batch_size], at))
            for at in range(0, len(images), batch_size)
        ]
        return self._patches_of(images, grids)

    def encode_images_and_patches(
        self, images: Sequence[Vectors], batch_size: int = 16
    ) -> tuple[Vectors, Patches]:
        """Encode images as a whole and their patches, in one pass through the network.

        Args:
            images: (height, width) float32 grey in [0, 1] each.
            batch_size: images that go through the network at once.

        Returns:
            (n, dim) float32 unit rows, and patches with vectors (n, gh, gw, dim).

        Raises:
            EncoderError: as `encode_patches`.
        """
        rows = np.zeros((len(images), self.dim), np.float32)
        grids: list[Vectors] = []
        for at in range(0, len(images), batch_size):
            framed = self._frame(images[at : at + batch_size], at)
            rows[at : at + batch_size], grid = self.towers.images_and_patches(framed)
            grids.append(grid)
        return self._finite(rows, "image"), self._patches_of(images, grids)

    def _patches_of(self, images: Sequence[Vectors], grids: Sequence[Vectors]) -> Patches:
        content_boxes = [self.framing.placement(*image.shape) for image in images]
        vectors = np.concatenate(grids) if grids else np.zeros((0, 0, 0, self.dim), np.float32)
        return Patches(vectors, content_boxes, self.image_size)

    def inputs(self, images: Sequence[Vectors]) -> "torch.Tensor":
        """Images as input of `model`: (n, channels, image_size, image_size), on its device. Loads torch.

        Raises:
            EncoderError: as `encode_images` and `torch_towers`.
        """
        return self.torch_towers().inputs(self._frame(images, 0))

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
        rows = [
            self.towers.backbone(self._frame(images[at : at + batch_size], at))
            for at in range(0, len(images), batch_size)
        ]
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
        for at in range(0, len(by_length), batch_size):
            batch = by_length[at : at + batch_size]
            tokens = self._tokenizer.pad([window for _, window in batch])
            yield [owner for owner, _ in batch], self.towers.texts(tokens)

    def _frame(self, images: Sequence[Vectors], first: int) -> Vectors:
        framed = np.zeros((len(images), self.image_size, self.image_size), np.float32)
        for i, image in enumerate(images):
            if image.ndim != 2 or 0 in image.shape:
                raise EncoderError(f"image {first + i} has shape {image.shape}, not (height, width)")
            if not np.isfinite(image).all():
                raise EncoderError(f"image {first + i} holds values that are not finite")
            framed[i] = self.framing.apply(image)
        return framed

    def _finite(self, rows: NDArray[Any], what: str) -> NDArray[Any]:
        bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
        if bad.size:
            raise EncoderError(
                f"{self.name} gives no finite vector for {what} {bad[0]}; its weights are damaged"
            )
        return rows


def _open_towers(folder: Path, record: Mapping[str, Any], device: str, chosen: Settings) -> Towers:
    """The network in the runtime that the settings, the device and the folder allow."""
    exported = bool(files.listed_graphs(record))
    installed = importlib.util.find_spec("onnxruntime") is not None
    fit = device in ("auto", "cpu") or bool((chosen.execution_providers or "").strip(" ,"))
    if chosen.runtime == "onnx" and not fit:
        raise EncoderError(
            f"SIMILARITY_RUNTIME=onnx runs on the CPU, not on {device!r}: name its execution provider in "
            "SIMILARITY_EXECUTION_PROVIDERS"
        )
    if exported and installed and chosen.runtime != "torch" and fit:
        files.verify_graphs(folder, record)
        from trainer.runtime.graph_towers import GraphTowers  # late: only where it encodes

        return GraphTowers(folder, chosen.providers)
    export = f"similarity encoders export {shlex.quote(str(folder))}"
    remedy = f"run: {export}" if not exported else "install onnxruntime"
    if chosen.runtime == "onnx":
        raise EncoderError(f"SIMILARITY_RUNTIME=onnx, but ONNX Runtime cannot run {folder}: {remedy}")
    if chosen.runtime == "auto" and fit:
        logger.warning("torch runs %s; for ONNX Runtime, which is faster, %s", folder, remedy)
    return _torch_towers(folder, device)


def _torch_towers(folder: Path, device: str, towers: Towers | None = None) -> "TorchTowers":
    """The network in torch: `towers` if they are that already, else read from the folder."""
    try:
        from trainer.runtime.torch_towers import TorchTowers  # late: it imports torch, which takes seconds
    except ImportError as error:
        raise EncoderError(
            f"{folder} needs torch here, which is not installed ({error}): pip install "
            "'similarity-engine[localize]', or run `similarity encoders export` on a machine with torch"
        ) from error
    return towers if isinstance(towers, TorchTowers) else TorchTowers.of_folder(folder, device)
