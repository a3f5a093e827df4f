"""What every request passes on its way in and out: an id, a log line, a count, headers that browsers obey."""

import logging
import time
from uuid import uuid4

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from corpus.settings import settings
from retrieval.service.problems import Refused, document

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
"""Only our own files run, whatever a report holds; nothing is framed, kept or handed on."""


class Metrics:
    """What Prometheus is told. Labels are routes and numbers, never an id or a word of a case."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "similarity_requests",
            "Requests answered.",
            ("route", "method", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "similarity_request_seconds",
            "Time to the end of an answer.",
            ("route",),
            buckets=(0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2.5, 5, 10, 30, 60),
            registry=self.registry,
        )
        self.running = Gauge("similarity_requests_running", "Requests under way.", registry=self.registry)
        self.batch = Histogram(
            "similarity_search_batch",
            "Searches that were answered together.",
            buckets=(1, 2, 4, 8, 16),
            registry=self.registry,
        )


class Edge:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and see to what surrounds it."""
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
            unexpected = Refused(
                500, "unexpected", "Something went wrong that should not: tell who runs the service."
            )
            await document(unexpected, request_id)(scope, receive, answer)
        finally:
            self._metrics.running.dec()
            self._note(scope, status, time.perf_counter() - began, request_id)

    def _note(self, scope: Scope, status: int, seconds: float, request_id: str) -> None:
        """Count and log a request by its route: its address may hold an id."""
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


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
