"""One owner of the embedded vectors, and how every other process reaches them through it.

The engine admits one process. A command on a home that nobody owns takes the vectors for its own length.
A service owns them for as long as it runs and answers calls of the vector store on a socket in the home,
which its user alone may open; a command that finds the vectors owned by a service works through that
socket, and is otherwise the same command. Who writes holds a second lock, so that one index job runs at a
time in either case.
"""

import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from corpus.errors import SimilarityError
from indexer.home import Home
from indexer.vectors.edge import EdgeStore
from indexer.vectors.owned import OwnedStore
from indexer.vectors.store import VectorStore
from indexer.vectors.wire import pack, unpack

log = logging.getLogger(__name__)

SOCKET = ".owner.sock"

_CALLS = frozenset(
    {
        "collections", "count", "create", "delete", "drop", "fetch", "flush", "ids", "optimize", "search",
        "set_payload", "upsert",
    }
)  # fmt: skip


@contextmanager
def embedded_store(home: Home, on_wait: Callable[[str], None] | None = None) -> Iterator[VectorStore]:
    """The embedded vectors of a home: opened here, or through the service that owns them.

    Raises:
        IndexInUse: a process that is no service owns them, and did not end in time.
    """
    line: Connection | None = None

    def reached() -> bool:
        nonlocal line
        line = connect(home)
        return line is not None

    with home.lock(on_wait, unless=reached) as held:
        store: VectorStore = EdgeStore(home.vectors) if held or line is None else OwnedStore(line)
        try:
            yield store
        finally:
            store.close()


@contextmanager
def owned_store(home: Home, on_wait: Callable[[str], None] | None = None) -> Iterator[VectorStore]:
    """Own the embedded vectors of a home and answer for them, for the length of a `with`.

    Raises:
        IndexInUse: another process owns them, and did not end in time.
    """
    with home.lock(on_wait):
        store = EdgeStore(home.vectors)
        try:
            with _answering(home.folder / SOCKET, store):
                yield store
        finally:
            store.close()


def connect(home: Home) -> Connection | None:
    """A line to the service that owns a home's vectors; None where there is none."""
    path = home.folder / SOCKET
    if not path.exists():
        return None
    caller = socket.socket(socket.AF_UNIX)
    try:
        with _short(path) as name:
            caller.connect(name)
    except OSError:
        caller.close()
        return None
    return Connection(caller.detach())


@contextmanager
def _answering(path: Path, store: VectorStore) -> Iterator[None]:
    """Listen at `path` and answer every caller in a thread of its own."""
    path.unlink(missing_ok=True)  # a killed service left it; whoever is here holds the lock
    listening = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)
    try:
        with _short(path) as name:
            listening.bind(name)
    finally:
        os.umask(before)
    listening.listen()
    lines: dict[Connection, threading.Thread] = {}
    thread = threading.Thread(target=_accept, args=(listening, store, lines), name="owner", daemon=True)
    thread.start()
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        with suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join()
        for line, answering in list(lines.items()):
            with suppress(OSError), socket.socket(fileno=os.dup(line.fileno())) as hanging_up:
                hanging_up.shutdown(socket.SHUT_RDWR)
            answering.join()


def _accept(listening: socket.socket, store: VectorStore, lines: dict[Connection, threading.Thread]) -> None:
    while True:
        try:
            caller, _ = listening.accept()
        except OSError:  # closed
            return
        line = Connection(caller.detach())
        thread = threading.Thread(target=_answer, args=(line, store, lines), name="owner-line", daemon=True)
        lines[line] = thread
        thread.start()


def _answer(line: Connection, store: VectorStore, lines: dict[Connection, threading.Thread]) -> None:
    """Answer one caller until it hangs up."""
    try:
        while True:
            method, *arguments = unpack(line.recv_bytes(), line.recv_bytes)
            for message in pack(_outcome(store, method, arguments)):
                line.send_bytes(message)
    except (EOFError, OSError):
        pass
    except (ValueError, TypeError):
        log.warning("a caller of the owner said what cannot be understood")
    finally:
        lines.pop(line, None)
        line.close()


def _outcome(store: VectorStore, method: str, arguments: list[Any]) -> list[Any]:
    if method not in _CALLS:
        return ["IndexingError", f"a vector store has no call {method!r}"]
    try:
        told = getattr(store, method)(*arguments)
        return ["done", list(told) if isinstance(told, Iterator) else told]
    except SimilarityError as error:
        return [type(error).__name__, str(error)]
    except Exception as error:  # the engine raises nothing narrower
        log.exception("a call of the vector store failed")
        return [type(error).__name__, ""]


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """A name for a socket: addresses end at a hundred bytes, so a longer one goes by its open folder."""
    if len(os.fsencode(path)) < 100:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
