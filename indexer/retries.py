"""Waiting for a server that goes away while a job runs: with a bound, and never in silence."""

import time
from collections.abc import Callable
from typing import TypeVar

from corpus.errors import ServerUnavailable

Result = TypeVar("Result")

_FIRST_SECONDS = 0.5
_LONGEST_SECONDS = 8.0


class Patience:
    """How long one process waits for one server, and whom it tells.

    A server that never answered is not waited for: its address is wrong, or nobody started it, and whoever
    ran the command is told at once.
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

    def ask(self, call: Callable[[], Result], name: str) -> Result:
        """Make a call that is safe to repeat, again and again while its server is away.

        Args:
            call: raises `ServerUnavailable` where the server does not answer.
            name: of the server, as people are told it.

        Raises:
            ServerUnavailable: by the call; where there was a wait, the message tells of it.
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
                self._tell(f"{name} does not answer; trying again ({waited:.0f} s of {self._seconds:g} s)")
                pause = min(2 * pause or _FIRST_SECONDS, _LONGEST_SECONDS, self._seconds - waited)
                self._pause(pause)
            else:
                if pause:
                    self._tell(f"{name} answers again")
                self._answered = True
                return result

    def _tell(self, line: str) -> None:
        if self._on_wait is not None:
            self._on_wait(line)
