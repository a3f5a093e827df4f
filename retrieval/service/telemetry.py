"""What operators see: logs as JSON lines, metrics for Prometheus. Neither shows data of a patient."""

import json
import logging
import traceback
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_EXTRA_FIELDS = ("request_id", "method", "route", "status", "ms", "actor", "job")


class JsonLines(logging.Formatter):
    """A log formatter: one JSON object a line.

    Of an exception it writes the class and the stack, not the text, which may quote a query or a report.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Format one record."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: getattr(record, name) for name in _EXTRA_FIELDS if hasattr(record, name)}
        if record.exc_info and record.exc_info[0] is not None:
            frames = traceback.extract_tb(record.exc_info[2])
            line["error"] = record.exc_info[0].__name__
            line["at"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames[-12:]]
        return json.dumps(line, ensure_ascii=True, default=str)


def configure_logging(level: int = logging.INFO) -> None:
    """Send every logger's records to stderr as JSON lines."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in ("corpus", "trainer", "indexer", "retrieval", "uvicorn.error"):
        logging.getLogger(name).setLevel(level)
    logging.getLogger("uvicorn.access").disabled = True  # it writes addresses


class Metrics:
    """The metrics of one service. Labels are routes and numbers, never an id or a word of a case."""

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
