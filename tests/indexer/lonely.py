"""Places where no server of ours is: each fails in a way of its own."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

HTML = b"<html><body>502 Bad Gateway</body></html>" + b"<!-- padding -->" * 50


@contextmanager
def closed_port() -> Iterator[int]:
    """A port without a listener, reserved for so long."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@contextmanager
def silent_port() -> Iterator[int]:
    """A port that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        yield listening.getsockname()[1]


@contextmanager
def answering_port(status: int, body: bytes, kind: str = "text/html") -> Iterator[int]:
    """A port that answers every request with this, as a proxy or another service does; 0: it hangs up."""
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    answer = head.encode() + b"Connection: close\r\n\r\n" + body if status else b""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=_answer, args=(listening, answer), daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


def _answer(listening: socket.socket, answer: bytes) -> None:
    while True:
        try:
            caller, _ = listening.accept()
        except OSError:  # closed
            return
        with caller:
            try:
                caller.recv(1 << 16)
                caller.sendall(answer)
            except OSError:  # it hung up first
                continue
