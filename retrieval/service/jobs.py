"""Long work that was asked for over HTTP: a row in the catalog, so that it outlives whoever works on it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import uuid4

import sqlalchemy as sa

from corpus.redaction import redacted
from indexer.catalog.models import JobRow
from retrieval.service.access import in_utc

ATTEMPTS = 3
"""How often a job is begun whose process dies; each time it goes on where the last one was."""

LOST_SECONDS = 60.0
"""After so long without a sign of the process that works on a job, another takes it over."""


class JobState(StrEnum):
    """Where a job is: it waits, is worked on, or has ended one way or another."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self not in (JobState.QUEUED, JobState.RUNNING)


@redacted
@dataclass(frozen=True, slots=True)
class Job:
    """A job as it stands. `outcome` is what the command of the same name prints as JSON."""

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
    """The jobs of a catalog. Threads and processes may share it."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def queue(self, kind: str, request: Mapping[str, Any], actor: str) -> Job:
        """Ask for work."""
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
        """A job by its id."""
        with self._engine.connect() as connection:
            row = connection.execute(sa.select(JobRow.__table__).where(JobRow.job_id == job_id)).first()
        return None if row is None else _job(row)

    def latest(self, limit: int, before: datetime | None = None) -> list[Job]:
        """The newest jobs first; `before`: only those made earlier."""
        wanted = sa.select(JobRow.__table__).order_by(JobRow.created.desc(), JobRow.job_id).limit(limit)
        if before is not None:
            wanted = wanted.where(JobRow.created < before)
        with self._engine.connect() as connection:
            return [_job(row) for row in connection.execute(wanted)]

    def take(self) -> Job | None:
        """Begin the oldest job that waits; None where none does. Of several takers one gets it."""
        oldest = sa.select(JobRow.job_id).where(JobRow.state == JobState.QUEUED.value)
        with self._engine.connect() as connection:
            waiting = connection.scalars(oldest.order_by(JobRow.created)).all()
        for job_id in waiting:
            begun = {
                "state": JobState.RUNNING.value,
                "attempts": JobRow.attempts + 1,
                "seen": datetime.now(UTC),
            }
            if self._change(job_id, JobState.QUEUED, begun):
                return self.get(job_id)
        return None

    def note(self, job_id: str, progress: Mapping[str, Any] | None = None) -> bool:
        """Give a sign of life, and say how far it is; False where the job is no longer to be worked on."""
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
        """End a job that is worked on."""
        changes = {"state": state.value, "outcome": outcome and dict(outcome), "error": error}
        return self._change(job_id, JobState.RUNNING, {**changes, "ended": datetime.now(UTC)})

    def put_back(self, job_id: str, *, to_blame: bool = True) -> None:
        """Let a job that was worked on wait again.

        Args:
            job_id: which.
            to_blame: the job may be what ended the process; it has failed when that happened too often.
        """
        job = self.get(job_id)
        if job is None:
            return
        if to_blame and job.attempts >= ATTEMPTS:
            told = f"the process that worked on it ended {job.attempts} times"
            self.end(job_id, JobState.FAILED, error=told)
            return
        attempts = job.attempts if to_blame else job.attempts - 1
        waiting = {"state": JobState.QUEUED.value, "attempts": attempts}
        self._change(job_id, JobState.RUNNING, waiting)

    def put_back_lost(self, all_of_them: bool) -> int:
        """Let jobs wait again that nobody works on any more.

        Args:
            all_of_them: every running job is lost, since whoever worked on it owned the home before; else
                only those without a sign of life.
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
        """Stop a job that has not ended; what it did so far stays."""
        changes = {"state": JobState.CANCELLED.value, "ended": datetime.now(UTC)}
        for state in (JobState.QUEUED, JobState.RUNNING):
            self._change(job_id, state, changes)
        return self.get(job_id)

    def _change(self, job_id: str, state: JobState, changes: Mapping[str, Any]) -> bool:
        """Change a job that is in a state; False where it is in another."""
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
