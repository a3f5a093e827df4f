"""The open_clip model of an encoder folder: built from its configuration, filled with its weights.

Importing this module adds MedCLIP's text pooling to open_clip's poolers and the backbone of several levels
(`trainer.runtime.multilevel`) to timm's networks, under the names that configurations call them by; plain
open_clip does not know them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.hf_model import register_pooler
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from corpus.errors import EncoderError
from trainer.runtime import encoder_folder as files
from trainer.runtime.multilevel import MultiLevel

TEXT_BIAS = "text.proj.bias"

_LAYERS = (1, 2, -1)


@register_pooler
class ThreeLayerMeanPooler(nn.Module):
    """The mean over a text's tokens of the hidden layers 1, 2 and last (MedCLIP, arXiv 2210.10163).

    The reference includes padding in the mean, so that a text's vector depends on the other texts of its
    batch. Padding is excluded here: the vector is the reference's of the text alone.
    """

    def forward(self, output: Any, attention_mask: Tensor) -> Tensor:
        """A Hugging Face model's output with hidden states, (n, tokens) mask → (n, width)."""
        layers = sum(output.hidden_states[layer] for layer in _LAYERS) / len(_LAYERS)
        mask = attention_mask.unsqueeze(-1).to(layers.dtype)
        mean: Tensor = (layers * mask).sum(dim=1) / mask.sum(dim=1)
        return mean


def keep_hidden_states(model: Any) -> None:
    """Let a text tower output its hidden layers where its pooling needs them."""
    if isinstance(getattr(model.text, "pooler", None), ThreeLayerMeanPooler):
        model.text.transformer.config.output_hidden_states = True


def add_text_bias(model: Any) -> None:
    """Give the text projection a bias, which MedCLIP's older files have and open_clip's layer lacks."""
    plain = model.text.proj
    model.text.proj = nn.Linear(plain.in_features, plain.out_features, bias=True)


def is_plain(model: Any) -> bool:
    """Whether plain open_clip can build the model without this package."""
    text: Any = getattr(model, "text", None)
    with_bias = isinstance(getattr(text, "proj", None), nn.Linear) and text.proj.bias is not None
    backbone: Any = getattr(model.visual, "trunk", None)
    of_ours = isinstance(getattr(text, "pooler", None), ThreeLayerMeanPooler) or isinstance(
        backbone, MultiLevel
    )
    return not with_bias and not of_ours


def read_model(folder: Path, config: Mapping[str, Any]) -> nn.Module:
    """Build the open_clip model of a folder and load its weights, on the CPU.

    Raises:
        EncoderError: the configuration or the weights do not fit open_clip or each other.
    """
    try:
        model = build_model(files.with_paths(config, str(folder))["model_cfg"])
        with safe_open(folder / files.WEIGHTS, "pt") as weights:
            if TEXT_BIAS in weights.keys():  # noqa: SIM118 – not a mapping: it has keys() only
                add_text_bias(model)
        open_clip.load_checkpoint(model, str(folder / files.WEIGHTS), strict=True)
    except (RuntimeError, TypeError, KeyError, ValueError, OSError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:400]
        raise EncoderError(f"open_clip cannot build the encoder of {folder}: {reason}") from error
    return model


def build_model(model_cfg: Mapping[str, Any], *, pretrained_text: bool = False) -> nn.Module:
    """Build an open_clip model from its configuration, without downloading weights.

    Args:
        model_cfg: open_clip's `model_cfg`; `hf_model_name` must be a folder that exists.
        pretrained_text: read the text tower's weights from that folder as well.
    """
    cfg: dict[str, Any] = {**model_cfg}
    custom = bool(cfg.pop("custom_text", False))
    cfg["vision_cfg"] = {**cfg["vision_cfg"]}
    cfg["text_cfg"] = {**cfg["text_cfg"]}
    if cfg["vision_cfg"].get("timm_model_name"):
        cfg["vision_cfg"]["timm_model_pretrained"] = False
    if cfg["text_cfg"].get("hf_model_name"):
        custom = True
        cfg["text_cfg"]["hf_model_pretrained"] = pretrained_text
    model: nn.Module = (open_clip.CustomTextCLIP if custom else open_clip.CLIP)(**cfg)
    if custom:
        keep_hidden_states(model)
    # On a CPU convolutions take half the time in this memory layout; the numbers stay.
    model.visual.to(memory_format=torch.channels_last)
    return model
