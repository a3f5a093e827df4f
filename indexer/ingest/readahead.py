"""Reading a source in a thread of its own, so that slow tables and headers do not delay the encoder."""

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

Value = TypeVar("Value")


class _End:
    """The end of the values. `error`: what ended the reading, if anything."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


def read_ahead(values: Iterable[Value], depth: int) -> Iterator[Value]:
    """Yield the values in order, up to `depth` of them read ahead; an error is raised in its place."""
    line: queue.Queue[Value | _End] = queue.Queue(maxsize=depth)
    stop = threading.Event()

    def offer(value: Value | _End) -> bool:
        while not stop.is_set():
            try:
                line.put(value, timeout=0.2)
            except queue.Full:
                continue
            return True
        return False

    def read() -> None:
        try:
            for value in values:
                if not offer(value):
                    return
            offer(_End())
        except BaseException as error:  # handed on to the thread that uses the values
            offer(_End(error))

    thread = threading.Thread(target=read, name="read-ahead", daemon=True)
    thread.start()
    try:
        while True:
            value = line.get()
            if isinstance(value, _End):
                if value.error is not None:
                    raise value.error
                return
            yield value
    finally:
        stop.set()
        thread.join()
