"""Sending the client's requests to a Qdrant server or to the nodes of a cluster, in bounded time.

All calls of the vector store are safe to repeat. A request that one node does not answer is repeated on the
next at once, and after a short pause on all of them: a broken connection, a full queue or a proxy that takes
another server is over in less than a second. What takes longer is the caller's to wait for, or to report.
"""

import base64
import time
from collections.abc import Callable, Sequence

import httpx
from qdrant_client.http.exceptions import ResponseHandlingException

from indexer.servers import QdrantAddress
from indexer.vectors.server_failures import passing, passing_status, timed_out

CONNECT_SECONDS = 5.0
"""Longest wait for a connection: a host that is off answers nothing, where a busy server still connects."""

PAUSES_SECONDS = (0.2, 0.6)
"""Before the second and the third try of all nodes."""

REST_SECONDS = 30.0
"""A node that did not answer in time is tried after the others for this long."""

_SHORTEST_SECONDS = 0.01

Send = Callable[[httpx.Request], httpx.Response]


class Nodes:
    """Sends requests to the node that answered last, or else to the others. Threads may share it.

    It is the middleware of a `QdrantClient` made for the first address: `client.http.client.add_middleware`.
    """

    def __init__(
        self,
        addresses: Sequence[QdrantAddress],
        seconds: float,
        pause: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Send to these addresses.

        Args:
            addresses: of the nodes, at least one.
            seconds: for an answer, from all nodes together.
            pause: waits.
            clock: in seconds, from any moment on.
        """
        self._addresses, self._seconds = tuple(addresses), seconds
        self._pause, self._clock = pause, clock
        self._prefix = httpx.URL(self._addresses[0].url).raw_path.rstrip(b"/")
        self._current = 0
        self._resting: dict[int, float] = {}

    def __call__(self, request: httpx.Request, send: Send) -> httpx.Response:
        """Return the answer of a node.

        Args:
            request: to the first address.
            send: sends a request.

        Returns:
            The answer; that of a proxy or of an overloaded server where no other came.

        Raises:
            ResponseHandlingException: no node answers; that one was out of time, where one was.
        """
        until = self._clock() + self._seconds
        for pause in (*PAUSES_SECONDS, None):
            outcome = self._round(request, send, until)
            late = isinstance(outcome, Exception) and timed_out(outcome)
            if isinstance(outcome, httpx.Response) and not passing_status(outcome.status_code):
                return outcome
            if pause is None or late or self._clock() + pause >= until:
                break
            self._pause(pause)
        if isinstance(outcome, httpx.Response):
            return outcome
        raise outcome

    def _round(
        self, request: httpx.Request, send: Send, until: float
    ) -> httpx.Response | ResponseHandlingException:
        """Try each node once, until one answers; return the answer, or else what is reported."""
        reported: httpx.Response | ResponseHandlingException | None = None
        order = self._order()
        awake = sum(not self._rests(node) for node in order) or len(order)
        for number, node in enumerate(order):
            # Those that are left share the time that is left.
            share = (until - self._clock()) / ((awake if number < awake else len(order)) - number)
            try:
                answer = send(self._addressed(request, node, max(share, _SHORTEST_SECONDS)))
            except ResponseHandlingException as error:
                if not passing(error):
                    raise
                if timed_out(error):
                    self._resting[node] = self._clock() + REST_SECONDS
                if not (isinstance(reported, Exception) and timed_out(reported)):
                    reported = error
                continue
            if not passing_status(answer.status_code):
                self._current = node
                self._resting.pop(node, None)
                return answer
            if reported is None:
                reported = answer
        assert reported is not None
        return reported

    def _order(self) -> list[int]:
        """Return the nodes, that which answered last first, those that rest last."""
        count = len(self._addresses)
        order = [(self._current + step) % count for step in range(count)]
        return sorted(order, key=self._rests)

    def _rests(self, node: int) -> bool:
        return self._resting.get(node, 0.0) > self._clock()

    def _addressed(self, request: httpx.Request, node: int, seconds: float) -> httpx.Request:
        """Return the request to the first address as one to a node, with its time limits."""
        address = self._addresses[node]
        base = httpx.URL(address.url)
        path = base.raw_path.rstrip(b"/") + request.url.raw_path.removeprefix(self._prefix)
        headers = request.headers.copy()
        headers["Host"] = base.netloc.decode()
        if address.login is not None:
            headers["Authorization"] = _basic(*address.login)
        limits = {
            "connect": min(CONNECT_SECONDS, seconds),
            "read": seconds,
            "write": seconds,
            "pool": seconds,
        }
        return httpx.Request(
            request.method,
            base.copy_with(raw_path=path),
            headers=headers,
            stream=request.stream,
            extensions={**request.extensions, "timeout": limits},
        )


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
