"""Write an encoder folder: whole or not at all."""

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import PreTrainedTokenizerBase

from corpus.errors import EncoderError
from trainer.models.card import model_card
from trainer.models.registry import Architecture
from trainer.runtime import encoder_folder as files
from trainer.runtime.pooling import is_plain

TRAINED_ON_LICENCES = "The weights were learned from the data named here; its licences bind their use."


def export_encoder(
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase | None,
    architecture: Architecture,
    record: Mapping[str, Any],
    folder: Path,
) -> Path:
    """Write an encoder folder that plain open_clip loads (`local-dir:FOLDER`), in place of one of that name.

    Args:
        model: an open_clip model of the architecture.
        tokenizer: the text tower's; None where it is open_clip's own.
        architecture: shape and preprocessing.
        record: what goes into `similarity.json`: data, subjects, configuration, metrics.
        folder: where it goes; its parent is made if need be.

    Returns:
        The folder.

    Raises:
        EncoderError: the weights are not finite, the folder holds something else, or the disk is full.
    """
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
            _write(fresh, folder, model, tokenizer, architecture, record, state)
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
) -> None:
    save_file(state, fresh / files.WEIGHTS)
    if tokenizer is not None:
        tokenizer.save_pretrained(str(fresh))
    text_config = getattr(getattr(model, "text", None), "config", None)
    if text_config is not None:
        text_config.save_pretrained(str(fresh))
    if architecture.image_trunk is not None:
        files.write_trunk(fresh, architecture.image_trunk)
    config = {"model_cfg": dict(architecture.model_cfg), "preprocess_cfg": dict(architecture.preprocess_cfg)}
    (fresh / files.CONFIG).write_text(json.dumps(files.with_paths(config, str(final)), indent=2), "utf-8")
    hashes = files.hash_files(fresh)
    whole = {
        "name": final.name,
        "architecture": architecture.name,
        "fingerprint": files.fingerprint(fresh, hashes),
        "plain_open_clip": is_plain(model),
        "licence": TRAINED_ON_LICENCES,
        **record,
        "files": hashes,
    }
    (fresh / files.RECORD).write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n", "utf-8")
    (fresh / files.CARD).write_text(model_card(whole), "utf-8")


def remove_encoder(folder: Path) -> None:
    """Delete an encoder folder; anything else is refused.

    Raises:
        EncoderError: the folder is no encoder folder.
    """
    if not (folder / files.RECORD).is_file():
        raise EncoderError(f"{folder} is no encoder folder: it has no {files.RECORD}")
    shutil.rmtree(folder)
