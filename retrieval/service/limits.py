"""How often somebody may ask: a bucket of tokens for each, filled at a steady rate."""

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass

from retrieval.service.problems import Refused

_MOST_KNOWN = 10_000  # askers remembered; the longest silent are forgotten, their buckets being full again


@dataclass
class _Bucket:
    left: float
    at: float


class RateLimit:
    """At most so many requests a minute for each asker, of which a few seconds' worth may come at once."""

    def __init__(self, a_minute: int, burst_seconds: float = 10.0) -> None:
        self._rate = a_minute / 60
        self._full = max(5.0, self._rate * burst_seconds)
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._mutex = threading.Lock()

    def take(self, asker: str) -> None:
        """Count one request.

        Raises:
            Refused: there were too many; it says when to come back.
        """
        now = time.monotonic()
        with self._mutex:
            bucket = self._buckets.pop(asker, None) or _Bucket(self._full, now)
            bucket.left = min(self._full, bucket.left + (now - bucket.at) * self._rate)
            bucket.at = now
            self._buckets[asker] = bucket
            if len(self._buckets) > _MOST_KNOWN:
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
