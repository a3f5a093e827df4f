"""Exported files, written whole or not at all."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from corpus.errors import ExportError


def write_whole(path: Path, content: bytes) -> Path:
    """Write a file atomically: a reader sees the old or the new one, a full disk leaves the old.

    Args:
        path: the file; its folder is created if missing.
        content: all of it.

    Returns:
        The path.

    Raises:
        ExportError: the disk refuses it; no partial file remains.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".writing")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except BaseException:
            with suppress(OSError):
                Path(temporary).unlink()
            raise
    except OSError as error:
        raise ExportError(f"{path} cannot be written: {error.strerror or error}; nothing was left") from error
    return path
