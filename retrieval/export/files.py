"""Exported files, written whole or not at all."""

from pathlib import Path

from corpus import files
from corpus.errors import ExportError


def write_whole(path: Path, content: bytes) -> Path:
    """Write a file as `corpus.files.write_whole`, and return its path.

    Raises:
        ExportError: the disk refuses it; no partial file remains.
    """
    try:
        return files.write_whole(path, content)
    except OSError as error:
        raise ExportError(f"{path} cannot be written: {error.strerror or error}; nothing was left") from error
