"""What every request passes: an id, a log line, metrics, headers for browsers; and the limit of its rate."""

import logging
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from uuid import uuid4

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from corpus.settings import settings
from retrieval.service.problems import Refused, response_of
from retrieval.service.telemetry import Metrics

log = logging.getLogger(__name__)

_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
"""Only files of the service run, whatever a report contains; nothing is framed, cached or passed on."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_MOST_BUCKETS = 10_000  # the callers silent for longest are forgotten: their buckets are full again


class RequestMiddleware:
    """ASGI middleware: gives each request an id, adds `HEADERS`, logs and counts the request."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; an exception of the application becomes a problem document (500)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        began = time.perf_counter()
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if settings().secure_cookies:
                    headers["Strict-Transport-Security"] = "max-age=31536000"
            await send(message)

        self._metrics.running.inc()
        try:
            await self._app(scope, receive, answer)
        except Exception:
            log.exception("a request failed", extra={"request_id": request_id})
            if status:
                raise
            unexpected = Refused(500, "unexpected", "An unexpected error occurred: tell your administrator.")
            await response_of(unexpected, request_id)(scope, receive, answer)
        finally:
            self._metrics.running.dec()
            self._record(scope, status, time.perf_counter() - began, request_id)

    def _record(self, scope: Scope, status: int, seconds: float, request_id: str) -> None:
        """Count and log a request by its route: its address may contain an id."""
        route = getattr(scope.get("route"), "path", "none")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.requests.labels(route, method, str(status)).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        actor = scope.get("state", {}).get("actor")
        log.info(
            "request",
            extra={
                "request_id": request_id,
                "method": method,
                "route": route,
                "status": status,
                "ms": round(seconds * 1000, 1),
                "actor": None if actor is None else actor.token_id or actor.via,
            },
        )


@dataclass
class _Bucket:
    """A token bucket: `left` requests at the moment `at` (monotonic seconds)."""

    left: float
    at: float


class RateLimit:
    """A limit on the requests of each caller: a token bucket that fills at a steady rate."""

    def __init__(self, a_minute: int, burst_seconds: float = 10.0) -> None:
        """Set the limit.

        Args:
            a_minute: requests a minute for each caller.
            burst_seconds: so many seconds' worth may come at once, and five requests at least.
        """
        self._rate = a_minute / 60
        self._full = max(5.0, self._rate * burst_seconds)
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._mutex = threading.Lock()

    def take(self, caller: str) -> None:
        """Count one request.

        Raises:
            Refused: 429, there were too many; the message says when to come back.
        """
        now = time.monotonic()
        with self._mutex:
            bucket = self._buckets.pop(caller, None) or _Bucket(self._full, now)
            bucket.left = min(self._full, bucket.left + (now - bucket.at) * self._rate)
            bucket.at = now
            self._buckets[caller] = bucket
            if len(self._buckets) > _MOST_BUCKETS:
                self._buckets.popitem(last=False)
            if bucket.left >= 1:
                bucket.left -= 1
                return
            wait = (1 - bucket.left) / self._rate
        raise Refused(
            429,
            "too-many-requests",
            f"Too many requests: try again in {max(1, round(wait))} seconds.",
            {"Retry-After": str(max(1, round(wait)))},
        )
