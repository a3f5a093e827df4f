"""`/v1/jobs`: long work on the index, its progress as it goes, and stopping it."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi import Path as InPath
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from pydantic import Field, model_validator

from corpus.settings import settings
from indexer.ingest.removal import studies_of_subject
from retrieval.service.auth import Indexer, Reader, RequestId, Shared, still_allowed
from retrieval.service.jobs import Job, JobState
from retrieval.service.problems import Refused, problems
from retrieval.service.schemas import Asking, Private
from retrieval.service.state import State
from retrieval.service.uploads import JsonBody, json_of

router = APIRouter(tags=["jobs"])

_LOOK_SECONDS = 0.5
_QUIET_SECONDS = 10.0
NO_JOB = Refused(404, "no-job", "There is no such job.")

JobId = Annotated[str, InPath(pattern="^[0-9a-f]{32}$")]


class JobRequest(Asking):
    """What is to be done.

    `index-add` takes `source`, `encoder` (for an empty index), `admit`, and of its tables `encoding` and
    `dates`; `index-remove` one of `study` and `subject`.
    """

    kind: Literal["index-add", "index-verify", "index-remove"]
    source: Annotated[str | None, Field(max_length=1_000, examples=["phantom:20@2"])] = None
    encoder: Annotated[
        str | None,
        Field(max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="A known encoder's name."),
    ] = None
    admit: Annotated[list[str] | None, Field(max_length=20)] = None
    encoding: Annotated[
        str | None,
        Field(min_length=1, max_length=40, description="Of tables and report files; found if none."),
    ] = None
    dates: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=40,
            description="How a manifest's dates are written: day_first, month_first, excel, or %d.%m.%Y.",
        ),
    ] = None
    study: Annotated[str | None, Field(min_length=1, max_length=500)] = None
    subject: Annotated[str | None, Field(min_length=1, max_length=500)] = None

    @model_validator(mode="after")
    def _fits(self) -> "JobRequest":
        if self.kind == "index-add" and self.source is None:
            raise ValueError("index-add needs a source")
        if (self.kind == "index-remove") != ((self.study is None) != (self.subject is None)):
            raise ValueError("index-remove needs either a study or a subject, and nothing else does")
        of_a_source = (self.source, self.encoder, self.admit, self.encoding, self.dates)
        if self.kind != "index-add" and any(of_a_source):
            raise ValueError("source, encoder, admit, encoding and dates are index-add's")
        return self


class JobView(Private):
    """A job as it stands. `outcome`: what the command of that name prints with `--json`."""

    id: str
    kind: str
    state: JobState
    actor: str
    progress: dict[str, Any]
    outcome: dict[str, Any] | None
    error: str | None
    attempts: int
    created: datetime
    ended: datetime | None


class JobList(Private):
    """Jobs, newest first. `next`: the `before` of the next page, or null."""

    jobs: list[JobView]
    next: datetime | None


@router.post(
    "/v1/jobs",
    operation_id="create_job",
    response_model=JobView,
    status_code=202,
    responses=problems(408, 413, 415),
    openapi_extra=json_of(JobRequest),
)
def create_job(
    actor: Indexer,
    asked: Annotated[JobRequest, Depends(JsonBody(JobRequest))],
    request: Request,
    response: Response,
    state: Shared,
    request_id: RequestId,
) -> JobView:
    """Ask for work on the index; it goes on when nobody watches, and after the service was killed."""
    if asked.source is not None:
        _require_allowed(asked.source)
    wanted = asked.model_dump(exclude={"kind"}, exclude_none=True)
    state.audit.write(actor, asked.kind, request_id, _named(state, asked), {"source": asked.source})
    job = state.jobs.queue(asked.kind, wanted, actor.name)
    state.wake_runner()
    response.headers["Location"] = f"{request.scope.get('root_path', '')}/v1/jobs/{job.job_id}"
    return _view(job)


@router.get("/v1/jobs", operation_id="list_jobs", response_model=JobList, responses=problems())
def list_jobs(
    actor: Reader,
    state: Shared,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    before: Annotated[datetime | None, Query(description="`next` of the page before.")] = None,
) -> JobList:
    """The jobs, newest first."""
    jobs = state.jobs.latest(limit + 1, before)
    shown = jobs[:limit]
    return JobList(jobs=[_view(job) for job in shown], next=shown[-1].created if len(jobs) > limit else None)


@router.get("/v1/jobs/{job_id}", operation_id="get_job", response_model=JobView, responses=problems(404))
def get_job(job_id: JobId, actor: Reader, state: Shared) -> JobView:
    """One job."""
    return _view(_find(state, job_id))


@router.delete(
    "/v1/jobs/{job_id}", operation_id="cancel_job", response_model=JobView, responses=problems(404)
)
def cancel_job(job_id: JobId, actor: Indexer, state: Shared, request_id: RequestId) -> JobView:
    """Stop a job; what it did so far stays."""
    _find(state, job_id)
    state.audit.write(actor, "cancel", request_id, detail={"job": job_id})
    job = state.jobs.cancel(job_id)
    if job is None:
        raise NO_JOB
    return _view(job)


@router.get(
    "/v1/jobs/{job_id}/events",
    operation_id="job_events",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Server-sent events: `progress` with the job whenever it changed, until it ends.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
        **problems(404),
    },
)
async def job_events(job_id: JobId, request: Request, actor: Reader, state: Shared) -> StreamingResponse:
    """A job's progress as it goes. The stream ends with the job, or when the token no longer works."""
    await run_in_threadpool(_find, state, job_id)
    return StreamingResponse(_events(state, request, job_id), media_type="text/event-stream")


