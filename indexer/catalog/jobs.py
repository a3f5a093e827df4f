"""The job queue: long work requested over HTTP, as rows of the catalog, so that it outlives its process."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import uuid4

import sqlalchemy as sa

from corpus.redaction import redacted
from indexer.catalog.database import Connected, in_utc
from indexer.catalog.models import JobRow

ATTEMPTS = 3
"""Starts of a job before it fails because its process died; each continues from the last commit."""

LOST_SECONDS = 60.0
"""Without a heartbeat for this long, a running job is queued again."""


class JobState(StrEnum):
    """State of a job: waiting, running, or ended."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether the state is final."""
        return self not in (JobState.QUEUED, JobState.RUNNING)


@redacted
@dataclass(frozen=True, slots=True)
class Job:
    """A job.

    `kind`: name of the command. `request`: its arguments. `progress`: counts so far. `outcome`: what the
    command prints as JSON. `error`: why it failed. `attempts`: how often it was started.
    """

    job_id: str
    kind: str
    state: JobState
    actor: str
    request: Mapping[str, Any]
    progress: Mapping[str, Any]
    outcome: Mapping[str, Any] | None
    error: str | None
    attempts: int
    created: datetime
    ended: datetime | None


class Jobs:
    """The job queue of a catalog. Threads and processes may share it."""

    def __init__(self, catalog: Connected) -> None:
        """Use this catalog's database."""
        self._engine = catalog.engine

    def queue(self, kind: str, request: Mapping[str, Any], actor: str) -> Job:
        """Add a job and return it."""
        job_id = uuid4().hex
        with self._engine.begin() as connection:
            connection.execute(
                sa.insert(JobRow).values(
                    job_id=job_id,
                    kind=kind,
                    state=JobState.QUEUED.value,
                    actor=actor,
                    request=dict(request),
                    progress={},
                    attempts=0,
                    created=datetime.now(UTC),
                )
            )
        job = self.get(job_id)
        assert job is not None
        return job

    def get(self, job_id: str) -> Job | None:
        """Return a job by its id, or None."""
        with self._engine.connect() as connection:
            row = connection.execute(sa.select(JobRow.__table__).where(JobRow.job_id == job_id)).first()
        return None if row is None else _job(row)

    def latest(self, limit: int, before: datetime | None = None) -> list[Job]:
        """Return the newest jobs, newest first; `before`: only those created earlier."""
        select = sa.select(JobRow.__table__).order_by(JobRow.created.desc(), JobRow.job_id).limit(limit)
        if before is not None:
            select = select.where(JobRow.created < before)
        with self._engine.connect() as connection:
            return [_job(row) for row in connection.execute(select)]

    def take(self) -> Job | None:
        """Start the oldest queued job and return it, or None. Of several workers one gets it."""
        oldest = sa.select(JobRow.job_id).where(JobRow.state == JobState.QUEUED.value)
        with self._engine.connect() as connection:
            waiting = connection.scalars(oldest.order_by(JobRow.created)).all()
        for job_id in waiting:
            started = {
                "state": JobState.RUNNING.value,
                "attempts": JobRow.attempts + 1,
                "seen": datetime.now(UTC),
            }
            if self._change(job_id, JobState.QUEUED, started):
                return self.get(job_id)
        return None

    def note(self, job_id: str, progress: Mapping[str, Any] | None = None) -> bool:
        """Record a heartbeat and progress; return False when the job is no longer running."""
        changes: dict[str, Any] = {"seen": datetime.now(UTC)}
        if progress is not None:
            changes["progress"] = dict(progress)
        return self._change(job_id, JobState.RUNNING, changes)

    def end(
        self,
        job_id: str,
        state: JobState,
        outcome: Mapping[str, Any] | None = None,
        error: str | None = None,
    ) -> bool:
        """End a running job; return False when it is not running."""
        changes = {"state": state.value, "outcome": outcome and dict(outcome), "error": error}
        return self._change(job_id, JobState.RUNNING, {**changes, "ended": datetime.now(UTC)})

    def put_back(self, job_id: str, *, to_blame: bool = True) -> None:
        """Queue a running job again, or fail it after `ATTEMPTS` starts.

        Args:
            job_id: which.
            to_blame: the job may have ended its process: this start counts as an attempt.
        """
        job = self.get(job_id)
        if job is None:
            return
        if to_blame and job.attempts >= ATTEMPTS:
            error = f"the process that worked on it ended {job.attempts} times"
            self.end(job_id, JobState.FAILED, error=error)
            return
        attempts = job.attempts if to_blame else job.attempts - 1
        waiting = {"state": JobState.QUEUED.value, "attempts": attempts}
        self._change(job_id, JobState.RUNNING, waiting)

    def put_back_lost(self, all_of_them: bool) -> int:
        """Queue running jobs again that lost their process; return how many.

        Args:
            all_of_them: every running job is lost, since an earlier owner of the home ran it; else only those
                without a heartbeat for `LOST_SECONDS`.
        """
        lost = sa.select(JobRow.job_id).where(JobRow.state == JobState.RUNNING.value)
        if not all_of_them:
            lost = lost.where(JobRow.seen < datetime.now(UTC) - timedelta(seconds=LOST_SECONDS))
        with self._engine.connect() as connection:
            ids = connection.scalars(lost).all()
        for job_id in ids:
            self.put_back(job_id)
        return len(ids)

    def cancel(self, job_id: str) -> Job | None:
        """Cancel a job that has not ended; what it committed stays."""
        changes = {"state": JobState.CANCELLED.value, "ended": datetime.now(UTC)}
        for state in (JobState.QUEUED, JobState.RUNNING):
            self._change(job_id, state, changes)
        return self.get(job_id)

    def _change(self, job_id: str, state: JobState, changes: Mapping[str, Any]) -> bool:
        """Change a job that is in a state; return False when it is in another."""
        change = sa.update(JobRow).where(JobRow.job_id == job_id, JobRow.state == state.value)
        with self._engine.begin() as connection:
            return connection.execute(change.values(**changes)).rowcount == 1


def _job(row: Any) -> Job:
    return Job(
        row.job_id,
        row.kind,
        JobState(row.state),
        row.actor,
        row.request,
        row.progress,
        row.outcome,
        row.error,
        row.attempts,
        in_utc(row.created),
        None if row.ended is None else in_utc(row.ended),
    )
