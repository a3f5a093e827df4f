"""The encoder folder on disk: its files, their hashes, and the fingerprint that an index is bound to.

An encoder folder holds the files of plain open_clip (`open_clip_config.json`, `open_clip_model.safetensors`,
the tokenizer's files), `similarity.json`, the record of its training, and `README.md`, its model card.
`graphs/` holds the towers once more as ONNX graphs, which run without torch. They are made from the weights
and may be made anew: the record lists them apart, and the fingerprint does not depend on them.

With a BERT text tower, or with an image backbone that has arguments of its own (a finer grid, which timm
reads from `trunk/config.json`), open_clip's configuration contains the path of the folder. The path does not
belong to the encoder: hashes exclude it, and `adopt` updates it after a move.
"""

import hashlib
import json
import logging
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from corpus.errors import EncoderError
from corpus.files import READABLE, write_whole
from corpus.settings import settings

logger = logging.getLogger(__name__)

ENCODERS = "encoders"
CONFIG = "open_clip_config.json"
WEIGHTS = "open_clip_model.safetensors"
TOWER_CONFIG = "config.json"
BACKBONE = "trunk"
BACKBONE_CONFIG = f"{BACKBONE}/config.json"
TOKENIZER = "tokenizer.json"
GRAPHS = "graphs"
IMAGE_GRAPH = f"{GRAPHS}/image.onnx"
PATCH_GRAPH = f"{GRAPHS}/patches.onnx"  # where the image tower has a feature map
TEXT_GRAPH = f"{GRAPHS}/text.onnx"
OWN_TOKENIZER = f"{GRAPHS}/{TOKENIZER}"  # of open_clip, where the folder has no vocabulary of its own
RECORD = "similarity.json"
CARD = "README.md"

_UNHASHED = frozenset({RECORD, CARD})  # the record holds the hashes; the card may be edited by its owner
_PATH_FIELDS = ("hf_model_name", "hf_tokenizer_name")
_LOCAL_FOLDER = "local-dir:"  # timm's prefix for a model described in a folder
_HERE = "."

ENCODING_RULES = "pad-to-square/bicubic; texts in even windows on word borders, averaged; unit vectors; v1"
"""Our own steps from item to vector. A change here changes every fingerprint."""


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
    """A copy of an open_clip configuration with `here` as the path of every part outside it.

    These parts are the text tower, the tokenizer, and an image backbone with arguments of its own.
    """
    copy: dict[str, Any] = json.loads(json.dumps(config))
    text = copy.get("model_cfg", {}).get("text_cfg", {})
    for field in _PATH_FIELDS:
        if text.get(field):
            text[field] = here
    if has_backbone_config(copy):
        copy["model_cfg"]["vision_cfg"]["timm_model_name"] = f"{_LOCAL_FOLDER}{here}/{BACKBONE}"
    return copy


def has_backbone_config(config: Mapping[str, Any]) -> bool:
    """Whether a separate file describes the image backbone of an open_clip configuration."""
    vision = config.get("model_cfg", {}).get("vision_cfg", {})
    return isinstance(vision, dict) and str(vision.get("timm_model_name")).startswith(_LOCAL_FOLDER)


def write_backbone_config(folder: Path, backbone: Mapping[str, Any]) -> None:
    """Write an image backbone's name and arguments to `trunk/config.json` of an encoder folder, for timm.

    Args:
        folder: the encoder folder.
        backbone: `{"architecture": NAME, "model_args": {…}}`, as timm has it.
    """
    (folder / BACKBONE).mkdir()
    content = {**backbone, "pretrained_cfg": {}}
    (folder / BACKBONE_CONFIG).write_text(json.dumps(content, indent=2), "utf-8")


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
    if (folder / BACKBONE_CONFIG).is_file():
        hashes[BACKBONE_CONFIG] = hash_file(folder / BACKBONE_CONFIG)
    return hashes


def fingerprint(folder: Path, hashes: Mapping[str, str]) -> str:
    """The fingerprint of an encoder, 64 hex digits: of its weights, preprocessing, tokenizer and pooling.

    It depends on contents alone: a moved or renamed folder keeps it.

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
    if BACKBONE_CONFIG in hashes:
        decisive["image_trunk"] = hashes[BACKBONE_CONFIG]
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def encoder_home(name: str) -> Path:
    """The folder of an encoder of that name under the home: `<home>/encoders/<name>`."""
    return settings().home_folder / ENCODERS / name


def locate(path: Path) -> Path:
    """The encoder folder at a path: the path itself, or the `encoder/` of a training run's folder."""
    inside = path / "encoder"
    return inside if not (path / RECORD).is_file() and (inside / RECORD).is_file() else path


def verify(folder: Path, *, graphs: bool = True, weights: bool = True) -> dict[str, Any]:
    """Check that an encoder folder is complete and unedited; return its record.

    Args:
        folder: the encoder folder.
        graphs: check the exported graphs that the record lists, too.
        weights: read the weights for it, too; False for a caller that does not load them.

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
    unread = frozenset() if weights else frozenset({WEIGHTS})
    _compare(folder, expected, "copy it again or export anew", unread)
    if graphs:
        verify_graphs(folder, record)
    return record


def verify_graphs(folder: Path, record: Mapping[str, Any]) -> None:
    """Check that the exported graphs that a record lists are there and unedited.

    Raises:
        EncoderError: one is missing or was changed; names it and the command that makes it anew.
    """
    _compare(folder, listed_graphs(record), f"run: similarity encoders export {shlex.quote(str(folder))}")


def listed_graphs(record: Mapping[str, Any]) -> dict[str, str]:
    """SHA-256 of the exported graphs of a record and the files beside them, by path within the folder.

    Empty where there are none, as in folders of earlier versions.

    Raises:
        EncoderError: the record is damaged.
    """
    listed = record.get("graphs", {})
    if not isinstance(listed, dict) or (listed and not {IMAGE_GRAPH, TEXT_GRAPH} <= listed.keys()):
        raise EncoderError(f"{RECORD} has a damaged list of graphs; run `similarity encoders export --force`")
    return listed


def _compare(
    folder: Path, expected: Mapping[str, str], remedy: str, unread: frozenset[str] = frozenset()
) -> None:
    """Compare files with their SHA-256; those in `unread` need only be there."""
    for name, digest in expected.items():
        path = folder / name
        if not path.is_file():
            raise EncoderError(f"the encoder folder {folder} lacks {name}; {remedy}")
        if name not in unread and hash_file(path) != digest:
            raise EncoderError(
                f"{name} of the encoder folder {folder} is not the file that was exported (its SHA-256 "
                f"differs); {remedy}"
            )


def adopt(folder: Path) -> None:
    """Write the folder's present path into its open_clip configuration, so that plain open_clip loads it.

    Our own loader does not need the path: a read-only folder is left as it is.
    """
    path = folder / CONFIG
    config = read_json(path)
    adopted = with_paths(config, str(folder))
    if adopted == config:
        return
    try:
        write_whole(path, json.dumps(adopted, indent=2).encode(), mode=READABLE)
    except OSError as error:
        logger.info("%s keeps the path of the folder it was moved from: %s", path, error)
