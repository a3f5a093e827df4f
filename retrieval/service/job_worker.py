"""The job worker: a process that runs one job, started by the job runner.

It is a process of its own so that neither the network nor the vector engine delays the service's answers. It
opens the index as a command does, through the service that owns it, and ends with that service. The ledger
makes every end safe: run again, the job does what is missing.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import FrameType
from typing import Any

from corpus.errors import IndexInUse, OwnerGone, ServerUnavailable, SimilarityError, UsageError
from corpus.worker import lower_priority
from indexer.catalog.catalog import Catalog
from indexer.catalog.jobs import Job, Jobs, JobState
from indexer.home import Home
from indexer.index import Index
from indexer.ingest.added import Added, Stage, Stopped

_REPORT_SECONDS = 0.5

WriteProgress = Callable[[Mapping[str, Any]], None]
"""Writes the progress of a job."""


def main(job_id: str) -> int:
    """Run a job that the runner took; returns the exit code, 0 when the end of the job is recorded."""
    lower_priority()  # searches go first
    signal.signal(signal.SIGTERM, _end)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    catalog = Catalog.open(Home.open())
    jobs = Jobs(catalog)
    try:
        job = jobs.get(job_id)
        if job is None or job.state is not JobState.RUNNING:
            return 0
        try:
            outcome = _WORK[job.kind](job, _reporter(jobs, job_id))
        except (IndexInUse, OwnerGone):
            return 1  # the runner puts the job back, to be tried again
        except SimilarityError as error:
            jobs.end(job_id, JobState.FAILED, error=str(error))
        else:
            jobs.end(job_id, JobState.DONE, outcome)
    except (Stopped, ServerUnavailable):  # without the database nothing can be recorded
        return 1
    finally:
        catalog.close()
    return 0


def _add(job: Job, write_progress: WriteProgress) -> Mapping[str, Any]:
    from corpus.notices import Notices
    from corpus.settings import settings
    from corpus.sources import open_source
    from corpus.tables import TableOptions
    from corpus.tables.dates import parse_date_format
    from corpus.tables.encodings import parse_encoding
    from indexer.ingest.pipeline import add_source
    from trainer.models.resolve import resolve_encoder
    from trainer.runtime.encoder import Encoder

    spec, named = str(job.request["source"]), job.request.get("encoder")
    encoding, dates = job.request.get("encoding"), job.request.get("dates")
    notices = Notices()
    tables = TableOptions(
        encoding and parse_encoding(str(encoding)), dates and parse_date_format(str(dates)), notices
    )
    source = open_source(spec, admit=frozenset(job.request.get("admit") or ()), tables=tables)
    with Index.open(read_only=False, on_wait=lambda line: write_progress({"waiting": line})) as index:
        version = index.catalog.active_version()
        if named is None and version is None:
            raise UsageError("the index is empty: name the encoder to fill it with")
        folder = resolve_encoder(named if named is not None else str(version and version.folder))
        encoder = Encoder.load(folder, settings().device)
        index.use(encoder)
        write_progress({"studies": 0, "embedded": {}})
        ending = threading.Event()
        signal.signal(signal.SIGTERM, lambda _signal, _frame: ending.set())  # the job ends between two steps

        def observe(_stage: Stage, added: Added) -> None:
            if ending.is_set():
                raise Stopped
            write_progress({"studies": added.studies, "embedded": dict(added.embedded)})

        added = add_source(index, source, encoder, origin=spec, folder=str(folder), observer=observe)
    origin = {"source": spec, "encoder": {"name": encoder.name, "fingerprint": encoder.fingerprint}}
    return {**origin, **added.as_json(), "notices": notices.as_json()}


def _verify(job: Job, write_progress: WriteProgress) -> Mapping[str, Any]:
    from indexer.ingest.repair import verify

    write_progress({})
    # Beside an ingest, its steps would look like faults: the lock excludes one.
    with Index.open(read_only=False, on_wait=lambda line: write_progress({"waiting": line})) as index:
        return verify(index).as_json()


def _remove(job: Job, write_progress: WriteProgress) -> Mapping[str, Any]:
    from indexer.ingest.removal import remove_study, remove_subject

    write_progress({})
    with Index.open(read_only=False, on_wait=lambda line: write_progress({"waiting": line})) as index:
        study, subject = job.request.get("study"), job.request.get("subject")
        removed = remove_study(index, str(study)) if study else remove_subject(index, str(subject))
        return removed.as_json()


_WORK: Mapping[str, Callable[[Job, WriteProgress], Mapping[str, Any]]] = {
    "index-add": _add,
    "index-verify": _verify,
    "index-remove": _remove,
}


def _reporter(jobs: Jobs, job_id: str) -> WriteProgress:
    """Return what writes progress, twice a second at most, and raises `Stopped` once the job is cancelled."""
    last = 0.0

    def write_progress(progress: Mapping[str, Any]) -> None:
        nonlocal last
        if time.monotonic() - last < _REPORT_SECONDS:
            return
        last = time.monotonic()
        with suppress(ServerUnavailable):  # the job waits for the database by itself
            if not jobs.note(job_id, progress):
                raise Stopped

    return write_progress


def _end(_signal: int, _frame: FrameType | None) -> None:
    raise Stopped


def _end_with_parent() -> None:
    """End with the service: stdin is the runner's end of a pipe, which closes however the service ends."""
    # Not by sys.stdin: its lock, held by a thread that waits, aborts the interpreter at its end.
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
