"""SAM checkpoints: the file of a name, its architecture, and the model with its weights.

ViT-B, L and H as published by segment-anything, MedSAM (the same tensors as ViT-B, other preprocessing) and
MobileSAM. The shapes in the file determine the architecture; MedSAM is recognised by its name, since nothing
else distinguishes it.

MobileSAM's image encoder is TinyViT-5M at 1024 px in place of SAM's ViT (Zhang et al., arXiv 2306.14289). The
blocks are timm's. MobileSAM changes two things in TinyViT: the last stage keeps its resolution, so that the
map has SAM's 64 × 64 cells, and SAM's neck replaces the classifier. Its published file names the same tensors
otherwise; `published_to_ours` maps the names. The file itself was never opened here: names and shapes are
those of the published module.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from segment_anything import sam_model_registry
from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from segment_anything.modeling.common import LayerNorm2d
from timm.models.tiny_vit import TinyVit
from torch import Tensor, nn

from corpus.errors import EncoderError
from trainer.models.catalog import find_published
from trainer.models.resolve import pull
from trainer.models.weights import compare_keys, load_fitting, read_weights

SQUARE = 1024
"""Pixels along each side of the square that every SAM sees."""

_VIT_WIDTH = "image_encoder.patch_embed.proj.weight"
_TINY_VIT = "image_encoder.patch_embed.seq.0.c.weight"
_VITS = {768: "vit_b", 1024: "vit_l", 1280: "vit_h"}
_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)

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


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A SAM with its weights: frozen, in evaluation mode; threads may share it.

    `model`: the network.
    `sha256`: of the file.
    `medical`: MedSAM's preprocessing: an image is stretched to the square and scaled from its minimum to its
    maximum, instead of padded and standardised.
    """

    model: Sam
    sha256: str
    medical: bool


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
        EncoderError: the file is missing, a web page, truncated, holds more than tensors, is no SAM, or has
            keys that do not fit; the keys are listed.
    """
    _require_published_size(path)
    state = read_weights(path)
    dropped: tuple[str, ...] = ()
    if _TINY_VIT in state:
        state, dropped = published_to_ours(state)
        model = assemble(TinyVitEncoder())
    elif (width := _vit_width(state)) in _VITS:
        with torch.device("meta"):  # no random initialisation of what is overwritten
            model = sam_model_registry[_VITS[width]]()
        model = model.to_empty(device="cpu")
        _restore_constants(model)
    else:
        raise EncoderError(f"{path} is no SAM file: neither ViT-B, L, H nor MobileSAM by its tensors")
    load_fitting(state, model, compare_keys(state, model, dropped), str(path))
    model = model.to(device).eval().requires_grad_(False)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Checkpoint(model, digest, medical="medsam" in name.lower())


def _require_published_size(path: Path) -> None:
    """Refuse a file with a published name and another size, before it is read."""
    known = find_published(path.name, "sam")
    if known is None or known.size is None or not path.is_file():
        return
    size = path.stat().st_size
    if size != known.size:
        raise EncoderError(
            f"{path} has {size:,} bytes, the published file {known.size:,}: it was cut off or is another; "
            f"fetch it with `similarity encoders pull {known.name}`, or give yours another name"
        )


def _vit_width(state: dict[str, Tensor]) -> int:
    weight = state.get(_VIT_WIDTH)
    return 0 if weight is None else int(weight.shape[0])


def assemble(encoder: nn.Module) -> Sam:
    """SAM around another image encoder: prompt encoder and decoder of the published sizes."""
    grid = (SQUARE // 16, SQUARE // 16)
    return Sam(
        encoder,
        PromptEncoder(
            embed_dim=256, image_embedding_size=grid, input_image_size=(SQUARE, SQUARE), mask_in_chans=16
        ),
        MaskDecoder(
            num_multimask_outputs=3,
            transformer=TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8),
            transformer_dim=256,
            iou_head_depth=3,
            iou_head_hidden_dim=256,
        ),
        pixel_mean=list(_MEAN),
        pixel_std=list(_STD),
    )


def _restore_constants(model: Any) -> None:
    """Set the constants that no file holds in a model made without values."""
    model.pixel_mean = torch.tensor(_MEAN).view(-1, 1, 1)
    model.pixel_std = torch.tensor(_STD).view(-1, 1, 1)


class TinyVitEncoder(nn.Module):
    """(n, 3, 1024, 1024) normalised pixels to (n, 256, 64, 64): what SAM's decoder takes."""

    def __init__(self) -> None:
        super().__init__()
        self.img_size = 1024
        self.trunk = TinyVit(
            embed_dims=(64, 128, 160, _WIDTH),
            depths=(2, 2, 6, 2),
            num_heads=(2, 4, 5, 10),
            window_sizes=(7, 7, 14, 7),
            num_classes=0,
            drop_path_rate=0.0,
        )
        self.trunk.head = nn.Identity()
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
    """Rename the tensors of MobileSAM's published file to those of `TinyVitEncoder` inside a SAM.

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
