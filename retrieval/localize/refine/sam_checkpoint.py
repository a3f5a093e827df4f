"""SAM checkpoints: which architecture a file holds, and the model with its weights.

ViT-B, L and H as published by segment-anything, MedSAM (the same tensors as ViT-B, other pictures) and
MobileSAM. The architecture is told by the shapes in the file; MedSAM by its name, since nothing else does.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from segment_anything import sam_model_registry
from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from torch import Tensor, nn

from corpus.errors import EncoderError
from retrieval.localize.refine.mobile_sam import TinyVitEncoder, published_to_ours
from trainer.models.catalog import find_known
from trainer.models.weights import compare_keys, load_fitting, read_weights

SQUARE = 1024
"""Pixels along each side of the square that every SAM sees."""

_VIT_WIDTH = "image_encoder.patch_embed.proj.weight"
_TINY_VIT = "image_encoder.patch_embed.seq.0.c.weight"
_VITS = {768: "vit_b", 1024: "vit_l", 1280: "vit_h"}
_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A SAM with its weights: frozen, in evaluation mode; threads may share it.

    `sha256`: of the file. `medical`: MedSAM's way with pictures: stretched to the square, each from its least
    to its greatest value, instead of padded and standardised.
    """

    model: Sam
    sha256: str
    medical: bool


def load_checkpoint(path: Path, name: str, device: torch.device) -> Checkpoint:
    """Read a SAM file. Code in it is never run.

    Args:
        path: the file, under whatever name.
        name: the known one's, or the file's without ending.
        device: where it will run.

    Raises:
        EncoderError: the file is missing, a web page, cut off, holds more than tensors, is no SAM, or has
            keys that do not fit; these are listed.
    """
    _require_published_size(path)
    state = read_weights(path)
    dropped: tuple[str, ...] = ()
    if _TINY_VIT in state:
        state, dropped = published_to_ours(state)
        model = assemble(TinyVitEncoder())
    elif (width := _vit_width(state)) in _VITS:
        with torch.device("meta"):  # no time for random numbers that are overwritten
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
    """A file that bears a published name has the published size, or is refused before it is read."""
    known = find_known(path.name, "sam")
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
    places = (SQUARE // 16, SQUARE // 16)
    return Sam(
        encoder,
        PromptEncoder(
            embed_dim=256, image_embedding_size=places, input_image_size=(SQUARE, SQUARE), mask_in_chans=16
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
    """Give a model made without values the constants that are in no file."""
    model.pixel_mean = torch.tensor(_MEAN).view(-1, 1, 1)
    model.pixel_std = torch.tensor(_STD).view(-1, 1, 1)
