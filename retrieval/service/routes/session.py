"""`/v1/session`: signing a browser in and out.

The reader pastes a token once; the browser then has a cookie that no script can read and that ends with the
token.
"""

from typing import Annotated, Literal

from fastapi import APIRouter, Cookie, Depends, Request, Response
from pydantic import Field

from corpus.settings import settings
from retrieval.service.access import Role
from retrieval.service.auth import COOKIE, Reader, RequestId, Shared, require_same_origin
from retrieval.service.problems import Refused, problems
from retrieval.service.schemas import Private, RequestBody
from retrieval.service.uploads import JsonBody, json_of

router = APIRouter(tags=["session"])


class SignIn(RequestBody):
    """The token that a browser signs in with."""

    token: Annotated[str, Field(min_length=1, max_length=200)]


class Me(Private):
    """The actor of a request: name, role, and how the request was authenticated."""

    name: str
    role: Role
    via: Literal["token", "session", "proxy"]


@router.post(
    "/v1/session",
    operation_id="sign_in",
    response_model=Me,
    responses=problems(408, 413, 415),
    status_code=201,
    openapi_extra=json_of(SignIn),
)
def sign_in(
    body: Annotated[SignIn, Depends(JsonBody(SignIn))],
    request: Request,
    response: Response,
    state: Shared,
    request_id: RequestId,
) -> Me:
    """Sign a browser in with a token."""
    if "sec-fetch-site" in request.headers or "origin" in request.headers:
        require_same_origin(request)
    actor = state.tokens.actor_of_token(body.token.strip())
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
    return Me(name=actor.name, role=actor.role, via="session")


@router.get("/v1/session", operation_id="who_am_i", response_model=Me, responses=problems())
def who_am_i(actor: Reader) -> Me:
    """Return who is signed in, and their role."""
    return Me(name=actor.name, role=actor.role, via=actor.via)


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
    """Return the path below which a browser sends the cookie: the page's own."""
    return str(request.scope.get("root_path") or "/")
