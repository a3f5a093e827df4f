"""A connection to Postgres that does not wait for ever: a frozen server keeps its connections open.

The system acknowledges what such a server does not read, so that no time limit of TCP ends the wait.
"""

from typing import Any

import psycopg
from psycopg import errors


class BoundedConnection(psycopg.Connection[Any]):
    """A psycopg connection on which each answer of the server has to come within a time limit.

    `answer_seconds`: the limit; None: none, as for a migration.
    """

    answer_seconds: float | None = None

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """Wait for an answer; where none comes in time, close the connection.

        Raises:
            psycopg.OperationalError: none came in time.
        """
        try:
            return super().wait(gen, interval, self.answer_seconds if timeout is None else timeout)
        except errors._WaitTimeout:
            if timeout is not None:  # the caller's own
                raise
            self.pgconn.finish()
            raise psycopg.OperationalError("timeout: the server gave no answer in time") from None
