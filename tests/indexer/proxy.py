"""A line to a server that can be cut, hang, or lose answers: a small TCP proxy on loopback."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_CHUNK = 1 << 16
_NO_LINGER = struct.pack("ii", 1, 0)  # a close is then seen as a reset, as of a machine that died


class Proxy:
    """A TCP proxy. `port`: where it listens on 127.0.0.1, the same for as long as it lives."""

    def __init__(self, connect: Callable[[], socket.socket]) -> None:
        """Pass each connection on to the server that `connect` reaches."""
        self._connect = connect
        self._state = threading.Condition()
        self._hanging = self._disconnected = self._closed = False
        self._losing = 0
        self._open: set[socket.socket] = set()
        self._listening, self.port = _listen()
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def disconnect(self) -> None:
        """Reset every connection, and refuse new ones."""
        with self._state:
            self._disconnected = True
            self._stop_listening()
            self._state.notify_all()
            self._reset()

    def hang(self) -> None:
        """Accept connections and pass nothing, in either direction."""
        with self._state:
            self._hanging = True

    def lose_answers(self, count: int) -> None:
        """Pass requests, and reset the connection in place of each of the next `count` answers."""
        with self._state:
            self._losing = count

    def heal(self) -> None:
        """Pass everything again; what hung goes on."""
        with self._state:
            if self._disconnected:
                self._listening.listen()
            self._hanging = self._disconnected = False
            self._losing = 0
            self._state.notify_all()

    def close(self) -> None:
        """End every connection, and listen no more."""
        with self._state:
            self._closed = True
            self._stop_listening()
            self._state.notify_all()
            self._reset()
        self._accepting.join()
        self._listening.close()

    def _stop_listening(self) -> None:
        """Refuse connections; the port stays reserved."""
        with suppress(OSError):  # it does not listen now
            self._listening.shutdown(socket.SHUT_RDWR)

    def _reset(self) -> None:
        for one in self._open:
            _break(one)
        self._open.clear()

    def _accept(self) -> None:
        while True:
            with self._state:
                self._state.wait_for(lambda: self._closed or not self._disconnected)
                if self._closed:
                    return
            try:
                caller, _ = self._listening.accept()
            except OSError:  # it listens no more
                continue
            threading.Thread(target=self._serve, args=(caller,), daemon=True).start()

    def _serve(self, caller: socket.socket) -> None:
        with caller:
            if not self._enter(caller):
                return
            try:
                server = self._connect()
            except OSError:  # the server is away: nobody answers the caller
                self._leave(caller)
                _break(caller)
                return
            with server:
                if self._enter(server):
                    back = threading.Thread(target=self._pass, args=(server, caller, True), daemon=True)
                    back.start()
                    self._pass(caller, server, False)
                    back.join()
                self._leave(caller, server)

    def _enter(self, one: socket.socket) -> bool:
        """Note an open connection; break it where the line was cut meanwhile."""
        with self._state:
            self._state.wait_for(lambda: self._closed or self._disconnected or not self._hanging)
            if self._closed or self._disconnected:
                _break(one)
                return False
            self._open.add(one)
            return True

    def _leave(self, *ended: socket.socket) -> None:
        with self._state:
            self._open.difference_update(ended)

    def _pass(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        with suppress(OSError):  # one of them is gone
            while data := source.recv(_CHUNK):
                if not self._may_pass(answers):
                    break
                sink.sendall(data)
            else:
                with self._state:
                    ended_in_order = source in self._open
                if ended_in_order:
                    sink.shutdown(socket.SHUT_WR)
                    return
        self._leave(source, sink)
        _break(source)
        _break(sink)

    def _may_pass(self, answers: bool) -> bool:
        """Wait while the line hangs; return False where the connection is to be reset instead."""
        with self._state:
            self._state.wait_for(lambda: self._closed or self._disconnected or not self._hanging)
            if answers and self._losing:
                self._losing -= 1
                return False
            return not (self._closed or self._disconnected)


@contextmanager
def proxied(connect: Callable[[], socket.socket]) -> Iterator[Proxy]:
    """A proxy in front of the server that `connect` reaches."""
    proxy = Proxy(connect)
    try:
        yield proxy
    finally:
        proxy.close()


def to_port(port: int) -> Callable[[], socket.socket]:
    """Return how a server on 127.0.0.1 is reached."""
    return lambda: socket.create_connection(("127.0.0.1", port))


def to_socket(path: Path) -> Callable[[], socket.socket]:
    """Return how a server on a Unix socket is reached."""

    def connect() -> socket.socket:
        opened = socket.socket(socket.AF_UNIX)
        try:
            opened.connect(str(path))
        except OSError:
            opened.close()
            raise
        return opened

    return connect


def _listen() -> tuple[socket.socket, int]:
    """Listen on a free port. It is bound by its number: only then it stays ours while nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", port))
    listening.listen()
    return listening, port


def _break(one: socket.socket) -> None:
    """Reset a connection under whoever reads from it; it is closed by the thread that serves it."""
    with suppress(OSError):
        if one.family == socket.AF_INET:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        one.shutdown(socket.SHUT_RD)
