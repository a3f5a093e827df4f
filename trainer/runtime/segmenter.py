"""The segmenter: draws where structures are, learned from masks that nobody drew by hand.

A folder holds `segmenter.safetensors`, the weights of several checkpoints of one run, and `segmenter.json`:
shape, structures, how it was trained, hash of the weights. The checkpoints answer together; where they differ
is where the answer is unsure. What trains it is in `trainer.train.segmenter_loop`, which nothing here
imports.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from corpus.errors import EncoderError
from corpus.findings import VOCABULARY
from corpus.geometry import Framing
from trainer.runtime.device import choose_device
from trainer.runtime.segmenter_thresholds import PLAIN
from trainer.runtime.unet import ResidualUNet

WEIGHTS = "segmenter.safetensors"
RECORD = "segmenter.json"


@dataclass(frozen=True, slots=True)
class Shape:
    """What the network is: `size` pixels a side, `width` channels, `levels` resolutions."""

    size: int = 128
    width: int = 16
    levels: int = 4


@dataclass(frozen=True, slots=True, eq=False)
class Segmentation:
    """Maps of one picture, of its own height and width, one a structure.

    `probability`: (structures, height, width) float32 in [0, 1], the mean of the checkpoints. `uncertainty`:
    likewise, their standard deviation, in [0, 0.5].
    """

    probability: NDArray[np.float32]
    uncertainty: NDArray[np.float32]


class Segmenter:
    """Draws structures into pictures. Frozen, in evaluation mode; threads may share it.

    `structures`: what it has learned; `cuts`: from which probability a pixel is inside each of them.
    """

    def __init__(
        self,
        members: Sequence[ResidualUNet],
        structures: Sequence[str],
        cuts: Sequence[float],
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
        self.cuts = tuple(cuts)
        self.framing = Framing(size)
        self.device = device
        self._members = [member.to(device).eval().requires_grad_(False) for member in members]

    @classmethod
    def load(cls, folder: Path | str, device: str = "auto") -> "Segmenter":
        """Read a segmenter's folder, or the folder of the run that made it.

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
            cuts = [float(cut) for cut in record.get("cuts", [PLAIN] * len(structures))]
            if len(cuts) != len(structures) or not all(0 < cut < 1 for cut in cuts):
                raise ValueError("its cuts are not one for each structure")
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
            cuts,
            shape.size,
            name=str(record.get("name", path.name)),
            fingerprint=fingerprint(digest, structures, cuts, shape),
            record=record,
            device=choose_device(device),
        )

    def channel(self, phrase: str) -> int | None:
        """Which structure a phrase names: by its own name or an alias of the finding; None if none."""
        wanted = canonical(phrase)
        return next((i for i, name in enumerate(self.structures) if canonical(name) == wanted), None)

    def segment(self, images: Sequence[NDArray[np.float32]], batch_size: int = 16) -> list[Segmentation]:
        """Draw all structures into pictures.

        Args:
            images: (height, width) float32 grey in [0, 1] each; sizes may differ.
            batch_size: pictures that go through the network at once; it does not change the maps.
        """
        drawn: list[Segmentation] = []
        for at in range(0, len(images), batch_size):
            some = images[at : at + batch_size]
            framed = np.stack([self.framing.apply(image) for image in some])
            mean, deviation = self.segment_framed(framed)
            for row, image in enumerate(some):
                drawn.append(
                    Segmentation(self._over(mean[row], image.shape), self._over(deviation[row], image.shape))
                )
        return drawn

    def segment_framed(self, framed: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The same over pictures that went through `self.framing`: mean and deviation, (n, s, size, size)."""
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
    """A structure's name in the vocabulary where it is a finding, else in small letters."""
    return VOCABULARY.find(structure) or " ".join(structure.lower().replace("_", " ").split())


def fingerprint(weights_sha256: str, structures: Sequence[str], cuts: Sequence[float], shape: Shape) -> str:
    """What a segmenter is, as 64 hex digits: weights, structures, cuts, pictures."""
    decisive = [weights_sha256, list(structures), list(cuts), shape.size, "pad-to-square/bicubic; v2"]
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
