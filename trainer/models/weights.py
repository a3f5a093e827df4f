"""Weights from a file: read without running code in it, and compared with a model key by key."""

import io
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from corpus.errors import EncoderError

_PAGE = (b"<!doctype html", b"<html")
_TORCH = (b"PK\x03\x04", b"\x80")  # a zip, or the pickle of older files
_WEIGHTS = "pytorch_model.bin"
_UNFIT = ("missing", "extra", "misshaped", "not_finite")

State = Mapping[str, Tensor]


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict from a `.safetensors` or torch file, or from the `pytorch_model.bin` in a zip.

    Raises:
        EncoderError: the file is missing, a web page, truncated, holds code, or is no state dict.
    """
    state = read_saved(path)
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise EncoderError(f"{path} is no state dict: it should hold tensors by name")
    return state


def read_saved(path: Path) -> Any:
    """Read a file of `torch.save` or safetensors: tensors and plain values. Code in it is never run.

    Raises:
        EncoderError: the file is missing, a web page, of another kind, truncated, or holds code.
    """
    plain = path.suffix == ".safetensors"
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as error:
        raise EncoderError(f"the weights {path} cannot be read: {error.strerror}") from error
    if start.lstrip().lower().startswith(_PAGE):
        raise EncoderError(f"{path} is a web page, not weights: the download went to a login or error page")
    if not start:
        raise EncoderError(f"{path} is empty: copy it again from where it came")
    if not plain and not start.startswith(_TORCH):
        raise EncoderError(f"{path} is no file of weights: neither torch nor .safetensors wrote it")
    try:
        return load_file(path) if plain else _load(path)
    except pickle.UnpicklingError as error:
        raise EncoderError(
            f"{path} holds more than tensors: code in a checkpoint is never run; ask for safetensors"
        ) from error
    except Exception as error:  # zip, pickle and safetensors raise many kinds for one cause
        reason = " ".join(str(error).split())[:200]
        raise EncoderError(f"{path} cannot be read as weights, it may be cut off: {reason}") from error


def _load(path: Path) -> Any:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            inside = [name for name in archive.namelist() if name.rpartition("/")[2] == _WEIGHTS]
            if inside:
                content = io.BytesIO(archive.read(inside[0]))
                return torch.load(content, map_location="cpu", weights_only=True)
    return torch.load(path, map_location="cpu", weights_only=True)


@dataclass(frozen=True, slots=True)
class KeyReport:
    """How a checkpoint's keys fit a model.

    `placed`: number of keys that fit.
    `missing`, `extra`: keys of the model only, of the checkpoint only.
    `misshaped`, `not_finite`: keys of both with another shape, with values that are not finite.
    `dropped`: keys of the checkpoint that the model is known not to need.
    """

    placed: int
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    misshaped: tuple[str, ...] = ()
    not_finite: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether every key fits."""
        return not (self.missing or self.extra or self.misshaped or self.not_finite)

    def brief(self) -> str:
        """A short summary of the keys that do not fit: how many of each kind, and the first three."""
        unfit = {kind.replace("_", " "): getattr(self, kind) for kind in _UNFIT}
        return "; ".join(
            f"{kind} {len(keys)} ({', '.join(keys[:3])}{', …' if len(keys) > 3 else ''})"
            for kind, keys in unfit.items()
            if keys
        )

    def lines(self) -> list[str]:
        """The report, a line each kind and key."""
        lines = [f"{self.placed} keys placed"]
        for kind in (*_UNFIT, "dropped"):
            keys = getattr(self, kind)
            if keys:
                lines += [f"{len(keys)} {kind.replace('_', ' ')}:", *(f"  {key}" for key in keys)]
        return lines


def compare_keys(state: State, model: torch.nn.Module, dropped: tuple[str, ...] = ()) -> KeyReport:
    """Compare a state dict with that of a model."""
    own = model.state_dict()
    both = own.keys() & state.keys()
    misshaped = sorted(
        f"{key} {tuple(state[key].shape)}, not {tuple(own[key].shape)}"
        for key in both
        if own[key].shape != state[key].shape
    )
    broken = sorted(
        key for key in both if state[key].is_floating_point() and not bool(torch.isfinite(state[key]).all())
    )
    return KeyReport(
        len(both) - len(misshaped),
        tuple(sorted(own.keys() - state.keys())),
        tuple(sorted(state.keys() - own.keys())),
        tuple(misshaped),
        tuple(broken),
        dropped,
    )


def load_fitting(state: State, model: torch.nn.Module, report: KeyReport, what: str) -> None:
    """Load a state dict that fits a model.

    Raises:
        EncoderError: a key is missing, extra, misshaped or not finite; the message lists all of them.
    """
    if not report.fits:
        raise EncoderError(f"{what} does not fit: " + "\n".join(report.lines()))
    model.load_state_dict(dict(state), strict=True)
