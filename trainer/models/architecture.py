"""Architectures: the shape of an encoder before it is trained, by name or from a JSON file.

The JSON files of `trainer/architectures/` belong to the program. Nothing here imports torch: listing is
quick.
"""

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from corpus.errors import EncoderError

_PARTS = {"note", "model_cfg", "preprocess_cfg", "image_trunk", "text_tower", "image_weights", "text_weights"}


@dataclass(frozen=True, slots=True)
class Architecture:
    """The shape of an encoder before it is trained.

    `model_cfg`, `preprocess_cfg`: as in open_clip.
    `image_trunk`: a timm network with arguments of its own, such as a finer grid of patches:
    `{"architecture": NAME, "model_args": {"output_stride": 8}}`; `timm_model_name` is `local-dir:.` then.
    `text_tower`: configuration of a text tower from scratch.
    `image_weights`, `text_weights`: initial weights of the towers, as `trainer.train.towers` names them.
    `note`: a description in a line.
    """

    name: str
    model_cfg: Mapping[str, Any]
    preprocess_cfg: Mapping[str, Any]
    image_trunk: Mapping[str, Any] | None = None
    text_tower: Mapping[str, Any] | None = None
    image_weights: str | None = None
    text_weights: str | None = None
    note: str = ""


def list_architectures() -> list[str]:
    """The names of the architectures of the program."""
    shapes = resources.files("trainer.architectures").iterdir()
    return sorted(shape.name.removesuffix(".json") for shape in shapes if shape.name.endswith(".json"))


def find_architecture(name_or_file: str) -> Architecture:
    """The architecture of a name, or of a JSON file.

    Raises:
        EncoderError: no such name or file, or it is not an architecture; names the nearest known one.
    """
    known = list_architectures()
    if name_or_file in known:
        text = (resources.files("trainer.architectures") / f"{name_or_file}.json").read_text("utf-8")
        return _parse(name_or_file, text)
    path = Path(name_or_file).expanduser()
    if not path.is_file():
        near = difflib.get_close_matches(name_or_file, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}, or name a JSON file"
        raise EncoderError(f"there is no architecture {name_or_file!r}; {hint}")
    return _parse(path.stem, path.read_text("utf-8"))


def _parse(name: str, text: str) -> Architecture:
    try:
        parts = json.loads(text)
        unknown = sorted(parts.keys() - _PARTS)
        if unknown:
            raise EncoderError(
                f"the architecture {name!r} has an unknown part {unknown[0]!r}; known are {sorted(_PARTS)}"
            )
        architecture = Architecture(name=name, **parts)
        towers = (architecture.model_cfg["vision_cfg"], architecture.model_cfg["text_cfg"])
        if not all(isinstance(tower, dict) for tower in towers) or "embed_dim" not in architecture.model_cfg:
            raise KeyError("vision_cfg, text_cfg, embed_dim")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise EncoderError(
            f"{name!r} is no architecture: {error}; see trainer/architectures/*.json"
        ) from error
    return architecture
