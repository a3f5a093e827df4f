"""Any open_clip model of a Hugging Face hub, by its name `hf-hub:OWNER/REPOSITORY[@REVISION]`.

The hub's listing gives the files, their commit and their SHA-256. The result is a `PublishedModel` like those
of `trainer.models.catalog`, and is pulled in the same way.
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
from trainer.models.catalog import PublishedFile, PublishedModel
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
    """Whether a name is that of a hub's model."""
    return name.startswith(PREFIX)


def local_name(name: str) -> str:
    """The name of a hub's model under the home: `hf-hub:OWNER/REPO@REV` → `OWNER--REPO@REV`.

    Raises:
        EncoderError: the name is not that of a hub's model.
    """
    owner, repository, revision = _parts(name)
    return f"{owner}--{repository}" + (f"@{revision.replace('/', '--')}" if revision else "")


def look_up(name: str) -> PublishedModel:
    """Look up the files of a hub's model.

    Args:
        name: `hf-hub:OWNER/REPOSITORY`, and `@REVISION` for a branch, tag or commit.

    Raises:
        Unreachable: the hub cannot be reached, or has no such model.
        EncoderError: the name is malformed, or the repository holds no open_clip model with a tokenizer.
    """
    owner, repository, revision = _parts(name)
    model = _list(f"{owner}/{repository}", revision)
    if CONFIG not in model.files:
        raise EncoderError(f"{name} is no open_clip model: it has no {CONFIG}")
    weights = next((file for file in _WEIGHTS if file in model.files), None)
    if weights is None:
        raise EncoderError(f"{name} has no weights that open_clip reads: none of {', '.join(_WEIGHTS)}")
    text = _read_json(model.files[CONFIG].url).get("model_cfg", {}).get("text_cfg", {})
    return PublishedModel(
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
    """Which files to fetch elsewhere and which command to run then, for a machine without a network."""
    owner, repository, _ = _parts(name)
    return (
        f"Where there is a network, fetch {CONFIG}, the weights and the tokenizer's files of "
        f"{settings().hub}/{owner}/{repository} into a folder, and {TOWER_CONFIG} of the text tower that "
        f"{CONFIG} names under hf_model_name; then run: similarity encoders import FOLDER --as "
        f"{local_name(name)}"
    )


@dataclass(frozen=True, slots=True)
class _Listing:
    """A hub's listing of a repository: its files by name, and their licence."""

    files: dict[str, PublishedFile]
    licence: str


def _text_files(model: _Listing, text: dict[str, Any]) -> Iterator[PublishedFile]:
    """The tokenizer's files and the text tower's configuration, unless both are open_clip's own."""
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
    address = f"{settings().hub}/api/models/{repository}"
    listing = _read_json(f"{address}/revision/{revision}?blobs=true" if revision else f"{address}?blobs=true")
    try:
        commit = str(listing["sha"])
        files = {
            str(file["rfilename"]): PublishedFile(
                f"{settings().hub}/{repository}/resolve/{commit}/{file['rfilename']}",
                sha256=(file.get("lfs") or {}).get("sha256"),
                size=file.get("size"),
            )
            for file in listing["siblings"]
        }
        licence = (listing.get("cardData") or {}).get("license") or "not given by the hub"
    except (KeyError, TypeError, AttributeError) as error:
        raise EncoderError(
            f"the listing of {repository} on {settings().hub} is malformed: {error}"
        ) from error
    return _Listing(files, str(licence))


def _read_json(url: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        try:
            answer = json.loads(download(url, Path(scratch) / "answer.json").read_text(encoding="utf-8"))
        except ValueError:
            answer = None
    if not isinstance(answer, dict):
        raise EncoderError(f"{url.partition('?')[0]} gives no JSON object")
    return answer
