"""Training of a segmenter on pseudo-labels.

Each mask is weighted by its confidence. The learning rate falls to zero and rises again, several times; the
weights at each minimum form the ensemble (snapshot ensembles: Huang et al., ICLR 2017). From the second cycle
on the target of a mask is mixed with the network's own prediction (bootstrapping: Reed et al., arXiv
1412.6596), so that errors of single masks are not memorised. At the end the threshold of each structure is
the one that agrees best with its masks.

The run's folder: `config.json`, `epochs.csv`, `checkpoints/last.pt`, and the exported `segmenter/`.
"""

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from corpus.errors import TrainingError
from corpus.files import READABLE, write_whole
from corpus.progress import OnProgress
from trainer.data.pseudo_labels import PseudoLabels, read_pseudo_labels
from trainer.models.export import export_segmenter
from trainer.runtime.device import choose_device
from trainer.runtime.segmenter import DEFAULT_THRESHOLD, ResidualUNet, Shape
from trainer.train.state import LAST, RunFolder, owned

CONFIG = "config.json"
EPOCHS = "epochs.csv"
EXPORTED = "segmenter"

_INSIDE = 4.0  # weight of a pixel inside relative to one outside, of which there are many more

THRESHOLDS = np.round(np.arange(0.1, 0.91, 0.05), 2)  # candidates

_CHUNK = 32  # images at once


