"""The runner: starts queued jobs one at a time, each in a process of its own."""

import logging
import os
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

from corpus.errors import HomeError, ServerUnavailable
from corpus.worker import command
from indexer.catalog.database_failures import DatabaseError
from indexer.catalog.jobs import Job, Jobs, JobState

log = logging.getLogger(__name__)

_POLL_SECONDS = 1.0
_HEARTBEAT_SECONDS = 1.0
_TERMINATE_SECONDS = 10.0
_WAIT_FOR_WRITER = "86400"  # a job waits for another writer rather than fail


class Runner:
    """A thread that starts jobs, watches their processes, and queues again what a dead one leaves."""

    def __init__(self, jobs: Jobs, home: Path, sole: bool) -> None:
        """Start it.

        Args:
            jobs: the queue.
            home: the home folder that they work on.
            sole: no other service works on this home, so that a running job lost its process.
        """
        self._jobs, self._home, self._sole = jobs, home, sole
        self._closing = threading.Event()
        self._bell = threading.Event()
        self._thread = threading.Thread(target=self._run, name="jobs", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Look for jobs now."""
        self._bell.set()

    def close(self) -> None:
        """Stop; the running job is queued again for the next service."""
        self._closing.set()
        self._bell.set()
        self._thread.join()

    def _run(self) -> None:
        first = True
        while not self._closing.is_set():
            try:
                self._jobs.put_back_lost(all_of_them=self._sole and first)
                first = False
                job = self._jobs.take()
                if job is not None:
                    self._do(job)
                    continue
            except (HomeError, DatabaseError) as error:
                log.error("jobs cannot be looked for: %s", type(error).__name__)
            self._bell.wait(_POLL_SECONDS)
            self._bell.clear()

    def _do(self, job: Job) -> None:
        log.info("a job begins", extra={"job": job.job_id})
        environment = {
            **os.environ,
            "SIMILARITY_HOME": str(self._home),
            "SIMILARITY_LOCK_WAIT_SECONDS": _WAIT_FOR_WRITER,
        }
        process = subprocess.Popen(
            command("retrieval.service.job_worker:main", job.job_id),
            stdin=subprocess.PIPE,
            env=environment,
        )
        try:
            while process.poll() is None and not self._closing.is_set():
                with suppress(ServerUnavailable):  # the job waits for the database by itself
                    if not self._jobs.note(job.job_id):
                        break  # cancelled
                try:
                    process.wait(_HEARTBEAT_SECONDS)
                except subprocess.TimeoutExpired:
                    continue
        finally:
            _end(process)
        self._settle(job)

    def _settle(self, job: Job) -> None:
        """Queue a job again when its process ended before the job did."""
        now = self._jobs.get(job.job_id)
        if now is not None and now.state is JobState.RUNNING:
            log.warning("a job's process ended before the job", extra={"job": job.job_id})
            self._jobs.put_back(job.job_id, to_blame=not self._closing.is_set())
        elif now is not None:
            log.info("a job is %s", now.state, extra={"job": job.job_id})


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Terminate a process; kill it where it does not end in time."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_TERMINATE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdin is not None:
        process.stdin.close()
