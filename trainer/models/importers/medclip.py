"""MedCLIP's published checkpoints (Wang et al., EMNLP 2022): `pytorch_model.bin`, bare or in its zip.

A bare state dict with the names of Hugging Face's Swin-tiny or torchvision's ResNet50 under
`vision_model.model.`, of Hugging Face's BertModel under `text_model.model.`, two projections to 512 and the
logit scale. It holds no tokenizer: Bio_ClinicalBERT's `config.json` and vocabulary must lie beside it.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from corpus.errors import EncoderError
from trainer.models.architecture import Architecture, find_architecture
from trainer.models.export import export_encoder
from trainer.models.weights import KeyReport, State, compare_keys, load_fitting, read_weights
from trainer.runtime.clip_model import add_text_bias, build_model
from trainer.runtime.encoder_folder import TOWER_CONFIG, encoder_home, with_paths

LICENCE = (
    "MIT, as the code it was published with; the terms of its training data, MIMIC-CXR and CheXpert, bind "
    "its use."
)

_SWIN, _RESNET, _BERT = "vision_model.model.", "vision_model.model.", "text_model.model."
_STALE = re.compile(
    r"text_model\.model\.embeddings\.position_ids|.*\.relative_position_index|.*\.num_batches_tracked"
)
_BLOCK = re.compile(r"encoder\.layers\.(\d+)\.blocks\.(\d+)\.(.+)\.(weight|bias)")
_DOWN = re.compile(r"encoder\.layers\.(\d+)\.downsample\.(norm|reduction)\.(weight|bias)")
_QKV = ("attention.self.query", "attention.self.key", "attention.self.value")
_IN_BLOCK = {
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "attention.output.dense": "attn.proj",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
}
_OUTSIDE = {
    "embeddings.patch_embeddings.projection": "patch_embed.proj",
    "embeddings.norm": "patch_embed.norm",
    "layernorm": "norm",
}


@dataclass(frozen=True, slots=True)
class Imported:
    """A checkpoint read into an open_clip model.

    `report`: how its keys fit.
    `model`: filled if they do.
    `tokenizer`: of the text tower.
    `architecture`: its shape.
    `pooling`: of the text tower, for the record.
    """

    report: KeyReport
    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    architecture: Architecture
    pooling: str


def import_folder(folder: Path, name: str) -> Path:
    """Import the checkpoint in a folder, with the text tower's `config.json` and vocabulary beside it.

    Returns:
        The encoder folder `<home>/encoders/<name>`.

    Raises:
        EncoderError: a file is missing or no checkpoint, or keys do not fit; the message lists them.
    """
    read = read_checkpoint(find_checkpoint(folder), folder)
    if not read.report.fits:
        raise EncoderError(f"the checkpoint in {folder} does not fit: " + "\n".join(read.report.lines()))
    record = {
        "name": name,
        "starts": {"image": "MedCLIP", "text": "MedCLIP"},
        "pooling": read.pooling,
        "licence": LICENCE,
        "data": [],
    }
    return export_encoder(read.model.eval(), read.tokenizer, read.architecture, record, encoder_home(name))


def find_checkpoint(folder: Path) -> Path:
    """The checkpoint in a folder: its only .zip, .bin or .pt file.

    Raises:
        EncoderError: there is none, or more than one.
    """
    found = sorted([*folder.glob("*.zip"), *folder.glob("*.bin"), *folder.glob("*.pt")])
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise EncoderError(f"{folder} should hold one checkpoint (.zip or .bin), but holds {names}")
    return found[0]


def read_checkpoint(file: Path, text_folder: Path) -> Imported:
    """Read a checkpoint into an open_clip model.

    Args:
        file: `pytorch_model.bin` or the zip around it.
        text_folder: holds the text tower's `config.json` and its tokenizer.

    Raises:
        EncoderError: a file is missing, damaged, or no checkpoint of MedCLIP.
    """
    state = read_weights(file)
    kind = "medclip-swin" if f"{_SWIN}embeddings.norm.weight" in state else "medclip-resnet50"
    if not any(key.startswith("vision_model.") for key in state):
        raise EncoderError(f"{file.name} is not of MedCLIP: no key begins with vision_model.")
    if not (text_folder / TOWER_CONFIG).is_file():
        raise EncoderError(
            f"{text_folder} lacks the text tower's {TOWER_CONFIG}: put Bio_ClinicalBERT's config.json and "
            "vocab.txt there"
        )
    older = "text_model.projection_head.bias" in state
    architecture = _shaped(find_architecture(kind), older)
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(text_folder), local_files_only=True)
        model = build_model(with_paths({"model_cfg": architecture.model_cfg}, str(text_folder))["model_cfg"])
    except Exception as error:  # transformers and open_clip raise many kinds for one cause
        reason = " ".join(str(error).split())[:200]
        raise EncoderError(f"the text tower described in {text_folder} cannot be built: {reason}") from error
    if older:
        add_text_bias(model)
    placed, dropped = rename(state, pooler=older)
    own = model.state_dict()
    placed |= {key: own[key] for key in own if key.endswith("num_batches_tracked")}
    report = compare_keys(placed, model, dropped)
    if report.fits:
        load_fitting(placed, model, report, file.name)
    return Imported(report, model, tokenizer, architecture, "pooler" if older else "layers 1, 2 and last")


def rename(state: State, *, pooler: bool) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Rename published keys to those of open_clip.

    Args:
        state: as published.
        pooler: whether the text tower's own pooler is used (older files).

    Returns:
        The renamed state dict, and the published keys that it does not need, sorted.
    """
    ours: dict[str, Tensor] = {}
    dropped: list[str] = []
    swin = f"{_SWIN}embeddings.norm.weight" in state
    for key, value in state.items():
        unused_pooler = not pooler and key.startswith(f"{_BERT}pooler.")
        if _STALE.fullmatch(key) or unused_pooler:
            dropped.append(key)
            continue
        target_name = _target_name(key, swin)
        if target_name is not None:
            ours[target_name] = value
    for target_name, parts in _stacked(state).items():
        ours[target_name] = torch.cat(parts)
    return ours, tuple(sorted(dropped))