@dataclass(frozen=True, slots=True)
class SegmenterConfig:
    """Settings of a segmenter's training.

    `shape`: of the network.
    `epochs`: in all.
    `cycles`: of the learning rate; each ends in a member of the ensemble.
    `batch_size`, `learning_rate`, `weight_decay`: of AdamW.
    `trust`: share of the mask in a target from the second cycle on; the rest is the network's prediction.
    `shift`, `scale`: of the augmentation, as shares of the side. There are no flips: they exchange right and
    left.
    `seed`: of all random choices.
    """

    shape: Shape = field(default_factory=Shape)
    epochs: int = 60
    cycles: int = 4
    batch_size: int = 8
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    trust: float = 0.7
    shift: float = 0.06
    scale: float = 0.1
    seed: int = 0

    @property
    def later(self) -> int:
        """Epochs of each cycle after the first."""
        return max(1, self.epochs // (2 * max(1, self.cycles - 1)))

    def __post_init__(self) -> None:
        """Refuse invalid settings."""
        if not 1 <= self.cycles <= self.epochs:
            raise TrainingError("a segmenter takes at least one cycle, and as many epochs as cycles")
        if self.batch_size < 1 or not 0 < self.learning_rate < 1:
            raise TrainingError("the batch size is 1 or more, the learning rate between 0 and 1")
        if self.shape.size % (1 << self.shape.levels) or self.shape.size < 32:
            raise TrainingError(
                f"the size is a multiple of {1 << self.shape.levels} of at least 32, not {self.shape.size}"
            )


def train_segmenter(
    masks: Path,
    out: Path,
    config: SegmenterConfig,
    on_progress: OnProgress,
    *,
    resume: bool = False,
    device: str = "auto",
) -> Path:
    """Train and export a segmenter from a folder of pseudo-labels.

    Args:
        masks: the folder with `masks.csv`.
        out: the run's folder.
        config: the settings.
        on_progress: called for each image and epoch.
        resume: continue the run in `out`; its losses are those of an uninterrupted run.
        device: auto or a torch device name.

    Returns:
        The exported folder, `out/segmenter`.

    Raises:
        TrainingError: the masks cannot be used, another process trains there, the folder holds another run,
            the loss is not finite, or the disk is full.
    """
    where = choose_device(device)
    with owned(out) as path:
        folder = RunFolder(path)
        _check_history(folder, config, resume)
        data = read_pseudo_labels(masks, config.shape.size, on_progress)
        run = _Run(config, data, folder, where)
        if resume:
            run.restore()
        while run.epoch < config.epochs:
            row = run.train_epoch()
            on_progress("train", run.epoch, config.epochs, f"loss {row['loss']:.4f}")
        thresholds = run.thresholds()
        return export_segmenter(
            run.members, data.structures, thresholds, config.shape, run.record(), path / EXPORTED
        )


def _check_history(folder: RunFolder, config: SegmenterConfig, resume: bool) -> None:
    begun = (folder.path / LAST).is_file() or (folder.path / EXPORTED).is_dir()
    if begun and not resume:
        raise TrainingError(f"{folder.path} holds a run already; go on with --resume or name another --out")
    written = json.dumps(asdict(config), indent=2, sort_keys=True)
    if not resume:
        (folder.path / EPOCHS).unlink(missing_ok=True)
        _write(folder.path / CONFIG, written)
        return
    if not (folder.path / LAST).is_file():
        raise TrainingError(f"{folder.path} has no checkpoint to resume from; run without --resume")
    try:
        before = (folder.path / CONFIG).read_text("utf-8")
    except OSError as error:
        raise TrainingError(f"{folder.path / CONFIG} cannot be read: {error.strerror}") from error
    if before != written:
        raise TrainingError(
            f"the run in {folder.path} was begun with other settings; resume with those of its {CONFIG}, "
            "or name another --out"
        )


def _write(path: Path, text: str) -> None:
    try:
        write_whole(path, text.encode(), mode=READABLE)
    except OSError as error:
        raise TrainingError(f"{path} cannot be written: {error.strerror}; free some space") from error


class _Run:
    """The state of a segmenter's training: network, optimizer, ensemble members, loss by epoch."""

    def __init__(
        self, config: SegmenterConfig, data: PseudoLabels, folder: RunFolder, device: torch.device
    ) -> None:
        self.config, self.data, self.folder, self.device = config, data, folder, device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.model = ResidualUNet(len(data.structures), config.shape.width, config.shape.levels)
        self.model.to(device)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.epoch = 0
        self.members: list[dict[str, Tensor]] = []
        self.rows: list[dict[str, float]] = []

    def train_epoch(self) -> dict[str, float]:
        """Train one epoch; store a member at the end of a cycle; save a checkpoint.

        Raises:
            TrainingError: the loss is not finite, or the disk is full.
        """
        random = np.random.default_rng([self.config.seed, self.epoch])
        order = random.permutation(len(self.data.names))
        steps = math.ceil(len(order) / self.config.batch_size)
        losses = []
        self.model.train()
        for step in range(steps):
            some = order[step * self.config.batch_size : (step + 1) * self.config.batch_size]
            self._set_rate(step / steps)
            losses.append(self._step(some, random))
        self.epoch += 1
        if self._position(self.epoch)[0] != self._position(self.epoch - 1)[0]:
            self.members.append({n: t.detach().cpu().clone() for n, t in self.model.state_dict().items()})
        row = {"epoch": self.epoch, "loss": round(float(np.mean(losses)), 6)}
        self.rows.append(row)
        self._save()
        return row

    def _position(self, epoch: float) -> tuple[int, float]:
        """The cycle at a point of the run, and the position within it in [0, 1).

        The first cycle takes half of the run, because it starts from random weights; the others share the
        rest.
        """
        cycles, epochs = self.config.cycles, self.config.epochs
        first = epochs if cycles == 1 else epochs - (cycles - 1) * self.config.later
        at = epoch / first if epoch < first else 1 + (epoch - first) / self.config.later
        return math.floor(at + 1e-9), at - math.floor(at + 1e-9)

    def _set_rate(self, within: float) -> None:
        _, along = self._position(self.epoch + within)
        rate = self.config.learning_rate * 0.5 * (1 + math.cos(math.pi * along))
        for group in self.optimizer.param_groups:
            group["lr"] = max(rate, 1e-6)

    def _step(self, some: np.ndarray, random: np.random.Generator) -> float:
        pixels, masks = self._augmented(some, random)
        weights = torch.from_numpy(self.data.weights[some]).to(self.device)
        logits = self.model(pixels)
        if self._position(self.epoch)[0] > 0:
            own = logits.detach().sigmoid()
            masks = self.config.trust * masks + (1 - self.config.trust) * own
        loss = _loss(logits, masks, weights)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(
                f"the loss is no number in epoch {self.epoch + 1}; train with a lower --learning-rate"
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return value

    def _augmented(self, some: np.ndarray, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Rotated, shifted, scaled images with changed exposure, and their masks."""
        count = len(some)
        images = torch.from_numpy(self.data.images[some]).to(self.device)[:, None].float() / 255
        masks = torch.from_numpy(self.data.masks[some]).to(self.device).float() / 255
        angle = random.uniform(-0.08, 0.08, count)
        zoom = 1 + random.uniform(-self.config.scale, self.config.scale, count)
        moved = 2 * random.uniform(-self.config.shift, self.config.shift, (count, 2))
        turn = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], -1).reshape(-1, 2, 2)
        matrix = np.concatenate([turn * zoom[:, None, None], moved[..., None]], axis=2).astype(np.float32)
        grid = F.affine_grid(
            torch.from_numpy(matrix).to(self.device), list(images.shape), align_corners=False
        )
        both = F.grid_sample(torch.cat([images, masks], dim=1), grid, align_corners=False)
        gamma = torch.from_numpy(random.uniform(0.7, 1.4, (count, 1, 1, 1)).astype(np.float32))
        exposed = both[:, :1].clamp(1e-4, 1) ** gamma.to(self.device)
        noise = torch.from_numpy(random.standard_normal(exposed.shape, np.float32)).to(self.device)
        return (exposed + 0.02 * noise).clamp(0, 1), both[:, 1:]

    def _save(self) -> None:
        self.folder.save(
            LAST,
            {
                "epoch": self.epoch,
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "members": self.members,
                "rows": self.rows,
                "structures": list(self.data.structures),
                "pictures": len(self.data.names),
            },
        )
        try:
            self.folder.forget_after(EPOCHS, "epoch", self.epoch - 1)
            row = self.rows[-1]
            self.folder.add_rows(EPOCHS, list(row), [list(row.values())])
        except OSError as error:
            raise TrainingError(f"{EPOCHS} cannot be written: {error.strerror}; free some space") from error

    def restore(self) -> None:
        """Resume from the last checkpoint.

        Raises:
            TrainingError: it is damaged, or the masks are not those of the run.
        """
        state = self.folder.load(LAST)
        try:
            same = list(state["structures"]) == list(self.data.structures)
            if not same or state["pictures"] != len(self.data.names):
                raise TrainingError("the folder of masks is not the one this run began with; train anew")
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.members, self.rows = list(state["members"]), list(state["rows"])
            self.epoch = int(state["epoch"])
        except (KeyError, ValueError, TypeError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise TrainingError(f"the checkpoint does not fit this run: {reason}; train anew") from error

    def thresholds(self) -> tuple[float, ...]:
        """The threshold of each structure that agrees best with the training masks."""
        members = []
        for state in self.members:
            member = ResidualUNet(
                len(self.data.structures), self.config.shape.width, self.config.shape.levels
            )
            member.load_state_dict(state)
            members.append(member.to(self.device).eval())
        best = ThresholdSearch(len(self.data.structures))
        for at in range(0, len(self.data.names), _CHUNK):
            some = slice(at, at + _CHUNK)
            pixels = torch.from_numpy(self.data.images[some]).to(self.device)[:, None].float() / 255
            with torch.inference_mode():
                drawn = torch.stack([member(pixels).sigmoid() for member in members]).mean(0)
            best.add(drawn.cpu().numpy(), self.data.masks[some], self.data.weights[some])
        return best.choose()

    def record(self) -> dict[str, Any]:
        """The training record for the exported folder, without paths and image names."""
        known = self.data.weights > 0
        return {
            "name": self.folder.path.name,
            "pictures": len(self.data.names),
            "masks": {
                name: {"rows": int(known[:, i].sum()), "confidence": round(_mean(self.data.weights[:, i]), 4)}
                for i, name in enumerate(self.data.structures)
            },
            "skipped": len(self.data.skipped),
            "config": asdict(self.config),
            "epochs": self.rows,
            "torch": torch.__version__,
        }


def _mean(weights: np.ndarray) -> float:
    known = weights[weights > 0]
    return float(known.mean()) if known.size else 0.0


def _loss(logits: Tensor, masks: Tensor, weights: Tensor) -> Tensor:
    """Cross-entropy of each image and structure plus soft Dice of each structure over the batch.

    Both are weighted by the confidence of each mask. Dice is computed over the batch instead of the image,
    because it is undefined (0 / 0) where a structure is absent.
    """
    rare = logits.new_tensor(_INSIDE)
    entropy = F.binary_cross_entropy_with_logits(logits, masks, reduction="none", pos_weight=rare)
    entropy = entropy.mean(dim=(2, 3))
    drawn = logits.sigmoid()
    spread = weights[..., None, None]
    shared, both = (spread * drawn * masks).sum((0, 2, 3)), (spread * (drawn + masks)).sum((0, 2, 3))
    there = (spread * masks).sum((0, 2, 3)) > 0
    dice = ((1 - 2 * shared / both.clamp(min=1e-6)) * there).sum() / there.sum().clamp(min=1)
    return (entropy * weights).sum() / weights.sum().clamp(min=1e-6) + dice


class ThresholdSearch:
    """Searches the threshold of each structure that agrees best with its masks, a batch of images at a time.

    One half fits only correct masks: masks that often miss a small structure teach a network probabilities
    below one half everywhere, which are still highest at the structure.
    """

    def __init__(self, structures: int) -> None:
        shape = structures, 2, len(THRESHOLDS)
        self._agreement, self._weight = np.zeros(shape), np.zeros(shape)

    def add(
        self, probability: NDArray[np.float32], masks: NDArray[np.uint8], weights: NDArray[np.float32]
    ) -> None:
        """Compare maps with masks.

        Args:
            probability: (n, s, size, size) in [0, 1].
            masks: of the same shape, 255 inside.
            weights: (n, s), the confidence of each mask; 0 without a label.
        """
        inside = masks > 127
        there = inside.any(axis=(2, 3)).astype(int)
        areas = inside.sum(axis=(2, 3))
        for number, threshold in enumerate(THRESHOLDS):
            drawn = probability >= threshold
            both = drawn.sum(axis=(2, 3)) + areas
            shared = (drawn & inside).sum(axis=(2, 3))
            dice = np.where(both > 0, 2 * shared / np.maximum(both, 1), 1.0)
            for kind in (0, 1):
                counted = weights * (there == kind)
                self._agreement[:, kind, number] += (counted * dice).sum(axis=0)
                self._weight[:, kind, number] += counted.sum(axis=0)

    def choose(self) -> tuple[float, ...]:
        """The threshold of each structure with the highest Dice; images with and without it weigh the same.

        The Dice of two empty masks is 1. Of equals the one nearest to `DEFAULT_THRESHOLD` is chosen.
        """
        known = self._weight > 0
        dice = np.divide(self._agreement, self._weight, out=np.zeros_like(self._agreement), where=known)
        mean = dice.sum(axis=1) / np.maximum(known.sum(axis=1), 1)
        preferred = np.argsort(np.abs(THRESHOLDS - DEFAULT_THRESHOLD), kind="stable")
        return tuple(float(THRESHOLDS[preferred[int(row[preferred].argmax())]]) for row in np.round(mean, 6))
