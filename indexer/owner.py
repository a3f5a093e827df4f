"""The owner of the embedded vectors: one process opens them, every other calls it.

The engine admits one process. A command on a home without an owner owns the vectors for its own length. A
service owns them for as long as it runs and answers calls of the vector store on a socket in the home, mode
0600; a command that finds the vectors owned by a service works through that socket, and is otherwise the same
command. A writer holds a second lock, so that one index job runs at a time in either case.

Where a system has no sockets in the file system, or the home's name is too long for one, the service answers
on a port of the loopback interface, to callers with the key that lies in the home beside the port's number.
"""

import json
import logging
import os
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from pathlib import Path
from typing import Any

from corpus.errors import SimilarityError
from corpus.redaction import redacted
from indexer.home import Home, write_private
from indexer.vectors.edge.owned import OwnedStore
from indexer.vectors.edge.shards import EdgeStore
from indexer.vectors.edge.wire import pack, unpack
from indexer.vectors.store import VectorStore

log = logging.getLogger(__name__)

SOCKET = ".owner.sock"
PORT = ".owner.port"
"""File with port and key, where there is no socket."""

_LONGEST_NAME = 100  # bytes of a socket's address
_LOOK_SECONDS = 0.5  # how soon the end is noticed where closing a socket interrupts no call
_HANDSHAKE_SECONDS = 5.0

_CALLS = frozenset(
    {
        "collections", "count", "create", "delete", "drop", "fetch", "flush", "ids", "optimize", "search",
        "search_batch", "set_aliases", "set_payload", "upsert",
    }
)  # fmt: skip


@contextmanager
def embedded_store(home: Home, on_wait: Callable[[str], None] | None = None) -> Iterator[VectorStore]:
    """Open the embedded vectors of a home: in this process, or through the service that owns them.

    Raises:
        IndexInUse: a process that is not a service owns them, and did not end in time.
    """
    line: Connection | None = None

    def reached() -> bool:
        nonlocal line
        line = connect(home)
        return line is not None

    with home.lock(on_wait, unless=reached) as owned:
        store: VectorStore = EdgeStore(home.vectors) if owned or line is None else OwnedStore(line)
        try:
            yield store
        finally:
            store.close()


@contextmanager
def owned_store(home: Home, on_wait: Callable[[str], None] | None = None) -> Iterator[VectorStore]:
    """Own the embedded vectors of a home and answer other processes, for the length of a `with`.

    Raises:
        IndexInUse: another process owns them, and did not end in time.
    """
    with home.lock(on_wait):
        store = EdgeStore(home.vectors)
        try:
            with _answering(home.folder, store):
                yield store
        finally:
            store.close()


def connect(home: Home) -> Connection | None:
    """Return a connection to the service that owns a home's vectors; None where there is none."""
    for file, call in ((home.folder / SOCKET, _call_socket), (home.folder / PORT, _call_port)):
        if file.exists():
            with suppress(OSError, ValueError, KeyError, EOFError, AuthenticationError):
                return call(file)
    return None


def _call_socket(path: Path) -> Connection:
    with socket.socket(socket.AF_UNIX) as caller:
        with _short(path) as name:
            caller.connect(name)
        return Connection(caller.detach())


def _call_port(path: Path) -> Connection:
    address = json.loads(path.read_bytes())
    with socket.create_connection(("127.0.0.1", int(address["port"])), _HANDSHAKE_SECONDS) as caller:
        caller.settimeout(None)
        line = Connection(caller.detach())
    try:
        if not line.poll(_HANDSHAKE_SECONDS):  # another program has the port now
            raise EOFError
        answer_challenge(line, bytes.fromhex(address["key"]))
        deliver_challenge(line, bytes.fromhex(address["key"]))
    except BaseException:
        line.close()
        raise
    return line


