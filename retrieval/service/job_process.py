"""The process that does one job, started by the runner.

It is a process of its own so that neither the network nor the vector engine holds up the service's answers.
It works on the index as a command does, through the service that owns it, and ends with that service. The
ledger makes every ending safe: begun again, it does what is missing.
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
from corpus.worker import give_way
from indexer.catalog.database import open_database
from indexer.home import Home
from indexer.index import Index
from indexer.ingest.pipeline import Added, Stage, Stopped
from retrieval.service.jobs import Job, Jobs, JobState

_NOTE_SECONDS = 0.5

Noting = Callable[[Mapping[str, Any]], None]


def main(job_id: str) -> int:
    """Do a job that was taken; the exit code is 0 when its end is written down."""
    give_way()  # searches go first
    signal.signal(signal.SIGTERM, _end)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    engine = open_database(Home.open())
    jobs = Jobs(engine)
    try:
        job = jobs.get(job_id)
        if job is None or job.state is not JobState.RUNNING:
            return 0
        try:
            outcome = _WORK[job.kind](job, _noting(jobs, job_id))
        except (IndexInUse, OwnerGone):
            return 1  # put back by the runner, to be tried again
        except SimilarityError as error:
            jobs.end(job_id, JobState.FAILED, error=str(error))
        else:
            jobs.end(job_id, JobState.DONE, outcome)
    except (Stopped, ServerUnavailable):  # without the database nothing can be written down
        return 1
    finally:
        engine.dispose()
    return 0


def _add(job: Job, note: Noting) -> Mapping[str, Any]:
    from corpus.notices import Notices
    from corpus.settings import settings
    from corpus.sources import open_source
    from corpus.tables.dates import known_date_format
    from corpus.tables.encodings import known_encoding
    from corpus.tables.options import TableOptions
    from indexer.ingest.pipeline import add_source
    from trainer.models.registry import find_encoder
    from trainer.runtime.encoder import Encoder

    spec, named = str(job.request["source"]), job.request.get("encoder")
    encoding, dates = job.request.get("encoding"), job.request.get("dates")
    notices = Notices()
    tables = TableOptions(
        encoding and known_encoding(str(encoding)), dates and known_date_format(str(dates)), notices
    )
    source = open_source(spec, admit=frozenset(job.request.get("admit") or ()), tables=tables)
    with Index.open(read_only=False, on_wait=lambda line: note({"waiting": line})) as index:
        version = index.catalog.active_version()
        if named is None and version is None:
            raise UsageError("the index is empty: name the encoder to fill it with")
        folder = find_encoder(named if named is not None else str(version and version.folder))
        encoder = Encoder.load(folder, settings().device)
        index.use(encoder)
        note({"studies": 0, "embedded": {}})
        ending = threading.Event()
        signal.signal(signal.SIGTERM, lambda _signal, _frame: ending.set())  # end between two moments

        def observe(_stage: Stage, added: Added) -> None:
            if ending.is_set():
                raise Stopped
            note({"studies": added.studies, "embedded": dict(added.embedded)})

        added = add_source(index, source, encoder, origin=spec, folder=str(folder), observer=observe)
    told = {"source": spec, "encoder": {"name": encoder.name, "fingerprint": encoder.fingerprint}}
    return {**told, **added.as_json(), "notices": notices.as_json()}


def _verify(job: Job, note: Noting) -> Mapping[str, Any]:
    from indexer.ingest.repair import verify

    note({})
    # Beside a run, its steps would look like faults.
    with Index.open(read_only=False, on_wait=lambda line: note({"waiting": line})) as index:
        return verify(index).as_json()


def _remove(job: Job, note: Noting) -> Mapping[str, Any]:
    from indexer.ingest.removal import remove_study, remove_subject

    note({})
    with Index.open(read_only=False, on_wait=lambda line: note({"waiting": line})) as index:
        study, subject = job.request.get("study"), job.request.get("subject")
        removed = remove_study(index, str(study)) if study else remove_subject(index, str(subject))
        return removed.as_json()


_WORK: Mapping[str, Callable[[Job, Noting], Mapping[str, Any]]] = {
    "index-add": _add,
    "index-verify": _verify,
    "index-remove": _remove,
}


def _noting(jobs: Jobs, job_id: str) -> Noting:
    """Write progress down, a few times a second at most; stop when the job was cancelled."""
    last = 0.0

    def note(progress: Mapping[str, Any]) -> None:
        nonlocal last
        if time.monotonic() - last < _NOTE_SECONDS:
            return
        last = time.monotonic()
        with suppress(ServerUnavailable):  # work that waits for the database waits for it by itself
            if not jobs.note(job_id, progress):
                raise Stopped

    return note


def _end(_signal: int, _frame: FrameType | None) -> None:
    raise Stopped


def _end_with_parent() -> None:
    """Stdin is the runner's end of a pipe: when it closes, the service is gone, however it ended."""
    # Not by sys.stdin: its lock, held by a thread that waits, aborts the interpreter at its end.
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
