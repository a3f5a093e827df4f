"""SAM files as they are published, with random weights: names, shapes and, for MobileSAM, their computation.

Written down from the published modules, not from ours, so that the loader has something to be wrong about.
"""

import math
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from segment_anything import sam_model_registry
from torch import Tensor

DIMS, DEPTHS, HEADS, WINDOWS = (64, 128, 160, 320), (2, 2, 6, 2), (2, 4, 5, 10), (7, 7, 14, 7)


def decoder_state() -> dict[str, Tensor]:
    """Prompt encoder and mask decoder, the same in every SAM, by torch's own random numbers."""
    with torch.device("meta"):
        shapes = {name: t.shape for name, t in sam_model_registry["vit_b"]().state_dict().items()}
    return {
        name: torch.randn(shape) / math.sqrt(max(1, math.prod(shape[1:])))
        for name, shape in shapes.items()
        if not name.startswith("image_encoder")
    }


def mobile_sam_state(seed: int = 0, *, lite: bool = False) -> dict[str, Tensor]:
    """What `mobile_sam.pt` holds: TinyViT with its unused classifier, SAM's prompt encoder and decoder.

    `lite`: what `lite_medsam.pth` holds: a stem of 1 × 1 weights, and no classifier.
    """
    torch.manual_seed(seed)
    state: dict[str, Tensor] = {}

    def conv(name: str, inside: int, outside: int, kernel: int, groups: int = 1) -> None:
        spread = 1 / math.sqrt(inside // groups * kernel * kernel)
        state[f"{name}.c.weight"] = torch.randn(outside, inside // groups, kernel, kernel) * spread
        norm(f"{name}.bn", outside)
        state[f"{name}.bn.running_mean"] = torch.randn(outside) * 0.1
        state[f"{name}.bn.running_var"] = torch.rand(outside) + 0.5
        state[f"{name}.bn.num_batches_tracked"] = torch.tensor(7)

    def norm(name: str, width: int) -> None:
        state[f"{name}.weight"] = 1 + 0.1 * torch.randn(width)
        state[f"{name}.bias"] = 0.1 * torch.randn(width)

    def linear(name: str, inside: int, outside: int) -> None:
        state[f"{name}.weight"] = torch.randn(outside, inside) / math.sqrt(inside)
        state[f"{name}.bias"] = 0.1 * torch.randn(outside)

    top = "image_encoder"
    stem = 1 if lite else 3
    conv(f"{top}.patch_embed.seq.0", 3, DIMS[0] // 2, stem)
    conv(f"{top}.patch_embed.seq.2", DIMS[0] // 2, DIMS[0], stem)
    for layer, width in enumerate(DIMS):
        for block in range(DEPTHS[layer]):
            here = f"{top}.layers.{layer}.blocks.{block}"
            if layer == 0:
                conv(f"{here}.conv1", width, 4 * width, 1)
                conv(f"{here}.conv2", 4 * width, 4 * width, 3, groups=4 * width)
                conv(f"{here}.conv3", 4 * width, width, 1)
                continue
            state[f"{here}.attn.attention_biases"] = torch.randn(HEADS[layer], WINDOWS[layer] ** 2)
            norm(f"{here}.attn.norm", width)
            linear(f"{here}.attn.qkv", width, 3 * width)
            linear(f"{here}.attn.proj", width, width)
            norm(f"{here}.mlp.norm", width)
            linear(f"{here}.mlp.fc1", width, 4 * width)
            linear(f"{here}.mlp.fc2", 4 * width, width)
            conv(f"{here}.local_conv", width, width, 3, groups=width)
        if layer < 3:
            wider = DIMS[layer + 1]
            conv(f"{top}.layers.{layer}.downsample.conv1", width, wider, 1)
            conv(f"{top}.layers.{layer}.downsample.conv2", wider, wider, 3, groups=wider)
            conv(f"{top}.layers.{layer}.downsample.conv3", wider, wider, 1)
    if not lite:
        norm(f"{top}.norm_head", 320)
        linear(f"{top}.head", 320, 1000)
    state[f"{top}.neck.0.weight"] = torch.randn(256, 320, 1, 1) / math.sqrt(320)
    norm(f"{top}.neck.1", 256)
    state[f"{top}.neck.2.weight"] = torch.randn(256, 256, 3, 3) / math.sqrt(256 * 9)
    norm(f"{top}.neck.3", 256)
    return state | decoder_state()


def mobile_sam_features(state: Mapping[str, Tensor], pixels: Tensor) -> Tensor:
    """MobileSAM's image encoder, written as plain arithmetic on the tensors of its published file."""
    top = "image_encoder"

    def conv(name: str, x: Tensor, stride: int = 1, pad: int = 0) -> Tensor:
        weight = state[f"{name}.c.weight"]
        x = F.conv2d(x, weight, stride=stride, padding=pad, groups=x.shape[1] // weight.shape[1])
        mean, var = state[f"{name}.bn.running_mean"], state[f"{name}.bn.running_var"]
        return F.batch_norm(x, mean, var, state[f"{name}.bn.weight"], state[f"{name}.bn.bias"])

    def norm(name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"])

    def linear(name: str, x: Tensor) -> Tensor:
        return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    def bias(name: str, window: int) -> Tensor:
        offsets: dict[tuple[int, int], int] = {}
        table = torch.zeros(window**2, window**2, dtype=torch.long)
        for a in range(window**2):
            for b in range(window**2):
                offset = abs(a // window - b // window), abs(a % window - b % window)
                table[a, b] = offsets.setdefault(offset, len(offsets))
        return state[f"{name}.attention_biases"][:, table]

    def attend(name: str, x: Tensor, heads: int, table: Tensor) -> Tensor:
        n, count, width = x.shape
        q, k, v = (
            linear(f"{name}.qkv", norm(f"{name}.norm", x))
            .view(n, count, heads, -1)
            .transpose(1, 2)
            .chunk(3, -1)
        )
        weights = (q @ k.transpose(-2, -1) / math.sqrt(width // heads) + table).softmax(-1)
        return linear(f"{name}.proj", (weights @ v).transpose(1, 2).reshape(n, count, width))

    x = F.gelu(conv(f"{top}.patch_embed.seq.0", pixels, 2, 1))
    x = conv(f"{top}.patch_embed.seq.2", x, 2, 1)
    for layer in range(4):
        for block in range(DEPTHS[layer]):
            here = f"{top}.layers.{layer}.blocks.{block}"
            if layer == 0:
                y = F.gelu(conv(f"{here}.conv1", x))
                y = F.gelu(conv(f"{here}.conv2", y, pad=1))
                x = F.gelu(x + conv(f"{here}.conv3", y))
                continue
            window, (n, width, rows, columns) = WINDOWS[layer], x.shape
            padded = F.pad(x, (0, -columns % window, 0, -rows % window)).permute(0, 2, 3, 1)
            table = bias(f"{here}.attn", window)
            out = torch.zeros_like(padded)
            for top_row in range(0, padded.shape[1], window):
                for left in range(0, padded.shape[2], window):
                    tile_at = (slice(None), slice(top_row, top_row + window), slice(left, left + window))
                    tile = padded[tile_at].reshape(n, window**2, width)
                    out[tile_at] = attend(f"{here}.attn", tile, HEADS[layer], table).view(
                        n, window, window, width
                    )
            x = x + out[:, :rows, :columns].permute(0, 3, 1, 2)
            x = conv(f"{here}.local_conv", x, pad=1)
            y = norm(f"{here}.mlp.norm", x.permute(0, 2, 3, 1))
            y = linear(f"{here}.mlp.fc2", F.gelu(linear(f"{here}.mlp.fc1", y)))
            x = x + y.permute(0, 3, 1, 2)
        if layer < 3:
            here = f"{top}.layers.{layer}.downsample"
            x = F.gelu(conv(f"{here}.conv1", x))
            x = F.gelu(conv(f"{here}.conv2", x, stride=1 if layer == 2 else 2, pad=1))
            x = conv(f"{here}.conv3", x)
    for layer, pad in ((0, 0), (2, 1)):
        x = F.conv2d(x, state[f"{top}.neck.{layer}.weight"], padding=pad).permute(0, 2, 3, 1)
        weight, bias_ = state[f"{top}.neck.{layer + 1}.weight"], state[f"{top}.neck.{layer + 1}.bias"]
        x = F.layer_norm(x, x.shape[-1:], weight, bias_, eps=1e-6).permute(0, 3, 1, 2)
    return x


def write_mobile_sam(path: Path, seed: int = 0, *, lite: bool = False) -> Path:
    torch.save(mobile_sam_state(seed, lite=lite), path)
    return path


def write_vit(path: Path, kind: str) -> Path:
    """A SAM ViT file of `vit_b`, `vit_l` or `vit_h`: right in names and shapes, one number long each."""
    with torch.device("meta"):
        shapes = {name: t.shape for name, t in sam_model_registry[kind]().state_dict().items()}
    torch.save({name: torch.full((1,), 0.01).expand(shape) for name, shape in shapes.items()}, path)
    return path
