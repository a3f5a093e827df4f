"""The encoder folder on disk: its files, their hashes, and the fingerprint that an index is bound to.

An encoder folder is what plain open_clip writes and reads (`open_clip_config.json`,
`open_clip_model.safetensors`, the tokenizer's files) together with `similarity.json`, our record of how it
was made, and `README.md`, its model card. A text tower of BERT shape makes open_clip store the folder's own
path in its configuration; that path is no part of what the encoder is, so hashes are taken without it, and
`adopt` writes the present one after a move. So does an image trunk that is built with arguments of its own
(a finer grid): timm reads them from `trunk/config.json`, by a path.
"""

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from corpus.errors import EncoderError

logger = logging.getLogger(__name__)

CONFIG = "open_clip_config.json"
WEIGHTS = "open_clip_model.safetensors"
TOWER_CONFIG = "config.json"
TRUNK = "trunk"
TRUNK_CONFIG = f"{TRUNK}/config.json"
TOKENIZER = "tokenizer.json"
RECORD = "similarity.json"
CARD = "README.md"

_UNHASHED = frozenset({RECORD, CARD})  # the record holds the hashes; the card may be edited by its owner
_PATH_FIELDS = ("hf_model_name", "hf_tokenizer_name")
_TRUNK_SOURCE = "local-dir:"  # timm's word for a model whose name and arguments stand in a folder
_HERE = "."

ENCODING_RULES = "pad-to-square/bicubic; texts in even windows on word borders, averaged; unit vectors; v1"
"""What our code adds to the network on the way to a vector. A change here changes every fingerprint."""


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        EncoderError: the file is missing, unreadable, or not a JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EncoderError(
            f"{path.name} of the encoder folder {path.parent} cannot be read: {error}; export it anew"
        ) from error
    if not isinstance(content, dict):
        raise EncoderError(f"{path} holds no JSON object; export the encoder anew")
    return content


def with_paths(config: Mapping[str, Any], here: str) -> dict[str, Any]:
    """Return a copy of an open_clip configuration whose parts outside it are read from `here`.

    These are the text tower and the tokenizer, and an image trunk with arguments of its own.
    """
    copy: dict[str, Any] = json.loads(json.dumps(config))
    text = copy.get("model_cfg", {}).get("text_cfg", {})
    for field in _PATH_FIELDS:
        if text.get(field):
            text[field] = here
    if has_trunk_config(copy):
        copy["model_cfg"]["vision_cfg"]["timm_model_name"] = f"{_TRUNK_SOURCE}{here}/{TRUNK}"
    return copy


def has_trunk_config(config: Mapping[str, Any]) -> bool:
    """Whether the image trunk of an open_clip configuration is described by a file beside it."""
    vision = config.get("model_cfg", {}).get("vision_cfg", {})
    return isinstance(vision, dict) and str(vision.get("timm_model_name")).startswith(_TRUNK_SOURCE)


def write_trunk(folder: Path, trunk: Mapping[str, Any]) -> None:
    """Write an image trunk's name and arguments where timm looks for them below an encoder folder.

    Args:
        folder: the encoder folder.
        trunk: `{"architecture": NAME, "model_args": {…}}`, as timm has it.
    """
    (folder / TRUNK).mkdir()
    content = {**trunk, "pretrained_cfg": {}}
    (folder / TRUNK_CONFIG).write_text(json.dumps(content, indent=2), "utf-8")


def hash_file(path: Path) -> str:
    """SHA-256 of a file as 64 hex digits; of an open_clip configuration, without the folder's own path."""
    if path.name == CONFIG:
        canonical = json.dumps(with_paths(read_json(path), _HERE), sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_files(folder: Path) -> dict[str, str]:
    """SHA-256 of every file that decides the encoder's output, by file name."""
    hashes = {
        path.name: hash_file(path)
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name not in _UNHASHED and not path.name.startswith(".")
    }
    if (folder / TRUNK_CONFIG).is_file():
        hashes[TRUNK_CONFIG] = hash_file(folder / TRUNK_CONFIG)
    return hashes


def fingerprint(folder: Path, hashes: Mapping[str, str]) -> str:
    """What the encoder is, as 64 hex digits: weights, preprocessing, tokenizer and pooling.

    Made from contents alone, so that a moved or renamed folder keeps it.

    Args:
        folder: the encoder folder.
        hashes: SHA-256 by file name, as `verify` or `hash_files` return them.
    """
    config = with_paths(read_json(folder / CONFIG), _HERE)
    decisive = {
        "weights": hashes[WEIGHTS],
        "model": config["model_cfg"],
        "preprocessing": config.get("preprocess_cfg", {}),
        "tokenizer": hashes.get(TOKENIZER, "open_clip"),
        "text_tower": hashes.get(TOWER_CONFIG, "open_clip"),
        "rules": ENCODING_RULES,
    }
    if TRUNK_CONFIG in hashes:
        decisive["image_trunk"] = hashes[TRUNK_CONFIG]
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def locate(path: Path) -> Path:
    """The encoder folder meant by a path: itself, or the `encoder/` inside a training run's folder."""
    inside = path / "encoder"
    return inside if not (path / RECORD).is_file() and (inside / RECORD).is_file() else path


def verify(folder: Path) -> dict[str, Any]:
    """Check that the folder is whole and unedited; return its record.

    Raises:
        EncoderError: it is no encoder folder, or a file is missing or was changed; the message names it.
    """
    if not folder.is_dir():
        raise EncoderError(
            f"there is no encoder folder {folder}; `similarity encoders list` names those known"
        )
    if not (folder / RECORD).is_file():
        raise EncoderError(f"{folder} is no encoder folder: it has no {RECORD}")
    record = read_json(folder / RECORD)
    expected = record.get("files")
    if not isinstance(expected, dict) or not {CONFIG, WEIGHTS} <= expected.keys():
        raise EncoderError(f"{RECORD} of {folder} lists no file hashes; export the encoder anew")
    for name, digest in expected.items():
        path = folder / name
        if not path.is_file():
            raise EncoderError(f"the encoder folder {folder} lacks {name}; copy it again or export anew")
        if hash_file(path) != digest:
            raise EncoderError(
                f"{name} of the encoder folder {folder} is not the file that was exported (its SHA-256 "
                f"differs); copy it again or export anew"
            )
    return record


def adopt(folder: Path) -> None:
    """Write the folder's present path into its open_clip configuration, for plain open_clip's sake.

    Our own loader does not need it, so a folder that cannot be written is left as it is.
    """
    path = folder / CONFIG
    config = read_json(path)
    adopted = with_paths(config, str(folder))
    if adopted == config:
        return
    try:
        write_text_atomic(path, json.dumps(adopted, indent=2))
    except OSError as error:
        logger.info("%s keeps the path of the folder it was moved from: %s", path, error)


def write_text_atomic(path: Path, text: str) -> None:
    """Replace a file's text at once: a reader sees the old or the new, a full disk leaves the old."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
