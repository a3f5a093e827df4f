"""`POST /v1/draft`: a draft report of a film, with what each sentence rests on; and as text to take away."""

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field

from retrieval.draft.neighbours import VOTERS
from retrieval.service import cases, schemas, slow_worker
from retrieval.service.access import Actor
from retrieval.service.auth import Reader, RequestId, Shared
from retrieval.service.problems import problems
from retrieval.service.routes.search import picture_of
from retrieval.service.state import State
from retrieval.service.uploads import body_of, receive_as

router = APIRouter(tags=["draft"])


class DraftRequest(schemas.Asking):
    """A draft: of `image`, a picture of the index, or of one that is sent along."""

    image: schemas.Opaque | None = None
    k: Annotated[int, Field(ge=1, le=1_000, description="How many neighbours of each kind vote.")] = VOTERS
    where: Annotated[str | None, Field(max_length=2_000, description="Only neighbours that meet this.")] = (
        None
    )


class Told(BaseModel):
    """What a sentence or a draft states."""

    present: list[str]
    absent: list[str]


class Vote(BaseModel):
    """What the neighbours make of one finding: `agree` of `of` say so, and what that has been worth."""

    finding: str
    status: Literal["present", "absent"]
    probability: float
    agree: int
    of: int


class SentenceSource(BaseModel):
    """A report that says it. `id`: its case, null where it was removed meanwhile."""

    id: schemas.Opaque | None
    study_id: str
    item_id: str
    text: str


class Sentence(BaseModel):
    """A sentence of the draft with its evidence. `questions`: what the reader is asked in its brackets."""

    text: str
    findings: Told
    questions: list[Literal["side", "zone", "severity"]]
    votes: list[Vote]
    support: int
    sources: list[SentenceSource]


class DraftAnswer(BaseModel):
    """A draft, or the reason why there is none; what `similarity draft --json` prints."""

    heading: str
    encoder: schemas.EncoderName
    drafted: bool
    reason: str | None
    findings: Told
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
    """Draft a report of a film from its nearest neighbours. Raw material for a reader, never a report."""
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
    """The same draft as a text file, headed as what it is."""
    made = await _draft(state, request)
    await run_in_threadpool(_record, state, actor, request_id, made, "export")
    return Response(
        made["text"],
        media_type="text/plain; charset=utf-8",
        headers={"Content-Disposition": 'attachment; filename="draft.txt"'},
    )


async def _draft(state: State, request: Request) -> dict[str, Any]:
    asked, content = await receive_as(request, DraftRequest)
    picture = await run_in_threadpool(picture_of, state, asked.image, content)
    drafting = state.slow.run(slow_worker.draft, picture, asked.k, asked.where)
    return await asyncio.wrap_future(drafting)


def _keys(state: State, made: dict[str, Any]) -> dict[str, str]:
    """Study → the opaque id of every case that a draft rests on and that is still there."""
    named = {source["study_id"] for sentence in made["sentences"] for source in sentence["sources"]}
    return {study: cases.study_key(state.home, study) for study in state.catalog.studies(named)}


def _record(state: State, actor: Actor, request_id: str, made: dict[str, Any], action: str) -> dict[str, str]:
    keys = _keys(state, made)
    state.audit.write(actor, action, request_id, keys.values(), {"what": "draft"})
    return keys


def _answer(state: State, actor: Actor, request_id: str, made: dict[str, Any]) -> DraftAnswer:
    keys = _record(state, actor, request_id, made, "draft")
    for sentence in made["sentences"]:
        for source in sentence["sources"]:
            source["id"] = keys.get(source["study_id"])
    return DraftAnswer(**{name: told for name, told in made.items() if name != "query"})
