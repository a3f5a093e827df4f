"""Write an encoder's or a segmenter's folder: whole or not at all."""

import json
import logging
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from corpus.errors import EncoderError, TrainingError
from corpus.settings import settings
from trainer.models.architecture import Architecture
from trainer.models.card import model_card
from trainer.models.graphs import write_graphs
from trainer.runtime import encoder_folder as files
from trainer.runtime import segmenter
from trainer.runtime.clip_model import is_plain
from trainer.runtime.segmenter import Shape

logger = logging.getLogger(__name__)

TRAINED_ON_LICENCES = "The weights were learned from the data named here; its licences bind their use."


def export_encoder(
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase | None,
    architecture: Architecture,
    record: Mapping[str, Any],
    folder: Path,
    *,
    graphs: bool | None = None,
) -> Path:
    """Write an encoder folder that plain open_clip loads (`local-dir:FOLDER`); replace one of that name.

    Where its graphs cannot be exported, the folder is written without, and a line is logged: torch runs it.

    Args:
        model: an open_clip model of the architecture.
        tokenizer: the text tower's; None where it is open_clip's own.
        architecture: shape and preprocessing.
        record: content of `similarity.json`: data, subjects, configuration, metrics.
        folder: path of the encoder folder; missing parents are created.
        graphs: export the towers as graphs, too (`trainer.models.graphs`), which takes seconds; None: as
            `SIMILARITY_EXPORT_GRAPHS` says.

    Returns:
        The folder.

    Raises:
        EncoderError: the weights are not finite, the folder holds something else, or the disk is full.
    """
    with_graphs = settings().export_graphs if graphs is None else graphs
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    broken = [n for n, t in state.items() if t.is_floating_point() and not bool(torch.isfinite(t).all())]
    if broken:
        raise EncoderError(f"the weights are not finite ({broken[0]}); nothing was exported")
    folder = folder.expanduser().resolve()
    if folder.exists() and any(folder.iterdir()) and not (folder / files.RECORD).is_file():
        raise EncoderError(f"{folder} holds something that is no encoder; name another folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as made:
            fresh = Path(made) / "encoder"
            fresh.mkdir()
            _write(fresh, folder, model, tokenizer, architecture, record, state, with_graphs)
            if folder.exists():
                folder.rename(Path(made) / "replaced")
            fresh.rename(folder)
    except OSError as error:
        raise EncoderError(f"the encoder cannot be written to {folder}: {error}") from error
    return folder


def _write(
    fresh: Path,
    final: Path,
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase | None,
    architecture: Architecture,
    record: Mapping[str, Any],
    state: dict[str, torch.Tensor],
    graphs: bool,
) -> None:
    save_file(state, fresh / files.WEIGHTS)
    if tokenizer is not None:
        tokenizer.save_pretrained(str(fresh))
    text_config = getattr(getattr(model, "text", None), "config", None)
    if text_config is not None:
        text_config.save_pretrained(str(fresh))
    if architecture.image_trunk is not None:
        files.write_backbone_config(fresh, architecture.image_trunk)
    config = {"model_cfg": dict(architecture.model_cfg), "preprocess_cfg": dict(architecture.preprocess_cfg)}
    (fresh / files.CONFIG).write_text(json.dumps(files.with_paths(config, str(final)), indent=2), "utf-8")
    hashes = files.hash_files(fresh)
    exported = _graphs(fresh, final) if graphs else {}
    whole = {
        "name": final.name,
        "architecture": architecture.name,
        "fingerprint": files.fingerprint(fresh, hashes),
        "plain_open_clip": is_plain(model),
        "licence": TRAINED_ON_LICENCES,
        **record,
        "files": hashes,
        **({"graphs": exported} if exported else {}),
    }
    (fresh / files.RECORD).write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n", "utf-8")
    (fresh / files.CARD).write_text(model_card(whole), "utf-8")


def _graphs(fresh: Path, final: Path) -> dict[str, str]:
    """Export the graphs of a folder that is being written; {} and a line in the log where that fails."""
    try:
        return write_graphs(fresh, fresh)
    except (EncoderError, OSError) as error:  # a full disk, too: the weights may fit where the graphs do not
        shutil.rmtree(fresh / files.GRAPHS, ignore_errors=True)
        logger.warning(
            "%s is written without graphs for ONNX Runtime, so torch runs it, slower: %s", final, error
        )
        return {}


def export_segmenter(
    members: Sequence[Mapping[str, Tensor]],
    structures: Sequence[str],
    thresholds: Sequence[float],
    shape: Shape,
    record: Mapping[str, Any],
    folder: Path,
) -> Path:
    """Write a segmenter's folder; replace one of that name.

    Args:
        members: state dicts of `trainer.runtime.segmenter.ResidualUNet`, one or more: the ensemble.
        structures: names of the channels.
        thresholds: the probability from which a pixel is inside, one per structure.
        shape: of each member.
        record: further content of `segmenter.json`.
        folder: path of the segmenter's folder.

    Returns:
        The folder.

    Raises:
        TrainingError: the weights are not finite, the folder holds something else, or the disk is full.
    """
    state = {f"{n}.{name}": t.contiguous() for n, member in enumerate(members) for name, t in member.items()}
    if not all(bool(torch.isfinite(tensor).all()) for tensor in state.values()):
        raise TrainingError("the weights are not finite; nothing was exported")
    if folder.exists() and any(folder.iterdir()) and not (folder / segmenter.RECORD).is_file():
        raise TrainingError(f"{folder} holds something that is no segmenter; name another folder")
    try:
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as made:
            fresh = Path(made) / "segmenter"
            fresh.mkdir()
            save_file(state, fresh / segmenter.WEIGHTS)
            digest = segmenter.hash_weights(fresh)
            whole = {
                "name": folder.name,
                "structures": list(structures),
                "cuts": list(thresholds),
                "shape": asdict(shape),
                "members": len(members),
                "fingerprint": segmenter.fingerprint(digest, structures, thresholds, shape),
                "weights_sha256": digest,
                "licence": "The weights were learned from images and masks; their licences bind its use.",
                **record,
            }
            (fresh / segmenter.RECORD).write_text(
                json.dumps(whole, indent=2, ensure_ascii=False) + "\n", "utf-8"
            )
            if folder.exists():
                folder.rename(Path(made) / "replaced")
            fresh.rename(folder)
    except OSError as error:
        raise TrainingError(
            f"the segmenter cannot be written to {folder}: {error}; free some space"
        ) from error
    return folder
