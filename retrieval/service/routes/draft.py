"""`POST /v1/draft`: a draft report of an image with the evidence of each sentence; and its export as text."""

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field

from retrieval.draft.neighbours import VOTERS
from retrieval.service import background_worker, case_views, schemas
from retrieval.service.access import Actor
from retrieval.service.auth import Reader, RequestId, Shared
from retrieval.service.problems import problems
from retrieval.service.state import State
from retrieval.service.uploads import body_of, receive_as

router = APIRouter(tags=["draft"])


class DraftRequest(schemas.RequestBody):
    """A draft: of `image`, an image of the index, or of an uploaded one."""

    image: schemas.Opaque | None = None
    k: Annotated[int, Field(ge=1, le=1_000, description="How many neighbours of each kind vote.")] = VOTERS
    where: Annotated[
        str | None, Field(max_length=2_000, description="Only neighbours that satisfy this filter.")
    ] = None


class StatedFindings(BaseModel):
    """The findings that a sentence or a draft states."""

    present: list[str]
    absent: list[str]


class Vote(BaseModel):
    """The vote of the neighbours on one finding.

    agree: neighbours that state it, of `of` that mention it.
    probability: that such a vote is right, from 0 to 1.
    """

    finding: str
    status: Literal["present", "absent"]
    probability: float
    agree: int
    of: int


class SentenceSource(BaseModel):
    """A report that contains the sentence. `id`: its case; null where it was removed meanwhile."""

    id: schemas.Opaque | None
    study_id: str
    item_id: str
    text: str


class Sentence(BaseModel):
    """A sentence of the draft with its evidence. `questions`: what its brackets leave to the reader."""

    text: str
    findings: StatedFindings
    questions: list[Literal["side", "zone", "severity"]]
    votes: list[Vote]
    support: int
    sources: list[SentenceSource]


class DraftAnswer(BaseModel):
    """A draft, or the reason for its absence, as `similarity draft --json` prints it."""

    heading: str
    encoder: schemas.EncoderName
    drafted: bool
    reason: str | None
    findings: StatedFindings
    sentences: list[Sentence]
    unworded: list[Vote]
    asked_of_reader: list[str]
    not_assessed: list[str]
    neighbours: int
    calibrated_by: int | None
    notes: schemas.Notes
    text: Annotated[str, Field(description="The whole draft as text.")]


@router.post(
    "/v1/draft",
    operation_id="draft",
    response_model=DraftAnswer,
    responses=problems(404, 408, 409, 410, 413, 415, 507),
    openapi_extra=body_of(DraftRequest, {"k": 20}),
)
async def draft(request: Request, actor: Reader, state: Shared, request_id: RequestId) -> DraftAnswer:
    """Draft a report of an image from its nearest neighbours: raw material for a reader, never a report."""
    made = await _draft(state, request)
    return await run_in_threadpool(_answer, state, actor, request_id, made)


@router.post(
    "/v1/exports/draft",
    operation_id="export_draft",
    response_class=Response,
    responses={
        200: {"description": "Text.", "content": {"text/plain": {"schema": {"type": "string"}}}},
        **problems(404, 408, 409, 410, 413, 415, 507),
    },
    openapi_extra=body_of(DraftRequest, {"k": 20}),
)
async def export_draft(request: Request, actor: Reader, state: Shared, request_id: RequestId) -> Response:
    """Return the same draft as a text file; its first line says that it is a draft."""
    made = await _draft(state, request)
    await run_in_threadpool(_record, state, actor, request_id, made, "export")
    return Response(
        made["text"],
        media_type="text/plain; charset=utf-8",
        headers={"Content-Disposition": 'attachment; filename="draft.txt"'},
    )


async def _draft(state: State, request: Request) -> dict[str, Any]:
    body, content = await receive_as(request, DraftRequest)
    image = await run_in_threadpool(case_views.query_image, state, body.image, content)
    future = state.background.run(background_worker.draft, image, body.k, body.where)
    return await asyncio.wrap_future(future)


def _keys(state: State, made: dict[str, Any]) -> dict[str, str]:
    """Return study_id → opaque id of each case that a draft quotes and that still exists."""
    quoted = {source["study_id"] for sentence in made["sentences"] for source in sentence["sources"]}
    return {study: case_views.study_key(state.home, study) for study in state.catalog.studies(quoted)}


def _record(state: State, actor: Actor, request_id: str, made: dict[str, Any], action: str) -> dict[str, str]:
    keys = _keys(state, made)
    state.audit.write(actor, action, request_id, keys.values(), {"what": "draft"})
    return keys


def _answer(state: State, actor: Actor, request_id: str, made: dict[str, Any]) -> DraftAnswer:
    keys = _record(state, actor, request_id, made, "draft")
    for sentence in made["sentences"]:
        for source in sentence["sources"]:
            source["id"] = keys.get(source["study_id"])
    return DraftAnswer(**{name: value for name, value in made.items() if name != "query"})
