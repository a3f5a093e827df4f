"""Logs as JSON lines on stderr: when, what, which request; never a word of what was asked or answered."""

import json
import logging
import traceback
from datetime import UTC, datetime

_OWN = ("request_id", "method", "route", "status", "ms", "actor", "job")


class JsonLines(logging.Formatter):
    """A formatter of one JSON object a line.

    Of an exception it keeps kind and place and leaves out the text, which may hold what somebody typed.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Format one record."""
        told: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        told |= {name: getattr(record, name) for name in _OWN if hasattr(record, name)}
        if record.exc_info and record.exc_info[0] is not None:
            frames = traceback.extract_tb(record.exc_info[2])
            told["error"] = record.exc_info[0].__name__
            told["at"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames[-12:]]
        return json.dumps(told, ensure_ascii=True, default=str)


def configure(level: int = logging.INFO) -> None:
    """Send every logger's records to stderr as JSON lines."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in ("corpus", "trainer", "indexer", "retrieval", "uvicorn.error"):
        logging.getLogger(name).setLevel(level)
    logging.getLogger("uvicorn.access").disabled = True  # it writes addresses
