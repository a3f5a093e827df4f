"""`POST /v1/search`: similar cases to a phrase, a picture that is sent along, or a case of the index."""

import asyncio
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from retrieval.answer import Answer
from retrieval.query.image import Picture
from retrieval.query.query import Query, box_of
from retrieval.service import cases, paging, schemas
from retrieval.service.access import Actor
from retrieval.service.auth import Reader, RequestId, Shared
from retrieval.service.problems import Refused, problems
from retrieval.service.state import State
from retrieval.service.uploads import PICTURE, body_of, receive_as

router = APIRouter(tags=["search"])


@router.post(
    "/v1/search",
    operation_id="search",
    response_model=schemas.SearchAnswer,
    responses=problems(404, 408, 409, 413, 415, 507),
    openapi_extra=body_of(schemas.SearchRequest, {"text": "right pleural effusion", "for": "cases", "k": 5}),
)
async def search(request: Request, actor: Reader, state: Shared, request_id: RequestId) -> Response:
    """Find similar cases. A picture is sent as multipart form: `image` the file, `query` this JSON."""
    asked, content = await receive_as(request, schemas.SearchRequest)
    query, question, offset = await run_in_threadpool(_query, state, asked, content)
    answer = await asyncio.wrap_future(state.searcher.ask(query))
    page = await run_in_threadpool(_page, state, actor, request_id, asked, answer, question, offset)
    return Response(page, media_type="application/json")


def _query(state: State, asked: schemas.SearchRequest, content: bytes | None) -> tuple[Query, str, int]:
    """The query, the question that its cursors are of, and how many studies came on earlier pages."""
    picture = _picture(state, asked, content)
    question = asked.model_dump_json(exclude={"cursor", "k", "timings"})
    if picture is not None:
        question += picture.content
    offset = 0
    if asked.cursor is not None:
        fingerprint = state.index().active_version.fingerprint
        offset = paging.offset_of(state.home, question, fingerprint, asked.cursor)
    most = min(offset + asked.k + 1, schemas.MOST_PAGES_DEEP)
    query = Query(
        image=None if picture is None else PICTURE,
        text=asked.text,
        case=None if asked.case is None else cases.case_id(state, asked.case),
        target=asked.target,
        k=most,
        ahead=max(0, most - offset - asked.k),
        where=asked.where,
        region=None if asked.region is None else box_of(asked.region),
        # Only cases of the index are examples here: a file's name from outside is never opened.
        like=tuple(cases.case_id(state, case) for case in asked.like),
        dislike=tuple(cases.case_id(state, case) for case in asked.dislike),
        finding=asked.finding,
        diversify=asked.diversify,
        picture=picture,
    )
    return query, question, offset


def _picture(state: State, asked: schemas.SearchRequest, content: bytes | None) -> Picture | None:
    return None if content is None and asked.image is None else picture_of(state, asked.image, content)


def picture_of(state: State, image: str | None, content: bytes | None) -> Picture:
    """The picture that a request is about: one of the index, or the one that came along.

    Raises:
        Refused: none or both are named, or the one of the index is gone.
        UnreadableImage, NotAdmitted: what came along is no radiograph that can be read.
    """
    if (content is None) == (image is None):
        told = "Send a picture along as the form's `image`, or name one of the index: one of the two."
        raise Refused(422, "wrong-request", told)
    return cases.read_image(state, str(image)) if content is None else state.pictures.decode(content, PICTURE)


def _page(
    state: State,
    actor: Actor,
    request_id: str,
    asked: schemas.SearchRequest,
    answer: Answer,
    question: str,
    offset: int,
) -> str:
    """One page as JSON, written here, off the event loop."""
    hits = answer.hits[offset : offset + asked.k]
    more = len(answer.hits) > offset + asked.k
    shown = cases.summaries(state, [*(hit.case for hit in hits), *answer.own_studies])
    told = answer.as_json()
    end = offset + asked.k
    of_page = [
        cases.hit(state.home, hit, shown[hit.case.study_id]) for hit in hits if hit.case.study_id in shown
    ]
    page = schemas.SearchAnswer(
        query={**told["query"], "k": asked.k},
        encoder=told["encoder"],
        abstained=answer.abstained,
        reason=answer.reason,
        own_studies=[shown[case.study_id] for case in answer.own_studies if case.study_id in shown],
        hits=of_page,
        findings_unread=sum(hit.findings_read is False for hit in of_page),
        next=paging.cursor_of(state.home, question, answer.encoder["fingerprint"], end) if more else None,
        notes=list(answer.notes),
        took_ms=told["took_ms"] if asked.timings else None,
    )
    state.audit.write(
        actor, "search", request_id, [case.id for case in shown.values()], _remembered(asked, told["query"])
    )
    return page.model_dump_json()


def _remembered(asked: schemas.SearchRequest, query: dict[str, Any]) -> dict[str, Any]:
    """What the audit keeps of a question: a phrase as it was put, of a picture only that it was one."""
    kept = {name: told for name, told in query.items() if told and name != "k"}
    return {**kept, "page": asked.cursor is not None}
