"""Looking whether what the service needs is there, within a bounded time, however a server hangs."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future

log = logging.getLogger(__name__)

SECONDS = 5.0
"""How long one look at everything may take; what has not answered by then does not answer."""


class Readiness:
    """Looks at several things at once. Threads may share it; what hangs keeps one thread, not more."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._mutex = threading.Lock()
        self._running: dict[str, Future[str]] = {}

    def look(self, looks: Mapping[str, tuple[str, Callable[[], str]]]) -> dict[str, str]:
        """What each look says.

        Args:
            looks: name → what is said where it raises or does not end in time, and the look.
        """
        until = time.monotonic() + self._seconds
        futures = {name: self._start(name, look) for name, (_, look) in looks.items()}
        return {name: _told(futures[name], until, silent) for name, (silent, _) in looks.items()}

    def _start(self, name: str, look: Callable[[], str]) -> "Future[str]":
        with self._mutex:
            running = self._running.get(name)
            if running is None or running.done():
                running = self._running[name] = Future()
                threading.Thread(
                    target=_run, args=(running, look), name=f"readiness-{name}", daemon=True
                ).start()
            return running


def _run(future: "Future[str]", look: Callable[[], str]) -> None:
    try:
        future.set_result(look())
    except Exception as error:  # each server's client raises its own
        future.set_exception(error)


def _told(future: "Future[str]", until: float, silent: str) -> str:
    try:
        return future.result(max(0.0, until - time.monotonic()))
    except Exception as error:
        log.warning("not ready: %s (%s)", silent, type(error).__name__)
        return silent
