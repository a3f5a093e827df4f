"""`POST /v1/search`: cases similar to a phrase, an uploaded image, or a case of the index, page by page.

The service stores nothing between pages. The query comes again with a cursor: where the next page begins, a
hash of the query, and the index version that answered it, signed with the home's key. With another query, or
after the index was switched, the cursor is refused.
"""

import asyncio
import base64
import hashlib
import hmac
import json
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from indexer.home import Home
from retrieval.answer import Answer
from retrieval.query.query import Query, box_of
from retrieval.service import case_views, schemas
from retrieval.service.access import Actor
from retrieval.service.auth import Reader, RequestId, Shared
from retrieval.service.problems import Refused, problems
from retrieval.service.state import State
from retrieval.service.uploads import SENT_IMAGE, body_of, receive_as

router = APIRouter(tags=["search"])


@router.post(
    "/v1/search",
    operation_id="search",
    response_model=schemas.SearchAnswer,
    responses=problems(404, 408, 409, 413, 415, 507),
    openapi_extra=body_of(schemas.SearchRequest, {"text": "right pleural effusion", "for": "cases", "k": 5}),
)
async def search(request: Request, actor: Reader, state: Shared, request_id: RequestId) -> Response:
    """Find similar cases. Upload an image as a multipart form: `image` the file, `query` this JSON."""
    body, content = await receive_as(request, schemas.SearchRequest)
    query, signature, offset = await run_in_threadpool(_query_of, state, body, content)
    answer = await asyncio.wrap_future(state.searcher.ask(query))
    page = await run_in_threadpool(_page, state, actor, request_id, body, answer, signature, offset)
    return Response(page, media_type="application/json")


def _query_of(state: State, body: schemas.SearchRequest, content: bytes | None) -> tuple[Query, str, int]:
    """Return the query, the text that binds its cursors, and the number of studies on earlier pages."""
    without_image = content is None and body.image is None
    image = None if without_image else case_views.query_image(state, body.image, content)
    signature = body.model_dump_json(exclude={"cursor", "k", "timings"})
    if image is not None:
        signature += image.content
    offset = 0
    if body.cursor is not None:
        fingerprint = state.index().active_version.fingerprint
        offset = offset_of(state.home, signature, fingerprint, body.cursor)
    most = min(offset + body.k + 1, schemas.MOST_RANKED)
    query = Query(
        image=None if image is None else SENT_IMAGE,
        text=body.text,
        case=None if body.case is None else case_views.case_id(state, body.case),
        target=body.target,
        k=most,
        ahead=max(0, most - offset - body.k),
        where=body.where,
        region=None if body.region is None else box_of(body.region),
        # Only cases of the index are examples here: a file named from outside is never opened.
        like=tuple(case_views.case_id(state, case) for case in body.like),
        dislike=tuple(case_views.case_id(state, case) for case in body.dislike),
        finding=body.finding,
        diversify=body.diversify,
        decoded=image,
    )
    return query, signature, offset


def _page(
    state: State,
    actor: Actor,
    request_id: str,
    body: schemas.SearchRequest,
    answer: Answer,
    signature: str,
    offset: int,
) -> str:
    """Return one page as JSON; serialised here, off the event loop."""
    end = offset + body.k
    hits = answer.hits[offset:end]
    views = case_views.summaries(state, [*(hit.case for hit in hits), *answer.own_studies])
    contract = answer.as_json()
    shown = [case_views.hit_view(hit, views[hit.case.study_id]) for hit in hits if hit.case.study_id in views]
    more = len(answer.hits) > end
    page = schemas.SearchAnswer(
        query={**contract["query"], "k": body.k},
        encoder=contract["encoder"],
        abstained=answer.abstained,
        reason=answer.reason,
        own_studies=[views[case.study_id] for case in answer.own_studies if case.study_id in views],
        hits=shown,
        findings_unread=sum(hit.findings_read is False for hit in shown),
        next=cursor_of(state.home, signature, answer.encoder["fingerprint"], end) if more else None,
        notes=list(answer.notes),
        took_ms=contract["took_ms"] if body.timings else None,
    )
    detail = _audit_detail(body, contract["query"])
    state.audit.write(actor, "search", request_id, [case.id for case in views.values()], detail)
    return page.model_dump_json()


def _audit_detail(body: schemas.SearchRequest, query: dict[str, Any]) -> dict[str, Any]:
    """Return what the audit records of a query: its text as given; of an image only that there was one."""
    given = {name: value for name, value in query.items() if value and name != "k"}
    return {**given, "page": body.cursor is not None}


def cursor_of(home: Home, query: str, fingerprint: str, offset: int) -> str:
    """Return the cursor of the page that begins after `offset` studies."""
    body = json.dumps([offset, _hash(query), fingerprint[:16]]).encode()
    return base64.urlsafe_b64encode(_sign(home, body) + body).decode().rstrip("=")


def offset_of(home: Home, query: str, fingerprint: str, cursor: str) -> int:
    """Return the number of studies before the page of a cursor.

    Raises:
        Refused: 422, the cursor is not of this service or not of this query; 409, the index was switched.
    """
    try:
        signed = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    except ValueError:
        signed = b""
    body = signed[16:]
    if not hmac.compare_digest(signed[:16], _sign(home, body)):
        raise Refused(422, "wrong-cursor", "The cursor is invalid: search again from the first page.")
    offset, query_hash, version = json.loads(body)
    if query_hash != _hash(query):
        raise Refused(
            422, "wrong-cursor", "The cursor is of another search: search again from the first page."
        )
    if version != fingerprint[:16]:
        raise Refused(
            409, "index-switched", "The index was switched to another encoder meanwhile: search again."
        )
    return int(offset)


def _sign(home: Home, body: bytes) -> bytes:
    return hmac.digest(home.key, b"cursor\0" + body, "sha256")[:16]


def _hash(query: str) -> str:
    return hashlib.sha256(query.encode()).hexdigest()[:16]
