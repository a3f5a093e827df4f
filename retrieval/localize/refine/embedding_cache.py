"""A cache of image embeddings: SAM embeds an image in seconds and then answers prompts in milliseconds.

Files `<home>/cache/sam/<checkpoint>/<image>.npy`, float16, named by content hashes and written atomically;
the oldest are removed first when there are more than the setting allows. An embedding can be recomputed at
any time, so only a failing computation is an error.
"""

import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from corpus.files import write_whole
from corpus.settings import settings
from indexer.home import CACHE

log = logging.getLogger(__name__)

Embedding = NDArray[np.float16]


class EmbeddingCache:
    """The embeddings of one checkpoint. Threads may share it: of simultaneous requests, one computes.

    Args:
        owner: names the checkpoint, its framing and its precision, in letters, digits and hyphens.
        shape: of every embedding.
        limit_bytes: of the embeddings of all checkpoints on the disk; 0 stores none.
        folder: of all checkpoints' embeddings; default: in the home.
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
        self._pending: dict[str, Future[Embedding]] = {}

    def get(self, key: str, compute: Callable[[], NDArray[np.float32]]) -> Embedding:
        """Return the embedding of an image, from the disk or computed now.

        Args:
            key: the image's content hash.
            compute: makes it; another thread with the same key waits for this one, and gets the same error
                where it fails.
        """
        with self._lock:
            pending = self._pending.get(key)
            first = pending is None
            if pending is None:
                pending = self._pending[key] = Future()
        if not first:
            return pending.result()
        try:
            found = self._read(key)
            if found is None:
                found = compute().astype(np.float16)
                self._write(key, found)
            pending.set_result(found)
        except BaseException as error:
            pending.set_exception(error)
            raise
        finally:
            with self._lock:
                del self._pending[key]
        return found

    def _read(self, key: str) -> Embedding | None:
        path = self.folder / f"{key}.npy"
        try:
            found: Embedding = np.load(path, allow_pickle=False)
            with suppress(OSError):
                os.utime(path)  # used now: among the last to be removed
        except FileNotFoundError:
            return None
        except (OSError, ValueError, EOFError) as error:
            log.info("a cached embedding cannot be read and is computed again: %s", error)
            return None
        fits = found.dtype == np.float16 and found.shape == self.shape and bool(np.isfinite(found).all())
        return found if fits else None

    def _write(self, key: str, embedding: Embedding) -> None:
        if embedding.nbytes > self.limit:
            return
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._make_room(embedding.nbytes)
            write_whole(self.folder / f"{key}.npy", lambda file: np.save(file, embedding))
        except OSError as error:  # a full or read-only disk: the answer does not need the file
            log.info("an embedding is not cached: %s", error.strerror)

    def _make_room(self, more: int) -> None:
        cached = []
        for path in self.root.glob("*/*.npy"):
            with suppress(OSError):
                status = path.stat()
                cached.append((status.st_mtime_ns, status.st_size, path))
        excess = sum(size for _, size, _ in cached) + more - self.limit
        for _, size, path in sorted(cached):
            if excess <= 0:
                return
            with suppress(OSError):
                path.unlink()
            excess -= size
