"""What can be trained and what has been: architectures by name or file, encoders by name or folder.

A name that others published (`trainer.models.catalog`) is brought here when it is first asked for.

Nothing here imports torch: listing must be quick.
"""

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from corpus.errors import EncoderError
from corpus.settings import settings
from trainer.models.catalog import find_known, known_names, require_known
from trainer.models.hub import is_hub_name
from trainer.runtime.encoder_folder import RECORD, locate, read_json

ENCODERS = "encoders"
_PARTS = {"note", "model_cfg", "preprocess_cfg", "image_trunk", "text_tower", "image_weights", "text_weights"}


@dataclass(frozen=True, slots=True)
class Architecture:
    """The shape of an encoder before it is trained.

    `model_cfg` and `preprocess_cfg` are open_clip's. `image_trunk`: a timm network with arguments of its own,
    `{"architecture": NAME, "model_args": {"output_stride": 8}}`, where `timm_model_name` is `local-dir:.`: a
    grid of patches finer than that network usually has. `text_tower`: configuration of a text tower from
    scratch. `image_weights`, `text_weights`: what the towers start from, in the words of
    `trainer.train.towers`.
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
    """Names of the architectures that come with the program."""
    shapes = resources.files("trainer.architectures").iterdir()
    return sorted(shape.name.removesuffix(".json") for shape in shapes if shape.name.endswith(".json"))


def find_architecture(name_or_file: str) -> Architecture:
    """Read an architecture by its name or from a JSON file.

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


def find_encoder(name_or_path: str | Path, *, download: bool = True) -> Path:
    """The folder of an encoder: a folder's path (its run's too), or a name under `<home>/encoders`.

    A published encoder, or `hf-hub:OWNER/REPOSITORY`, that is not there yet is downloaded and imported,
    unless `download` is False.

    Raises:
        EncoderError: there is no such folder or name: names the nearest known one; or a published one cannot
            be fetched: says which files to put where.
    """
    path = locate(Path(name_or_path).expanduser())
    if (path / RECORD).is_file():
        return path.resolve()
    named = locate(settings().home_folder / ENCODERS / str(name_or_path))
    if (named / RECORD).is_file():
        return named
    if is_hub_name(str(name_or_path)) or find_known(str(name_or_path), "encoder") is not None:
        from trainer.models.resolve import pull

        return pull(str(name_or_path), offline=not download)
    if path.is_dir():
        raise EncoderError(f"{path} is no encoder folder: it has no {RECORD}")
    known = list(dict.fromkeys([*(encoder.name for encoder in encoder_folders()), *known_names("encoder")]))
    near = difflib.get_close_matches(str(name_or_path), known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
    raise EncoderError(f"there is no encoder {str(name_or_path)!r}, neither a folder nor a name; {hint}")


def find_sam(name_or_file: str | Path) -> Path:
    """A SAM checkpoint: a file's path, or the name of a published one (`sam-vit-b`, `sam_vit_b_01ec64.pth`).

    A published one that is not under the home yet is downloaded.

    Raises:
        EncoderError: there is no such file or name: names the nearest known one; or a published one cannot
            be fetched: says where to put the file.
    """
    path = Path(name_or_file).expanduser()
    if path.is_file():
        return path.resolve()
    from trainer.models.resolve import pull

    return pull(require_known(str(name_or_file), "sam").name)


def encoder_folders() -> Iterator[Path]:
    """The encoder folders under the home, by name."""
    home = settings().home_folder / ENCODERS
    if home.is_dir():
        yield from sorted(f for f in map(locate, home.iterdir()) if (f / RECORD).is_file())


def describe_encoder(folder: Path) -> dict[str, Any]:
    """The record of an encoder, without loading it.

    Raises:
        EncoderError: the folder holds no readable record.
    """
    return {"path": str(folder), **read_json(folder / RECORD)}


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
