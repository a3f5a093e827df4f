"""Running the application: a socket, a server with time limits for its connections, and an orderly end."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from corpus.errors import HomeError
from corpus.settings import settings
from retrieval.service import background_worker, telemetry
from retrieval.service.app import create_app
from retrieval.service.background_queue import half_the_cores
from retrieval.service.proxies import root_path
from retrieval.service.state import State

_SWITCH_SECONDS = 0.0005
"""How long a thread keeps the interpreter while another waits for it. A network releases it at each of its
layers; at Python's 5 ms it would wait for as long at each."""

_SHUTDOWN_SECONDS = 20  # for requests under way when the service ends


def run(
    host: str,
    port: int,
    on_wait: Callable[[str], None],
    on_ready: Callable[[str], None],
    root: str | None = None,
) -> None:
    """Serve the home of `settings()` until SIGINT or SIGTERM.

    Args:
        host: the address to listen on.
        port: the port; 0 takes a free one.
        on_wait: called once, with one line, when another process owns the index and this one waits.
        on_ready: called with the page's address once it can be opened.
        root: path below which a reverse proxy serves the page; default is `settings().root_path`.

    Raises:
        UsageError: the root path or a trusted proxy is malformed.
        HomeError: the address is taken or not ours, or the home cannot be used.
        IndexInUse: another process owns the vectors, and did not end in time.
    """
    below = root_path(settings().root_path if root is None else root)
    telemetry.configure_logging()
    os.environ["OMP_NUM_THREADS"] = str(half_the_cores())  # read when torch is loaded
    listening = _listen(host, port)
    sys.setswitchinterval(_SWITCH_SECONDS)
    state = State.open(on_wait=on_wait)
    try:
        config = uvicorn.Config(
            create_app(state, below),
            http=Connection,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        )
        state.background.run(background_worker.load)  # nothing waits for it: the first map finds it loaded
        address = listening.getsockname()
        shown = f"[{address[0]}]" if ":" in address[0] else address[0]
        on_ready(f"http://{shown}:{address[1]}/")
        for number in (signal.SIGINT, signal.SIGTERM):
            # The server ends on these signals and then raises them again for the handler that it replaced: by
            # then everything is answered, and what is left to do is below.
            signal.signal(number, lambda *_: None)
        _Server(config, state).run(sockets=[listening])
    finally:
        state.close()
        listening.close()


class Connection(H11Protocol):
    """A connection that closes unless the head of each request arrives within `SIMILARITY_UPLOAD_SECONDS`.

    Uvicorn itself waits for a head without end, byte by byte. A body has its own limit
    (`retrieval.service.uploads`).
    """

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Start the timer of the first request."""
        super().connection_made(transport)
        self._start_timer()

    def data_received(self, data: bytes) -> None:
        """Stop the timer once the head of a request is complete."""
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._stop_timer()
        elif self._timer is None and (self.cycle is None or self.cycle.response_complete):
            self._start_timer()  # the next request on this connection has begun

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        self._stop_timer()
        super().connection_lost(exc)

    def _start_timer(self) -> None:
        self._timer = self.loop.call_later(settings().upload_seconds, self.transport.close)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Server(uvicorn.Server):
    """A server that marks its state as closing at once, so that no event stream delays the end."""

    def __init__(self, config: uvicorn.Config, state: State) -> None:
        super().__init__(config)
        self._state = state

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Mark the state as closing, and begin to end."""
        self._state.closing.set()
        super().handle_exit(sig, frame)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=256)
    except OSError as error:
        raise HomeError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; choose another --port"
        ) from error
