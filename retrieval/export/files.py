"""Files for others, written whole or not at all."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from corpus.errors import ExportError


def write_whole(path: Path, content: bytes) -> Path:
    """Write a file at once: a reader sees the old or the new one, a full disk leaves the old.

    Args:
        path: the file; its folder is made if need be.
        content: all of it.

    Returns:
        The path.

    Raises:
        ExportError: the disk does not take it; nothing half-written is left.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".writing")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(aside).replace(path)
        except BaseException:
            with suppress(OSError):
                Path(aside).unlink()
            raise
    except OSError as error:
        raise ExportError(f"{path} cannot be written: {error.strerror or error}; nothing was left") from error
    return path
