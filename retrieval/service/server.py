"""Running the application: a socket, a server, and an orderly end."""

import os
import signal
import socket
import sys
from collections.abc import Callable
from types import FrameType

import uvicorn

from corpus.errors import HomeError
from corpus.settings import settings
from retrieval.service import logs, slow_worker
from retrieval.service.app import create_app
from retrieval.service.connections import Connection
from retrieval.service.proxies import root_path
from retrieval.service.slow_lane import half_the_cores
from retrieval.service.state import State

_SWITCH_SECONDS = 0.0005
"""How long a thread keeps the interpreter while another waits for it. A network lets it go at each of its
layers; at Python's 5 ms it would wait for as long at each."""

_PATIENCE_SECONDS = 20  # for requests under way, when the service is told to end


def run(
    host: str,
    port: int,
    on_wait: Callable[[str], None],
    on_ready: Callable[[str], None],
    root: str | None = None,
) -> None:
    """Serve the home of `settings()` until told to end.

    Args:
        host: the address to listen on.
        port: the port; 0 takes a free one.
        on_wait: told once, in one line, that another process owns the index and that this one waits.
        on_ready: told the page's address once it can be opened.
        root: path below which a reverse proxy serves the page; default is `settings().root_path`.

    Raises:
        UsageError: the root path is none, or a trusted proxy is no address.
        HomeError: the address is taken or not ours, or the home cannot be used.
        IndexInUse: another process owns the vectors, and did not end in time.
    """
    below = root_path(settings().root_path if root is None else root)
    logs.configure()
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
            timeout_graceful_shutdown=_PATIENCE_SECONDS,
        )
        state.slow.run(slow_worker.load)  # no one waits for it: the first map or draft has it ready
        address = listening.getsockname()
        shown = f"[{address[0]}]" if ":" in address[0] else address[0]
        on_ready(f"http://{shown}:{address[1]}/")
        for number in (signal.SIGINT, signal.SIGTERM):
            # The server ends on these, and then raises them anew for whoever stood there before: by then
            # everything is answered, and what is left to do is below.
            signal.signal(number, lambda *_: None)
        _Server(config, state).run(sockets=[listening])
    finally:
        state.close()
        listening.close()


class _Server(uvicorn.Server):
    """A server that tells its state at once that it is to end, so that no event stream holds it up."""

    def __init__(self, config: uvicorn.Config, state: State) -> None:
        super().__init__(config)
        self._state = state

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end."""
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
