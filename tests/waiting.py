"""How tests wait: for what they wait for, and never by the clock.

A deadline is there to end a test that would wait for ever, so it is far beyond what any machine needs. It
decides nothing: a test that meets it has found something that does not happen.
"""

import threading
from collections.abc import Callable
from typing import TypeVar

DEADLINE_SECONDS = 600.0
"""How long a test waits for what must happen, also beside two busy loops."""

_LOOK_SECONDS = 0.05

Seen = TypeVar("Seen")


def eventually(look: Callable[[], Seen]) -> Seen:
    """Look again and again until what is seen is true; return it.

    Raises:
        AssertionError: it did not become true.
    """
    pause = threading.Event()
    for _ in range(round(DEADLINE_SECONDS / _LOOK_SECONDS)):
        seen = look()
        if seen:
            return seen
        pause.wait(_LOOK_SECONDS)
    raise AssertionError(f"it did not happen within {DEADLINE_SECONDS:g} s")


def linger() -> None:
    """Give others their turn, so that a race is likely; nothing may depend on whether they take it."""
    threading.Event().wait(2 * _LOOK_SECONDS)