@redacted
@dataclass(frozen=True, slots=True)
class _Listening:
    """A listening socket. `file`: of the socket, or of the port; `key`: which callers need, if any."""

    socket: socket.socket
    file: Path
    key: bytes | None


def _listen(folder: Path) -> _Listening:
    for name in (SOCKET, PORT):
        (folder / name).unlink(missing_ok=True)  # a killed service left it; this process holds the lock
    path = folder / SOCKET
    if not hasattr(socket, "AF_UNIX") or not (_is_short(path) or Path("/proc/self/fd").is_dir()):
        listening, key = socket.create_server(("127.0.0.1", 0)), secrets.token_bytes(32)
        address = {"port": listening.getsockname()[1], "key": key.hex()}
        write_private(folder / PORT, json.dumps(address).encode())
        return _Listening(listening, folder / PORT, key)
    listening = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)
    try:
        with _short(path) as name:
            listening.bind(name)
    finally:
        os.umask(before)
    listening.listen()
    return _Listening(listening, path, None)


@contextmanager
def _answering(folder: Path, store: VectorStore) -> Iterator[None]:
    """Listen in a home and answer every caller in a thread of its own."""
    heard = _listen(folder)
    heard.socket.settimeout(_LOOK_SECONDS)
    lines: dict[socket.socket, threading.Thread] = {}
    closing = threading.Event()
    thread = threading.Thread(target=_accept, args=(heard, store, lines, closing), name="owner", daemon=True)
    thread.start()
    try:
        yield
    finally:
        heard.file.unlink(missing_ok=True)
        closing.set()
        with suppress(OSError):
            heard.socket.shutdown(socket.SHUT_RDWR)
        thread.join()
        heard.socket.close()
        for hanging_up, answering in list(lines.items()):
            with suppress(OSError):
                hanging_up.shutdown(socket.SHUT_RDWR)
            answering.join()


def _accept(
    heard: _Listening,
    store: VectorStore,
    lines: dict[socket.socket, threading.Thread],
    closing: threading.Event,
) -> None:
    while not closing.is_set():
        try:
            caller, _ = heard.socket.accept()
        except TimeoutError:
            continue
        except OSError:  # closed
            return
        thread = threading.Thread(
            target=_answer, args=(caller, heard.key, store, lines), name="owner-line", daemon=True
        )
        lines[caller] = thread
        thread.start()


def _answer(
    caller: socket.socket,
    key: bytes | None,
    store: VectorStore,
    lines: dict[socket.socket, threading.Thread],
) -> None:
    """Answer one caller until it disconnects."""
    caller.setblocking(True)
    line = Connection(caller.dup().detach())
    try:
        if key is not None:
            deliver_challenge(line, key)
            answer_challenge(line, key)
        while True:
            method, *arguments = unpack(line.recv_bytes(), line.recv_bytes)
            for message in pack(_outcome(store, method, arguments)):
                line.send_bytes(message)
    except AuthenticationError:
        log.warning("a caller of the owner did not show the key of this home")
    except (EOFError, OSError):
        pass
    except (ValueError, TypeError):
        log.warning("a caller of the owner sent a malformed message")
    finally:
        lines.pop(caller, None)
        line.close()
        caller.close()


def _outcome(store: VectorStore, method: str, arguments: list[Any]) -> list[Any]:
    if method not in _CALLS:
        return ["IndexingError", f"a vector store has no call {method!r}"]
    try:
        result = getattr(store, method)(*arguments)
        return ["done", list(result) if isinstance(result, Iterator) else result]
    except SimilarityError as error:
        return [type(error).__name__, str(error)]
    except Exception as error:  # the engine raises nothing narrower
        log.exception("a call of the vector store failed")
        return [type(error).__name__, ""]


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """Yield a name for a socket of at most a hundred bytes: a longer one goes by its open folder."""
    if _is_short(path):
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def _is_short(path: Path) -> bool:
    return len(os.fsencode(path)) < _LONGEST_NAME
