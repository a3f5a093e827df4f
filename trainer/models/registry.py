"""Encoders on this machine: found by folder or by name under the home, never downloaded.

Nothing here imports torch: listing is quick. `trainer.models.resolve` adds the published encoders.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from corpus.settings import settings
from trainer.runtime.encoder_folder import ENCODERS, RECORD, encoder_home, locate, read_json


def find_local_encoder(name_or_path: str | Path) -> Path | None:
    """The folder of an encoder on this machine; None where there is none.

    Args:
        name_or_path: an encoder's folder, the folder of the run that made it, or a name under
            `<home>/encoders`.
    """
    path = locate(Path(name_or_path).expanduser())
    if (path / RECORD).is_file():
        return path.resolve()
    named = locate(encoder_home(str(name_or_path)))
    return named if (named / RECORD).is_file() else None


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
