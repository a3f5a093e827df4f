"""Any open_clip model that a Hugging Face hub holds, by its name `hf-hub:OWNER/REPOSITORY[@REVISION]`.

The hub's own listing says which files there are, at which commit, with which SHA-256. From there on it is
something published like those that `trainer.models.catalog` names, and is brought here in the same way.
"""

import json
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corpus.errors import EncoderError
from corpus.settings import settings
from trainer.models.catalog import Known, KnownFile
from trainer.models.download import download
from trainer.runtime.encoder_folder import CONFIG, TOKENIZER, TOWER_CONFIG, WEIGHTS

PREFIX = "hf-hub:"

_NAME = re.compile(r"([\w.-]+)/([\w.-]+)(?:@([\w./-]+))?")
_WEIGHTS = (WEIGHTS, "open_clip_pytorch_model.bin")
_TOKENIZER = (
    TOKENIZER,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
)


def is_hub_name(name: str) -> bool:
    """Whether a name asks for a hub's model."""
    return name.startswith(PREFIX)


def local_name(name: str) -> str:
    """What a hub's model is called under the home: `hf-hub:OWNER/REPO@REV` → `OWNER--REPO@REV`.

    Raises:
        EncoderError: it is no name of a hub's model.
    """
    owner, repository, revision = _parts(name)
    return f"{owner}--{repository}" + (f"@{revision.replace('/', '--')}" if revision else "")


def look_up(name: str) -> Known:
    """Ask the hub what a model consists of.

    Args:
        name: `hf-hub:OWNER/REPOSITORY`, and `@REVISION` for a branch, tag or commit.

    Raises:
        Unreachable: the hub cannot be asked, or has no such model.
        EncoderError: the name is none, or what is there is no open_clip model with a tokenizer.
    """
    owner, repository, revision = _parts(name)
    model = _list(f"{owner}/{repository}", revision)
    if CONFIG not in model.files:
        raise EncoderError(f"{name} is no open_clip model: it has no {CONFIG}")
    weights = next((file for file in _WEIGHTS if file in model.files), None)
    if weights is None:
        raise EncoderError(f"{name} has no weights that open_clip reads: none of {', '.join(_WEIGHTS)}")
    text = _read_json(model.files[CONFIG].url).get("model_cfg", {}).get("text_cfg", {})
    return Known(
        name=local_name(name),
        kind="encoder",
        what=f"open_clip model {owner}/{repository}",
        source=name,
        files=(model.files[weights], model.files[CONFIG], *_text_files(model, text)),
        licence=model.licence,
        preprocessing=f"as its {CONFIG} says, padded to a square",
        importer="openclip",
    )


def how_to(name: str) -> str:
    """What to fetch and run where there is no network here."""
    owner, repository, _ = _parts(name)
    return (
        f"Where there is a network, fetch {CONFIG}, the weights and the tokenizer's files of "
        f"{settings().hub}/{owner}/{repository} into a folder, and {TOWER_CONFIG} of the text tower that "
        f"{CONFIG} names under hf_model_name; then run: similarity encoders import FOLDER --as "
        f"{local_name(name)}"
    )


@dataclass(frozen=True, slots=True)
class _Listing:
    """What a hub tells of a repository: its files by name, and their licence."""

    files: dict[str, KnownFile]
    licence: str


def _text_files(model: _Listing, text: dict[str, Any]) -> Iterator[KnownFile]:
    """The tokenizer's files and the text tower's shape, where open_clip does not have both in itself."""
    tower, words = text.get("hf_model_name"), text.get("hf_tokenizer_name")
    tower_listing = _list(tower) if tower else None
    if words:
        beside = [file for file in _TOKENIZER if file in model.files]
        holder = model if beside else tower_listing if words == tower and tower_listing else _list(words)
        yield from (holder.files[file] for file in _TOKENIZER if file in holder.files)
    if tower_listing is not None:
        if TOWER_CONFIG not in tower_listing.files:
            raise EncoderError(f"the text tower {tower} has no {TOWER_CONFIG}")
        yield tower_listing.files[TOWER_CONFIG]


def _parts(name: str) -> tuple[str, str, str | None]:
    found = _NAME.fullmatch(name.removeprefix(PREFIX))
    if found is None or not is_hub_name(name):
        raise EncoderError(f"{name!r} is no model of a hub: write {PREFIX}OWNER/REPOSITORY")
    owner, repository, revision = found.groups()
    return owner, repository, revision


def _list(repository: str, revision: str | None = None) -> _Listing:
    asked = f"{settings().hub}/api/models/{repository}"
    told = _read_json(f"{asked}/revision/{revision}?blobs=true" if revision else f"{asked}?blobs=true")
    try:
        commit = str(told["sha"])
        files = {
            str(file["rfilename"]): KnownFile(
                f"{settings().hub}/{repository}/resolve/{commit}/{file['rfilename']}",
                sha256=(file.get("lfs") or {}).get("sha256"),
                size=file.get("size"),
            )
            for file in told["siblings"]
        }
        licence = (told.get("cardData") or {}).get("license") or "not told by the hub"
    except (KeyError, TypeError, AttributeError) as error:
        raise EncoderError(f"the listing of {repository} on {settings().hub} is none: {error}") from error
    return _Listing(files, str(licence))


def _read_json(url: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        try:
            told = json.loads(download(url, Path(scratch) / "told.json").read_text(encoding="utf-8"))
        except ValueError:
            told = None
    if not isinstance(told, dict):
        raise EncoderError(f"{url.partition('?')[0]} gives no JSON object")
    return told
