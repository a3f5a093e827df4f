"""Models published in open_clip's layout, such as BiomedCLIP: configuration, weights, tokenizer.

A text tower of Hugging Face must have its `config.json` in the same folder, because open_clip's configuration
only names the repository that it came from. open_clip's own text tower needs no further file.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from corpus.errors import EncoderError
from trainer.models.architecture import Architecture
from trainer.models.export import export_encoder
from trainer.models.weights import KeyReport, compare_keys, load_fitting, read_weights
from trainer.runtime.clip_model import build_model
from trainer.runtime.encoder_folder import CONFIG, TOWER_CONFIG, WEIGHTS, encoder_home, read_json, with_paths

LICENCE = "As its publisher gives it; the licences of its training data bind its use."

_FILES = (WEIGHTS, "open_clip_pytorch_model.bin", "open_clip_model.pt")
_STALE = "embeddings.position_ids"  # a buffer of older transformers; newer ones compute it


@dataclass(frozen=True, slots=True)
class Imported:
    """A published model, read.

    `report`: how its keys fit.
    `model`: filled if they do.
    `tokenizer`: of the text tower; None where it is open_clip's own.
    `architecture`: its shape.
    """

    report: KeyReport
    model: nn.Module
    tokenizer: PreTrainedTokenizerBase | None
    architecture: Architecture


def import_folder(folder: Path, name: str) -> Path:
    """Import an open_clip folder.

    Returns:
        The encoder folder `<home>/encoders/<name>`.

    Raises:
        EncoderError: a file is missing or damaged, or keys do not fit; the message lists them.
    """
    read = read_folder(folder)
    if not read.report.fits:
        raise EncoderError(f"the weights in {folder} do not fit: " + "\n".join(read.report.lines()))
    published = f"published as {name}"
    record = {"name": name, "starts": {"image": published, "text": published}, "licence": LICENCE, "data": []}
    return export_encoder(read.model.eval(), read.tokenizer, read.architecture, record, encoder_home(name))


def read_folder(folder: Path) -> Imported:
    """Read an open_clip folder into a model.

    Raises:
        EncoderError: a file is missing or damaged, or open_clip cannot build the model.
    """
    if not (folder / CONFIG).is_file():
        raise EncoderError(f"{folder} holds no open_clip model: it has no {CONFIG}")
    config = read_json(folder / CONFIG)
    weights = next((folder / file for file in _FILES if (folder / file).is_file()), None)
    if weights is None:
        raise EncoderError(f"{folder} holds no weights; one of {', '.join(_FILES)} is needed")
    cfg: dict[str, Any] = config.get("model_cfg", {})
    if cfg.get("text_cfg", {}).get("hf_model_name"):
        cfg = _with_tower_here(folder, cfg)
    architecture = Architecture(folder.name, cfg, config.get("preprocess_cfg", {}))
    state = read_weights(weights)
    try:
        tokenizer = _tokenizer(folder, cfg)
        model = build_model(with_paths({"model_cfg": cfg}, str(folder))["model_cfg"])
    except Exception as error:  # transformers and open_clip raise many kinds for one cause
        reason = " ".join(str(error).split())[:200]
        raise EncoderError(f"open_clip cannot build the model in {folder}: {reason}") from error
    stale = tuple(key for key in state if key.endswith(_STALE))
    placed = {key: value for key, value in state.items() if key not in stale}
    report = compare_keys(placed, model, stale)
    if report.fits:
        load_fitting(placed, model, report, weights.name)
    return Imported(report, model, tokenizer, architecture)


def _with_tower_here(folder: Path, cfg: dict[str, Any]) -> dict[str, Any]:
    """The configuration with the folder as source of text tower and tokenizer."""
    if not (folder / TOWER_CONFIG).is_file():
        raise EncoderError(
            f"{folder} lacks {TOWER_CONFIG}, the shape of its text tower: take it from "
            f"{cfg['text_cfg']['hf_model_name']}"
        )
    text = {**cfg["text_cfg"], "hf_tokenizer_name": "."}
    # The weights of the folder include those of the text tower.
    text.pop("hf_model_pretrained", None)
    return {**cfg, "custom_text": True, "text_cfg": text}


def _tokenizer(folder: Path, cfg: Mapping[str, Any]) -> PreTrainedTokenizerBase | None:
    if not cfg.get("text_cfg", {}).get("hf_tokenizer_name"):
        return None
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    return tokenizer
