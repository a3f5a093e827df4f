"""Devices: which one a network runs on, its precision, and the settings of the process for it."""

import ctypes
import sys
from collections.abc import Callable
from functools import cache

import torch

from corpus.errors import EncoderError

# The parameters of glibc's mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_MMAP_FROM_BYTES = 1 << 30
_LARGEST = (1 << 31) - 1


def choose_device(name: str) -> torch.device:
    """Resolve `auto` (cuda, then mps, then cpu) or a torch device name.

    Raises:
        EncoderError: torch does not know the device, or it is not there.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return choose_device("cuda")
        name = "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise EncoderError(f"the device {name!r} cannot be used: {error}") from error
    if device.type == "cpu":
        keep_freed_memory()
    elif device.type == "cuda":
        compute_in_float32()
    return device


@cache
def quick_precision(device: torch.device) -> torch.dtype:
    """bfloat16 where the device multiplies in it, in half the time of float32; else float32.

    For results that need not be exact. A processor without bfloat16 emulates it in float32, which takes
    longer.
    """
    if device.type == "cuda":
        quick = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        # The oldest supported torch lacks this function.
        capabilities: Callable[[], dict[str, object]] = getattr(torch.cpu, "get_capabilities", dict)
        found = capabilities() if device.type == "cpu" else {}
        quick = bool(found.get("avx512_bf16") or found.get("amx_bf16"))
    return torch.bfloat16 if quick else torch.float32


def compute_in_float32() -> None:
    """Let an Nvidia GPU compute in full float32 precision.

    By default its convolutions round to TF32 with ten bits of mantissa: vectors would differ from those of a
    CPU, and the gradients of a backbone that learns patches from scratch need more (localize.toml).
    """
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


@cache
def keep_freed_memory() -> bool:
    """Let the allocator keep memory that a network frees instead of returning it to the system.

    By default glibc maps every activation larger than 32 MB afresh and unmaps it after use, so that the
    system zeroes each page again at every layer: measured on MobileNetV2 at 320 px, four fifths of the time.
    The process keeps its peak memory until it ends.

    Returns:
        Whether glibc accepted the settings.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False  # another C library
    return bool(mallopt(_MMAP_THRESHOLD, _MMAP_FROM_BYTES)) and bool(mallopt(_TRIM_THRESHOLD, _LARGEST))
