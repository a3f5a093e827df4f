"""How MedCLIP makes one vector of a text's tokens, which plain open_clip does not know.

Importing this module adds it to open_clip's poolers, under the name that configurations call it by.
"""

from typing import Any

from open_clip.hf_model import register_pooler
from torch import Tensor, nn

_LAYERS = (1, 2, -1)


@register_pooler
class ThreeLayerMeanPooler(nn.Module):
    """The mean over a text's tokens of the hidden layers 1, 2 and last (MedCLIP, arXiv 2210.10163).

    The reference averages padding in, so that a text's vector depends on the texts beside it; here padding
    is left out, and the vector is the reference's of the text alone.
    """

    def forward(self, output: Any, attention_mask: Tensor) -> Tensor:
        """A Hugging Face model's output with hidden states, (n, tokens) mask → (n, width)."""
        layers = sum(output.hidden_states[layer] for layer in _LAYERS) / len(_LAYERS)
        mask = attention_mask.unsqueeze(-1).to(layers.dtype)
        mean: Tensor = (layers * mask).sum(dim=1) / mask.sum(dim=1)
        return mean


def keep_hidden_states(model: Any) -> None:
    """Have a text tower hand out its hidden layers, where its pooling asks for them."""
    if isinstance(getattr(model.text, "pooler", None), ThreeLayerMeanPooler):
        model.text.transformer.config.output_hidden_states = True


TEXT_BIAS = "text.proj.bias"


def add_text_bias(model: Any) -> None:
    """Give the text projection a bias, which MedCLIP's older files have and open_clip's layer has not."""
    plain = model.text.proj
    model.text.proj = nn.Linear(plain.in_features, plain.out_features, bias=True)


def is_plain(model: Any) -> bool:
    """Whether plain open_clip can build the model, with nothing of ours imported."""
    text: Any = getattr(model, "text", None)
    with_bias = isinstance(getattr(text, "proj", None), nn.Linear) and text.proj.bias is not None
    return not with_bias and not isinstance(getattr(text, "pooler", None), ThreeLayerMeanPooler)
