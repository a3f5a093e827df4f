"""MobileSAM's image encoder: TinyViT-5M at 1024 px, in place of SAM's ViT (Zhang et al., arXiv 2306.14289).

The blocks are timm's; what MobileSAM changes of TinyViT is that the last stage keeps its resolution, so that
the map has SAM's 64 × 64 places, and that SAM's neck takes the place of the classifier. Its published file
names the same tensors otherwise; `published_to_ours` says how. The file itself was never opened here: names
and shapes are those of the published module.
"""

import re

from segment_anything.modeling.common import LayerNorm2d
from timm.models.tiny_vit import TinyVit
from torch import Tensor, nn

_WIDTH, _CHANNELS = 320, 256

# The classifier that stayed in the file, and index tables that older versions of the module kept in it.
_UNUSED = re.compile(r"image_encoder\.(norm_head|head)\.|.*\.attention_bias_idxs$")

_RENAMED = (
    (re.compile(r"^patch_embed\.seq\.0\."), "patch_embed.conv1."),
    (re.compile(r"^patch_embed\.seq\.2\."), "patch_embed.conv2."),
    (re.compile(r"^layers\.(\d+)\.blocks\."), r"stages.\1.blocks."),
    (re.compile(r"\.c\.weight$"), ".conv.weight"),
)
_DOWNSAMPLE = re.compile(r"^layers\.(\d+)\.downsample\.")
_PREFIX = "image_encoder."


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
        The renamed state, and the names that SAM has no use for and that were dropped.
    """
    dropped = tuple(sorted(name for name in state if _UNUSED.match(name)))
    kept = {_rename(name): tensor for name, tensor in state.items() if name not in dropped}
    return kept, dropped


def _rename(name: str) -> str:
    if not name.startswith(_PREFIX):
        return name
    inner = name.removeprefix(_PREFIX)
    if inner.startswith("neck."):
        return name
    # There a stage ends by making the next one's resolution, here a stage begins with it.
    inner = _DOWNSAMPLE.sub(lambda found: f"stages.{int(found[1]) + 1}.downsample.", inner)
    for pattern, ours in _RENAMED:
        inner = pattern.sub(ours, inner)
    return f"{_PREFIX}trunk.{inner}"
