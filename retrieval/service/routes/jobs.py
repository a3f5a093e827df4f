"""`/v1/jobs`: creating long work on the index, following its progress, cancelling it."""

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
from indexer.catalog.jobs import Job, JobState
from indexer.ingest.removal import studies_of_subject
from retrieval.service.auth import Indexer, Reader, RequestId, Shared, still_allowed
from retrieval.service.problems import Refused, problems
from retrieval.service.schemas import Private, RequestBody
from retrieval.service.state import State
from retrieval.service.uploads import JsonBody, json_of

router = APIRouter(tags=["jobs"])

_POLL_SECONDS = 0.5
_HEARTBEAT_SECONDS = 10.0
NO_JOB = Refused(404, "no-job", "There is no such job.")

JobId = Annotated[str, InPath(pattern="^[0-9a-f]{32}$")]


class JobRequest(RequestBody):
    """A job to create.

    `index-add` takes `source`, `encoder` (for an empty index), `admit`, and for its tables `encoding` and
    `dates`; `index-remove` takes `study` or `subject`.
    """

    kind: Literal["index-add", "index-verify", "index-remove"]
    source: Annotated[str | None, Field(max_length=1_000, examples=["phantom:20@2"])] = None
    encoder: Annotated[
        str | None,
        Field(
            max_length=100,
            pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
            description="Name of an installed encoder.",
        ),
    ] = None
    admit: Annotated[list[str] | None, Field(max_length=20)] = None
    encoding: Annotated[
        str | None,
        Field(min_length=1, max_length=40, description="Of tables and report files; default: detected."),
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
        options_of_add = (self.source, self.encoder, self.admit, self.encoding, self.dates)
        if self.kind != "index-add" and any(options_of_add):
            raise ValueError("source, encoder, admit, encoding and dates are options of index-add")
        return self


class JobView(Private):
    """The state of a job. `outcome`: the JSON that the command of that name prints."""

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
    body: Annotated[JobRequest, Depends(JsonBody(JobRequest))],
    request: Request,
    response: Response,
    state: Shared,
    request_id: RequestId,
) -> JobView:
    """Create a job; it continues without a listener, and after the service was killed."""
    if body.source is not None:
        _require_allowed(body.source)
    options = body.model_dump(exclude={"kind"}, exclude_none=True)
    state.audit.write(actor, body.kind, request_id, _study_keys(state, body), {"source": body.source})
    job = state.jobs.queue(body.kind, options, actor.name)
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
    """Return the jobs, newest first."""
    jobs = state.jobs.latest(limit + 1, before)
    shown = jobs[:limit]
    return JobList(jobs=[_view(job) for job in shown], next=shown[-1].created if len(jobs) > limit else None)


@router.get("/v1/jobs/{job_id}", operation_id="get_job", response_model=JobView, responses=problems(404))
def get_job(job_id: JobId, actor: Reader, state: Shared) -> JobView:
    """Return one job."""
    return _view(_find(state, job_id))


@router.delete(
    "/v1/jobs/{job_id}", operation_id="cancel_job", response_model=JobView, responses=problems(404)
)
def cancel_job(job_id: JobId, actor: Indexer, state: Shared, request_id: RequestId) -> JobView:
    """Cancel a job; what it did so far stays."""
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
            "description": "Server-sent events: `progress` with the job at each change, until it ends.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
        **problems(404),
    },
)
async def job_events(job_id: JobId, request: Request, actor: Reader, state: Shared) -> StreamingResponse:
    """Stream the progress of a job. The stream ends with the job, or when the token is no longer valid."""
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
        current = _view(job).model_dump_json()
        if current != last:
            yield f"event: progress\ndata: {current}\n\n"
            last, quiet = current, 0.0
        if job.state.ended:
            return
        await asyncio.sleep(_POLL_SECONDS)
        quiet += _POLL_SECONDS
        if quiet >= _HEARTBEAT_SECONDS:
            yield ": still running\n\n"
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
    """Refuse sources outside `SIMILARITY_SOURCES_FOLDER`: otherwise a path would probe the server's disk."""
    kind, _, path = source.partition(":")
    if kind == "phantom":
        return
    folder = settings().sources_folder
    if folder is not None:
        allowed = folder.expanduser().resolve()
        if Path(path).expanduser().resolve().is_relative_to(allowed):
            return
    raise Refused(
        422,
        "source-not-allowed",
        "This source is not in the folder that jobs may index (SIMILARITY_SOURCES_FOLDER): index it with "
        "`similarity index add`.",
    )


def _study_keys(state: State, body: JobRequest) -> list[str]:
    studies = [body.study] if body.study else []
    if body.subject:
        studies = studies_of_subject(state.catalog, body.subject)
    return [state.home.keyed("study", study) for study in studies]