async def _events(state: State, request: Request, job_id: str) -> AsyncIterator[str]:
    last, quiet = "", 0.0
    while not state.closing.is_set() and not await request.is_disconnected():
        if not await run_in_threadpool(still_allowed, request):
            yield 'event: problem\ndata: {"detail": "The token no longer works."}\n\n'
            return
        job = await run_in_threadpool(state.jobs.get, job_id)
        if job is None:
            return
        told = _view(job).model_dump_json()
        if told != last:
            yield f"event: progress\ndata: {told}\n\n"
            last, quiet = told, 0.0
        if job.state.ended:
            return
        await asyncio.sleep(_LOOK_SECONDS)
        quiet += _LOOK_SECONDS
        if quiet >= _QUIET_SECONDS:
            yield ": still at it\n\n"
            quiet = 0.0


def _find(state: State, job_id: str) -> Job:
    job = state.jobs.get(job_id)
    if job is None:
        raise NO_JOB
    return job


def _view(job: Job) -> JobView:
    return JobView(
        id=job.job_id,
        kind=job.kind,
        state=job.state,
        actor=job.actor,
        progress=dict(job.progress),
        outcome=None if job.outcome is None else dict(job.outcome),
        error=job.error,
        attempts=job.attempts,
        created=job.created,
        ended=job.ended,
    )


def _require_allowed(source: str) -> None:
    """Let only sources be named that lie in the folder meant for it: else a path is a way to look around."""
    kind, _, place = source.partition(":")
    if kind == "phantom":
        return
    folder = settings().sources_folder
    if folder is not None:
        allowed = folder.expanduser().resolve()
        if Path(place).expanduser().resolve().is_relative_to(allowed):
            return
    raise Refused(
        422,
        "source-not-allowed",
        "This source does not lie in the folder whose sources may be indexed from here "
        "(SIMILARITY_SOURCES_FOLDER): index it with the command.",
    )


def _named(state: State, asked: JobRequest) -> list[str]:
    studies = [asked.study] if asked.study else []
    if asked.subject:
        studies = studies_of_subject(state.catalog, asked.subject)
    return [state.home.keyed("study", study) for study in studies]
