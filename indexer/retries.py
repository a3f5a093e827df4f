"""Waiting for a server that goes away while a job runs: for a bounded time, and reported."""

import time
from collections.abc import Callable
from typing import TypeVar

from corpus.errors import ServerUnavailable

Result = TypeVar("Result")

_FIRST_SECONDS = 0.5
_LONGEST_SECONDS = 8.0


class RetryPolicy:
    """How long one process waits for one server, and who is notified.

    A server that never answered is not waited for: its address is wrong or it was not started, and the caller
    learns that at once.
    """

    def __init__(
        self,
        seconds: float = 0.0,
        on_wait: Callable[[str], None] | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """Wait up to `seconds` (0: never); `on_wait` is given a line before each new try."""
        self._seconds, self._on_wait, self._pause = seconds, on_wait, pause
        self._answered = False

    def run(self, call: Callable[[], Result], name: str) -> Result:
        """Make a call that is safe to repeat, again and again while its server is away.

        Args:
            call: raises `ServerUnavailable` where the server does not answer.
            name: of the server, for messages.

        Raises:
            ServerUnavailable: by the call; after a wait, the message says how long it was.
        """
        began = pause = 0.0
        while True:
            try:
                result = call()
            except ServerUnavailable as error:
                if not (error.away and self._answered and self._seconds):
                    raise
                began = began or time.monotonic()
                waited = time.monotonic() - began
                if waited >= self._seconds:
                    raise ServerUnavailable(
                        f"{error}; it was waited for {self._seconds:g} s (SIMILARITY_SERVER_WAIT_SECONDS). "
                        "What was done so far is safe: run the command again when it is back",
                        error.server,
                        away=True,
                    ) from error
                self._notify(f"{name} does not answer; trying again ({waited:.0f} s of {self._seconds:g} s)")
                pause = min(2 * pause or _FIRST_SECONDS, _LONGEST_SECONDS, self._seconds - waited)
                self._pause(pause)
            else:
                if pause:
                    self._notify(f"{name} answers again")
                self._answered = True
                return result

    def _notify(self, line: str) -> None:
        if self._on_wait is not None:
            self._on_wait(line)
