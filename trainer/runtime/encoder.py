"""The encoder: an open_clip model with everything that decides its output.

Pictures and texts become unit vectors in one space, so that a dot product compares any two of them. The
model inside is plain open_clip; the folder it is read from is described in `trainer.runtime.encoder_folder`.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import nn

from corpus.errors import EncoderError
from corpus.geometry import Framing, Place
from trainer.runtime import encoder_folder as files
from trainer.runtime.device import choose_device
from trainer.runtime.feature_maps import patch_features, trunk_features
from trainer.runtime.pooling import TEXT_BIAS, add_text_bias, keep_hidden_states
from trainer.runtime.tokens import WindowTokenizer

logger = logging.getLogger(__name__)

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Patches:
    """Patch vectors of some pictures, before pooling, in the space of the picture and text vectors.

    `vectors`: (n, gh, gw, dim) float32, unit along dim. `places`: where each picture lies in the square of
    `image_size` pixels that the grid covers evenly; what is outside it is padding.
    """

    vectors: Vectors
    places: list[Place]
    image_size: int

    def inside(self, index: int) -> NDArray[np.bool_]:
        """(gh, gw) bool: the patches of picture `index` that touch the picture, not only its padding."""
        _, gh, gw, _ = self.vectors.shape
        place = self.places[index]
        top, left = np.arange(gh) * self.image_size / gh, np.arange(gw) * self.image_size / gw
        rows = (top < place.top + place.height) & (top + self.image_size / gh > place.top)
        columns = (left < place.left + place.width) & (left + self.image_size / gw > place.left)
        return np.asarray(rows[:, None] & columns[None, :])


class Encoder:
    """Turns pictures and texts into unit vectors. Frozen, in evaluation mode; threads may share it.

    A vector is the same alone or in any batch (cosine ≥ 1 − 1e-6): nothing is padded into a mean, and
    normalisation layers use their stored statistics.
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
        """Read an encoder folder; check that it is whole and unedited.

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
        """The open_clip model inside, for those who look into its layers (saliency). Do not train it."""
        return cast(nn.Module, self._model)

    def encode_images(self, images: Sequence[Vectors], batch_size: int = 32) -> Vectors:
        """Encode pictures.

        Args:
            images: (height, width) float32 grey in [0, 1] each; sizes may differ.
            batch_size: pictures that go through the network at once; it does not change the vectors.

        Returns:
            (n, dim) float32 unit rows, in the order of `images`.

        Raises:
            EncoderError: a picture has another shape or holds a value that is not finite; names its position.
        """
        rows = [
            self.encode_framed(self._frame(images[at : at + batch_size], at), batch_size)
            for at in range(0, len(images), batch_size)
        ]
        return np.concatenate(rows) if rows else np.zeros((0, self.dim), np.float32)

    def encode_framed(self, framed: Vectors, batch_size: int = 32) -> Vectors:
        """Encode pictures that already went through `self.framing`.

        Args:
            framed: (n, image_size, image_size) float32 in [0, 1].
            batch_size: pictures that go through the network at once.

        Returns:
            (n, dim) float32 unit rows.

        Raises:
            EncoderError: the pictures are not framed for this encoder.
        """
        if framed.ndim != 3 or framed.shape[1:] != (self.image_size, self.image_size):
            raise EncoderError(
                f"{self.name} takes pictures framed to (n, {self.image_size}, {self.image_size}), "
                f"not {framed.shape}"
            )
        rows = np.zeros((len(framed), self.dim), np.float32)
        with torch.inference_mode():
            for at in range(0, len(framed), batch_size):
                features = self._model.encode_image(self._normalise(framed[at : at + batch_size]))
                rows[at : at + batch_size] = F.normalize(features.float(), dim=-1).cpu().numpy()
        return self._finite(rows, "picture")

    def encode_patches(self, images: Sequence[Vectors], batch_size: int = 16) -> Patches:
        """Encode the patches of pictures: the network's last feature map through its projection.

        Where the network averages its map and projects linearly, the mean of a picture's patch vectors
        before normalisation is its picture vector before normalisation.

        Args:
            images: (height, width) float32 grey in [0, 1] each.
            batch_size: pictures that go through the network at once.

        Returns:
            Patches with vectors (n, gh, gw, dim).

        Raises:
            EncoderError: as `encode_images`; or the network has no feature map that can be projected.
        """
        grids = []
        with torch.inference_mode():
            for at in range(0, max(len(images), 1), batch_size):
                pixels = self._normalise(self._frame(images[at : at + batch_size], at))
                features = patch_features(self._model, pixels)
                grids.append(F.normalize(features.float(), dim=-1).cpu().numpy())
        places = [self.framing.place(*image.shape) for image in images]
        return Patches(np.concatenate(grids), places, self.image_size)

    def inputs(self, images: Sequence[Vectors]) -> torch.Tensor:
        """Pictures as the image tower takes them: (n, channels, image_size, image_size), on the device.

        Raises:
            EncoderError: as `encode_images`.
        """
        return self._normalise(self._frame(images, 0))

    def encode_trunk(self, images: Sequence[Vectors], batch_size: int = 32) -> Vectors:
        """What the image trunk sees in pictures, before the head that was trained to tell findings apart.

        Args:
            images: (height, width) float32 grey in [0, 1] each.
            batch_size: pictures that go through the network at once.

        Returns:
            (n, channels) float32: the trunk's last feature map, averaged over the picture; not normalised.

        Raises:
            EncoderError: as `encode_patches`.
        """
        rows = []
        with torch.inference_mode():
            for at in range(0, len(images), batch_size):
                pixels = self._normalise(self._frame(images[at : at + batch_size], at))
                rows.append(trunk_features(self._model, pixels).float().cpu().numpy())
        return self._finite(np.concatenate(rows), "picture") if rows else np.zeros((0, 0), np.float32)

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
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
        return self._finite((sums / np.maximum(norms, 1e-12)).astype(np.float32), "text")

    def count_windows(self, texts: Sequence[str]) -> list[int]:
        """How many windows each text is encoded in; 1 for a text that fits the context."""
        return [len(windows) for windows in self._tokenizer.windows(texts)] if texts else []

    def _encode_windows(
        self, owned: list[tuple[int, list[int]]], batch_size: int
    ) -> Iterator[tuple[list[int], Vectors]]:
        """Unit vectors of windows with the texts they belong to, batched by length to spare padding."""
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
                raise EncoderError(f"picture {first + i} has shape {image.shape}, not (height, width)")
            if not np.isfinite(image).all():
                raise EncoderError(f"picture {first + i} holds values that are not finite")
            framed[i] = self.framing.apply(image)
        return framed

    def _normalise(self, framed: Vectors) -> torch.Tensor:
        pixels = torch.from_numpy(np.ascontiguousarray(framed, np.float32)).to(self.device)
        return (pixels.unsqueeze(1) - self._mean) / self._std

    def _finite(self, rows: Vectors, what: str) -> Vectors:
        bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
        if bad.size:
            raise EncoderError(
                f"{self.name} gives no finite vector for {what} {bad[0]}; its weights are damaged"
            )
        return rows


def read_model(folder: Path, config: Mapping[str, Any]) -> nn.Module:
    """Build the open_clip model of a folder and load its weights, on the CPU.

    Raises:
        EncoderError: the configuration or the weights do not fit open_clip or each other.
    """
    try:
        model = build_model(files.with_paths(config, str(folder))["model_cfg"])
        with safe_open(folder / files.WEIGHTS, "pt") as held:
            if TEXT_BIAS in held.keys():  # noqa: SIM118 – no mapping, keys() is all it has
                add_text_bias(model)
        open_clip.load_checkpoint(model, str(folder / files.WEIGHTS), strict=True)
    except (RuntimeError, TypeError, KeyError, ValueError, OSError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:400]
        raise EncoderError(f"open_clip cannot build the encoder of {folder}: {reason}") from error
    return model


def build_model(model_cfg: Mapping[str, Any], *, pretrained_text: bool = False) -> nn.Module:
    """Build an open_clip model from its configuration, without reaching for weights.

    Args:
        model_cfg: open_clip's `model_cfg`; `hf_model_name` must be a folder that exists.
        pretrained_text: read the text tower's weights from that folder as well.
    """
    cfg: dict[str, Any] = {**model_cfg}
    custom = bool(cfg.pop("custom_text", False))
    cfg["vision_cfg"] = {**cfg["vision_cfg"]}
    cfg["text_cfg"] = {**cfg["text_cfg"]}
    if cfg["vision_cfg"].get("timm_model_name"):
        cfg["vision_cfg"]["timm_model_pretrained"] = False
    if cfg["text_cfg"].get("hf_model_name"):
        custom = True
        cfg["text_cfg"]["hf_model_pretrained"] = pretrained_text
    model: nn.Module = (open_clip.CustomTextCLIP if custom else open_clip.CLIP)(**cfg)
    if custom:
        keep_hidden_states(model)
    # Convolutions over pixels whose channels lie together take half the time on a CPU; the numbers stay.
    model.visual.to(memory_format=torch.channels_last)
    return model
