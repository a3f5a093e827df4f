"""Thumbnails that were made lately, in memory alone: a grid is drawn again and again."""

import threading
from collections import OrderedDict
from collections.abc import Callable

from indexer.ingest.embedding import stamp_of
from retrieval.service.images import Shown

_MOST_BYTES = 64 << 20


class Thumbnails:
    """The latest thumbnails, by file and by what the file was when it was read. Threads may share it."""

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self._kept: OrderedDict[tuple[str, str], Shown] = OrderedDict()
        self._bytes, self._most = 0, most_bytes
        self._mutex = threading.Lock()

    def get(self, location: str, make: Callable[[], Shown]) -> Shown:
        """The thumbnail of a picture, made where it is not known or the file is no longer the same."""
        stamp = stamp_of(location)
        if stamp is None:
            return make()
        key = (location, stamp)
        with self._mutex:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        shown = make()
        with self._mutex:
            if key not in self._kept:
                self._kept[key] = shown
                self._bytes += len(shown.png)
            while self._bytes > self._most:
                _, oldest = self._kept.popitem(last=False)
                self._bytes -= len(oldest.png)
        return shown
