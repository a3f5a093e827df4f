"""Image embeddings kept for the next question: SAM looks at a film for seconds, and answers in milliseconds.

Files `<home>/cache/sam/<checkpoint>/<picture>.npy`, float16, named by content hashes, written at once, the
oldest removed first when there are more than the setting allows. They can be made anew at any time: nothing
here is an error except a computation that fails.
"""

import logging
import os
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from corpus.settings import settings
from indexer.home import CACHE

log = logging.getLogger(__name__)

Embedding = NDArray[np.float16]


class EmbeddingCache:
    """The embeddings of one checkpoint. Threads share it: what two ask for at once is computed once.

    Args:
        owner: names the checkpoint and what is done to pictures before it, in letters and digits.
        shape: of every embedding.
        limit_bytes: the most that the embeddings of all checkpoints take on the disk; 0 keeps none there.
        folder: of all checkpoints' embeddings; default is in the home.
    """

    def __init__(
        self,
        owner: str,
        shape: tuple[int, ...],
        *,
        limit_bytes: int | None = None,
        folder: Path | None = None,
    ) -> None:
        self.root = folder or settings().home_folder / CACHE / "sam"
        self.folder = self.root / owner
        self.shape = shape
        self.limit = settings().sam_cache_mb << 20 if limit_bytes is None else limit_bytes
        self._lock = threading.Lock()
        self._coming: dict[str, Future[Embedding]] = {}

    def get(self, key: str, compute: Callable[[], NDArray[np.float32]]) -> Embedding:
        """Return the embedding of a picture, from the disk or computed now.

        Args:
            key: the picture's content hash.
            compute: makes it; whoever asks for the same key meanwhile waits for this one, and meets the same
                error should it fail.
        """
        with self._lock:
            coming = self._coming.get(key)
            mine = coming is None
            if coming is None:
                coming = self._coming[key] = Future()
        if not mine:
            return coming.result()
        try:
            found = self._read(key)
            if found is None:
                found = compute().astype(np.float16)
                self._write(key, found)
            coming.set_result(found)
        except BaseException as error:
            coming.set_exception(error)
            raise
        finally:
            with self._lock:
                del self._coming[key]
        return found

    def _read(self, key: str) -> Embedding | None:
        path = self.folder / f"{key}.npy"
        try:
            found: Embedding = np.load(path, allow_pickle=False)
            with suppress(OSError):
                os.utime(path)  # used now: among the last to go
        except FileNotFoundError:
            return None
        except (OSError, ValueError, EOFError) as error:
            log.info("a kept embedding cannot be read and is made anew: %s", error)
            return None
        fits = found.dtype == np.float16 and found.shape == self.shape and bool(np.isfinite(found).all())
        return found if fits else None

    def _write(self, key: str, embedding: Embedding) -> None:
        if embedding.nbytes > self.limit:
            return
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._make_room(embedding.nbytes)
            handle, aside = tempfile.mkstemp(dir=self.folder, suffix=".writing")
            try:
                with os.fdopen(handle, "wb") as file:
                    np.save(file, embedding)
                Path(aside).replace(self.folder / f"{key}.npy")
            except BaseException:
                with suppress(OSError):
                    Path(aside).unlink()
                raise
        except OSError as error:  # a full or read-only disk: the answer does not need the file
            log.info("an embedding is not kept: %s", error.strerror)

    def _make_room(self, more: int) -> None:
        kept = []
        for path in self.root.glob("*/*.npy"):
            with suppress(OSError):
                status = path.stat()
                kept.append((status.st_mtime_ns, status.st_size, path))
        excess = sum(size for _, size, _ in kept) + more - self.limit
        for _, size, path in sorted(kept):
            if excess <= 0:
                return
            with suppress(OSError):
                path.unlink()
            excess -= size
