"""The segmenter: an ensemble of residual U-Nets trained on pseudo-labels.

Its folder holds `segmenter.safetensors`, the weights of several checkpoints of one run, and `segmenter.json`:
shape, structures, training record, hash of the weights. The ensemble's mean is the probability, its standard
deviation the uncertainty. `trainer.train.segmenter_loop` trains it.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from corpus.errors import EncoderError
from corpus.findings import VOCABULARY
from corpus.geometry import Framing
from trainer.runtime.device import choose_device

WEIGHTS = "segmenter.safetensors"
RECORD = "segmenter.json"

DEFAULT_THRESHOLD = 0.5
"""The probability from which a pixel is inside a structure, unless training chose another threshold."""

_GROUP = 8  # channels that are normalised together


@dataclass(frozen=True, slots=True)
class Shape:
    """The network: `size` pixels a side, `width` channels of the first level, `levels` resolutions."""

    size: int = 128
    width: int = 16
    levels: int = 4


class ResidualUNet(nn.Module):
    """A residual U-Net: (n, 1, size, size) grey in [0, 1] to (n, structures, size, size) logits.

    Encoder and decoder of residual blocks (Zhang et al., IEEE GRSL 15, 2018), small enough for training on
    two cores. Group normalisation makes an image's map independent of its batch. The finest level has half
    the image's resolution: at full resolution three quarters of the work would go into edges that masks from
    a saliency map do not have.

    Args:
        structures: channels out.
        width: channels of the first level; each level below has twice as many. A multiple of 8.
        levels: resolutions; the size must be divisible by two to the power of that.
    """

    def __init__(self, structures: int, width: int, levels: int) -> None:
        super().__init__()
        widths = [width << level for level in range(levels)]
        self.stem = nn.Conv2d(1, width, 5, stride=2, padding=2)
        self.down = nn.ModuleList(
            _Block(widths[max(0, level - 1)], widths[level], stride=1 if level == 0 else 2)
            for level in range(levels)
        )
        self.up = nn.ModuleList(
            _Block(widths[level + 1] + widths[level], widths[level]) for level in reversed(range(levels - 1))
        )
        self.head = nn.Conv2d(width, structures, 1)
        with torch.no_grad():
            self.head.bias.fill_(-2.0)  # type: ignore[union-attr]  # most pixels are in no structure

    def forward(self, pixels: Tensor) -> Tensor:
        """The logits of each structure."""
        features = self.stem(2 * pixels - 1)
        skipped = []
        for block in self.down:
            features = block(features)
            skipped.append(features)
        skipped.pop()
        for block in self.up:
            beside = skipped.pop()
            larger = F.interpolate(features, beside.shape[-2:], mode="bilinear", align_corners=False)
            features = block(torch.cat([larger, beside], dim=1))
        return F.interpolate(self.head(features), pixels.shape[-2:], mode="bilinear", align_corners=False)


class _Block(nn.Module):
    """Two convolutions with a residual connection."""

    def __init__(self, inside: int, outside: int, stride: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(inside, outside, 3, stride, padding=1, bias=False)
        self.first_norm = nn.GroupNorm(outside // _GROUP, outside)
        self.second = nn.Conv2d(outside, outside, 3, padding=1, bias=False)
        self.second_norm = nn.GroupNorm(outside // _GROUP, outside)
        self.around: nn.Module = nn.Identity()
        if inside != outside or stride != 1:
            self.around = nn.Conv2d(inside, outside, 1, stride, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        inner = F.relu(self.first_norm(self.first(features)))
        inner = self.second_norm(self.second(inner))
        return F.relu(inner + self.around(features))


@dataclass(frozen=True, slots=True, eq=False)
class Segmentation:
    """Maps of one image in its own height and width, one per structure.

    `probability`: (structures, height, width) float32 in [0, 1], the mean of the checkpoints.
    `uncertainty`: (structures, height, width) float32 in [0, 0.5], their standard deviation.
    """

    probability: NDArray[np.float32]
    uncertainty: NDArray[np.float32]


class Segmenter:
    """Segments structures in images. Frozen, in evaluation mode; threads may share it.

    `structures`: names of the learned structures.
    `thresholds`: the probability from which a pixel is inside, one per structure.
    """

    def __init__(
        self,
        members: Sequence[ResidualUNet],
        structures: Sequence[str],
        thresholds: Sequence[float],
        size: int,
        *,
        name: str,
        fingerprint: str,
        record: Mapping[str, Any],
        device: torch.device,
    ) -> None:
        self.name = name
        self.fingerprint = fingerprint
        self.record = record
        self.structures = tuple(structures)
        self.thresholds = tuple(thresholds)
        self.framing = Framing(size)
        self.device = device
        self._members = [member.to(device).eval().requires_grad_(False) for member in members]

    @classmethod
    def load(cls, folder: Path | str, device: str = "auto") -> "Segmenter":
        """Load a segmenter's folder, or that of the run that made it.

        Raises:
            EncoderError: the folder is missing, incomplete or edited, or the device cannot be used.
        """
        path = Path(folder).expanduser().resolve()
        inside = path / "segmenter"
        path = inside if not (path / RECORD).is_file() and (inside / RECORD).is_file() else path
        record = _read_record(path)
        try:
            shape = Shape(**record["shape"])
            structures = [str(name) for name in record["structures"]]
            thresholds = [float(value) for value in record.get("cuts", [DEFAULT_THRESHOLD] * len(structures))]
            if len(thresholds) != len(structures) or not all(0 < threshold < 1 for threshold in thresholds):
                raise ValueError("its 'cuts' are not one probability per structure")
            digest = hash_weights(path)
            state = load_file(path / WEIGHTS)
            members = _members(state, int(record["members"]), len(structures), shape)
        except (KeyError, TypeError, ValueError, RuntimeError, OSError, SafetensorError) as error:
            reason = " ".join(str(error).split())[:200]
            raise EncoderError(f"the segmenter {path} cannot be read: {reason}; train it anew") from error
        if digest != record.get("weights_sha256"):
            raise EncoderError(
                f"{WEIGHTS} of {path} is not the file that was exported (its SHA-256 differs); copy it again"
            )
        return cls(
            members,
            structures,
            thresholds,
            shape.size,
            name=str(record.get("name", path.name)),
            fingerprint=fingerprint(digest, structures, thresholds, shape),
            record=record,
            device=choose_device(device),
        )

    def channel(self, phrase: str) -> int | None:
        """The index of the structure that a phrase names (also an alias of the finding); None if none."""
        wanted = canonical(phrase)
        return next((i for i, name in enumerate(self.structures) if canonical(name) == wanted), None)

    def segment(self, images: Sequence[NDArray[np.float32]], batch_size: int = 16) -> list[Segmentation]:
        """Segment all structures in images.

        Args:
            images: (height, width) float32 grey in [0, 1] each; sizes may differ.
            batch_size: images that go through the network at once; it does not change the maps.

        Returns:
            Maps for each image, in its own height and width; none for no images.

        Raises:
            ValueError: an image is not (height, width).
        """
        segmentations: list[Segmentation] = []
        for at in range(0, len(images), batch_size):
            some = images[at : at + batch_size]
            framed = np.stack([self.framing.apply(image) for image in some])
            mean, deviation = self.segment_framed(framed)
            for row, image in enumerate(some):
                segmentations.append(
                    Segmentation(self._over(mean[row], image.shape), self._over(deviation[row], image.shape))
                )
        return segmentations

    def segment_framed(self, framed: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Segment all structures in images that `self.framing` has letterboxed.

        Args:
            framed: (n, size, size) float32 in [0, 1], n at least 1.

        Returns:
            Mean and standard deviation over the checkpoints, each (n, structures, size, size) float32.
        """
        pixels = torch.from_numpy(np.ascontiguousarray(framed, np.float32)).to(self.device)[:, None]
        with torch.inference_mode():
            votes = torch.stack([member(pixels).sigmoid() for member in self._members])
        mean, deviation = votes.mean(0), votes.std(0, correction=0)
        return mean.cpu().numpy(), deviation.cpu().numpy()

    def _over(self, maps: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
        height, width = shape
        undone = [self.framing.undo(one, height, width) for one in maps]
        return np.clip(np.stack(undone), np.float32(0), np.float32(1))


def canonical(structure: str) -> str:
    """A structure's name: the vocabulary's where it is a finding, else in lower case with single blanks."""
    return VOCABULARY.find(structure) or " ".join(structure.lower().replace("_", " ").split())


def fingerprint(
    weights_sha256: str, structures: Sequence[str], thresholds: Sequence[float], shape: Shape
) -> str:
    """The fingerprint of a segmenter, 64 hex digits: of its weights, structures, thresholds and input."""
    decisive = [weights_sha256, list(structures), list(thresholds), shape.size, "pad-to-square/bicubic; v2"]
    return hashlib.sha256(json.dumps(decisive).encode()).hexdigest()


def hash_weights(folder: Path) -> str:
    """SHA-256 of a segmenter's weights, 64 hex digits."""
    with (folder / WEIGHTS).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _members(state: Mapping[str, Tensor], count: int, structures: int, shape: Shape) -> list[ResidualUNet]:
    members = []
    for number in range(count):
        member = ResidualUNet(structures, shape.width, shape.levels)
        prefix = f"{number}."
        own = {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}
        member.load_state_dict(own, strict=True)
        members.append(member)
    if not members:
        raise ValueError("it holds no checkpoint")
    return members


def _read_record(folder: Path) -> dict[str, Any]:
    try:
        record = json.loads((folder / RECORD).read_text("utf-8"))
    except OSError as error:
        raise EncoderError(f"{folder} is no segmenter's folder: it has no {RECORD}") from error
    except ValueError as error:
        raise EncoderError(f"{RECORD} of {folder} is no JSON; copy it again") from error
    if not isinstance(record, dict):
        raise EncoderError(f"{RECORD} of {folder} is no JSON object; copy it again")
    return record
