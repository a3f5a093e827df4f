"""`/v1/session`: how a browser signs in. A token is pasted once; the browser then holds a cookie that no
script can read and that ends with the token."""

from typing import Annotated

from fastapi import APIRouter, Cookie, Depends, Request, Response

from corpus.settings import settings
from retrieval.service import schemas
from retrieval.service.auth import COOKIE, Reader, RequestId, Shared, require_same_origin
from retrieval.service.problems import Refused, problems
from retrieval.service.uploads import JsonBody, json_of

router = APIRouter(tags=["session"])


@router.post(
    "/v1/session",
    operation_id="sign_in",
    response_model=schemas.Me,
    responses=problems(408, 413, 415),
    status_code=201,
    openapi_extra=json_of(schemas.SignIn),
)
def sign_in(
    asked: Annotated[schemas.SignIn, Depends(JsonBody(schemas.SignIn))],
    request: Request,
    response: Response,
    state: Shared,
    request_id: RequestId,
) -> schemas.Me:
    """Sign a browser in with a token."""
    if "sec-fetch-site" in request.headers or "origin" in request.headers:
        require_same_origin(request)
    actor = state.tokens.actor_of_token(asked.token.strip())
    if actor is None or actor.token_id is None:
        state.failures.take(request.client.host if request.client else "local")
        raise Refused(
            401, "not-signed-in", "This token does not work: it is wrong, expired or revoked.",
            {"WWW-Authenticate": "Bearer"},
        )  # fmt: skip
    hours = settings().session_hours
    state.audit.write(actor, "sign-in", request_id)
    response.set_cookie(
        COOKIE,
        state.tokens.open_session(actor.token_id, hours),
        max_age=int(hours * 3600),
        httponly=True,
        samesite="strict",
        secure=settings().secure_cookies or request.url.scheme == "https",
        path=_path(request),
    )
    return schemas.Me(name=actor.name, role=actor.role, via="session")


@router.get("/v1/session", operation_id="who_am_i", response_model=schemas.Me, responses=problems())
def who_am_i(actor: Reader) -> schemas.Me:
    """Who is asking, and what they may do."""
    return schemas.Me(name=actor.name, role=actor.role, via=actor.via)


@router.delete("/v1/session", operation_id="sign_out", status_code=204, responses=problems())
def sign_out(
    actor: Reader,
    request: Request,
    response: Response,
    state: Shared,
    similarity_session: Annotated[str | None, Cookie(include_in_schema=False)] = None,
) -> None:
    """Sign the browser out."""
    if similarity_session is not None:
        state.tokens.close_session(similarity_session)
    response.delete_cookie(COOKIE, path=_path(request), httponly=True, samesite="strict")


def _path(request: Request) -> str:
    """Below which path a browser sends the cookie: the page's own."""
    return str(request.scope.get("root_path") or "/")