def _target_name(key: str, swin: bool) -> str | None:
    """open_clip's name of a published key; the key itself if unknown, None for a part of a stacked matrix."""
    fixed = {
        "logit_scale": "logit_scale",
        "vision_model.projection_head.weight": "visual.head.proj.weight",
        "vision_model.model.fc.weight": "visual.head.proj.weight",
        "text_model.projection_head.weight": "text.proj.weight",
        "text_model.projection_head.bias": "text.proj.bias",
    }
    if key in fixed:
        return fixed[key]
    if key.startswith(_BERT):
        return f"text.transformer.{key.removeprefix(_BERT)}"
    if not key.startswith(_SWIN):
        return key
    inside = key.removeprefix(_SWIN)
    if not swin:
        return f"visual.trunk.{inside}"
    target_name = _swin_target_name(inside)
    return None if target_name == "" else f"visual.trunk.{target_name}" if target_name else key


def _swin_target_name(inside: str) -> str | None:
    """timm's name of a key of Hugging Face's Swin, "" for a part of a stacked matrix, None if unknown."""
    table = re.fullmatch(
        r"encoder\.layers\.(\d+)\.blocks\.(\d+)\.attention\.self\.relative_position_bias_table", inside
    )
    if table:
        return f"layers.{table[1]}.blocks.{table[2]}.attn.relative_position_bias_table"
    block = _BLOCK.fullmatch(inside)
    if block:
        if block[3] in _QKV:
            return ""
        ours = _IN_BLOCK.get(block[3])
        return ours and f"layers.{block[1]}.blocks.{block[2]}.{ours}.{block[4]}"
    down = _DOWN.fullmatch(inside)
    if down:  # Hugging Face counts it to the stage before it, timm to the one after
        return f"layers.{int(down[1]) + 1}.downsample.{down[2]}.{down[3]}"
    name, _, leaf = inside.rpartition(".")
    return f"{_OUTSIDE[name]}.{leaf}" if name in _OUTSIDE else None


def _stacked(state: State) -> dict[str, list[Tensor]]:
    """Query, key and value of each block, which are one matrix in timm."""
    stacked: dict[str, list[Tensor]] = {}
    for prefix, stage, block, leaf in _blocks(state):
        names = [f"{prefix}.{part}.{leaf}" for part in _QKV]
        if all(name in state for name in names):
            stacked[f"visual.trunk.layers.{stage}.blocks.{block}.attn.qkv.{leaf}"] = [state[n] for n in names]
    return stacked


def _blocks(state: State) -> Iterator[tuple[str, str, str, str]]:
    for key in state:
        inside = _BLOCK.fullmatch(key.removeprefix(_SWIN))
        if inside and inside[3] == _QKV[0]:
            yield f"{_SWIN}encoder.layers.{inside[1]}.blocks.{inside[2]}", inside[1], inside[2], inside[4]


def _shaped(architecture: Architecture, older: bool) -> Architecture:
    """The architecture with the pooling of an older file."""
    if not older:
        return architecture
    config: dict[str, Any] = json.loads(json.dumps(architecture.model_cfg))
    config["text_cfg"]["hf_pooler_type"] = "cls_pooler"
    config["text_cfg"]["hf_proj_type"] = "linear"
    return replace(architecture, model_cfg=config)
