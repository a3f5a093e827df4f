"""A lane for what takes seconds: a couple of threads that give way to searches."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from retrieval.service.problems import Refused

THREADS = 2
MOST_WAITING = 8
_NICE = 10

Result = TypeVar("Result")


class SlowLane:
    """Runs a few long calls beside the searches, and refuses more than can wait."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(THREADS, "slow", initializer=_give_way)
        self._room = threading.BoundedSemaphore(THREADS + MOST_WAITING)

    def run(self, call: Callable[[], Result]) -> "Future[Result]":
        """Have a call made.

        Raises:
            Refused: too many wait already.
        """
        if not self._room.acquire(blocking=False):
            raise Refused(
                503, "busy", "Too much is being computed: try again in a moment.", {"Retry-After": "10"}
            )
        future = self._pool.submit(call)
        future.add_done_callback(lambda _: self._room.release())
        return future

    def close(self) -> None:
        """End once what runs has ended; what waits is not begun."""
        self._pool.shutdown(cancel_futures=True)


def _give_way() -> None:
    """Lower this thread's share of the processor, and that of the threads torch starts for it."""
    with suppress(AttributeError, OSError):  # a thread has a share of its own on Linux alone
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
