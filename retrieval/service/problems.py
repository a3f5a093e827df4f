"""What goes wrong, as RFC 9457 problem documents: a sentence that a person understands, and a status."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import sqlalchemy as sa
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from corpus.errors import (
    EmptyIndex,
    ExportError,
    HomeError,
    IndexInUse,
    NotAdmitted,
    ServerUnavailable,
    SimilarityError,
    UnreadableImage,
    UsageError,
)

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"


class Problem(BaseModel):
    """A problem document (RFC 9457). `detail` is for the person who asked."""

    type: str = Field(examples=["urn:similarity:not-found"])
    title: str = Field(examples=["Not Found"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["There is no such case: it may have been removed since you saw it."])
    request_id: str = Field(description="Name it when you ask for help: the log has it too.")


class Refused(Exception):
    """A request that is answered with a problem. `slug` names the kind for programs."""

    def __init__(self, status: int, slug: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.slug, self.detail, self.headers = status, slug, detail, headers


_KINDS: tuple[tuple[type[SimilarityError], int, str], ...] = (
    (NotAdmitted, 422, "not-admitted"),
    (UnreadableImage, 422, "unreadable-image"),
    (UsageError, 422, "wrong-request"),
    (ExportError, 422, "cannot-export"),
    (EmptyIndex, 409, "empty-index"),
    (IndexInUse, 503, "index-in-use"),
    (HomeError, 503, "storage"),
)


def of_error(error: SimilarityError) -> Refused:
    """The problem that an error of ours is; what is wrong inside is not told outside."""
    for kind, status, slug in _KINDS:
        if isinstance(error, kind):
            if kind is HomeError and "is full" in str(error):
                return DISK_FULL
            if isinstance(error, ServerUnavailable) and error.server == "Qdrant":
                log.error("%s", error)
                return VECTORS_DOWN
            if kind is HomeError:
                log.error("%s", error)
                return DATABASE_DOWN
            if kind is EmptyIndex:
                return Refused(status, slug, "Nothing has been indexed yet.")
            return Refused(status, slug, str(error))
    log.error("the service cannot answer: %s", type(error).__name__)
    return Refused(503, "unavailable", "The index cannot answer now: tell who runs the service.")


DISK_FULL = Refused(507, "disk-full", "The disk of the service is full: tell who runs it.")
DATABASE_DOWN = Refused(
    503,
    "database-down",
    "The database does not answer, so nothing can be shown: every look has to be recorded first.",
    {"Retry-After": "10"},
)
VECTORS_DOWN = Refused(
    503,
    "vectors-down",
    "The vector store does not answer, so nothing can be searched: try again in a moment.",
    {"Retry-After": "10"},
)


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route: these problems, and those that any route may answer with."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in sorted({*statuses, 400, 401, 403, 422, 429, 503})
    }


def document(refused: Refused, request_id: str) -> JSONResponse:
    """The response that a problem is."""
    told = Problem(
        type=f"urn:similarity:{refused.slug}",
        title=HTTPStatus(refused.status).phrase,
        status=refused.status,
        detail=refused.detail,
        request_id=request_id,
    )
    return JSONResponse(
        told.model_dump(), refused.status, headers=dict(refused.headers or {}), media_type=MEDIA_TYPE
    )


def install(app: FastAPI) -> None:
    """Have every error of the application answered as a problem."""

    def request_id(request: Request) -> str:
        return str(getattr(request.state, "request_id", ""))

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> JSONResponse:
        return document(error, request_id(request))

    @app.exception_handler(SimilarityError)
    async def ours(request: Request, error: SimilarityError) -> JSONResponse:
        return document(of_error(error), request_id(request))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return document(
            Refused(422, "wrong-request", sentence_of(error.errors(), skip=1)), request_id(request)
        )

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        slug, detail = _HTTP.get(error.status_code, ("wrong-request", "This request cannot be understood."))
        return document(Refused(error.status_code, slug, detail, error.headers), request_id(request))

    @app.exception_handler(sa.exc.TimeoutError)
    async def overloaded(request: Request, error: sa.exc.TimeoutError) -> JSONResponse:
        log.error("no connection to the database became free in time")
        return document(DATABASE_DOWN, request_id(request))

    @app.exception_handler(sa.exc.OperationalError)
    async def database(request: Request, error: sa.exc.OperationalError) -> JSONResponse:
        if _is_full(error):
            log.error("the disk of the database is full")
            return document(DISK_FULL, request_id(request))
        log.error("the database does not answer: %s", type(error.orig).__name__)
        return document(DATABASE_DOWN, request_id(request))


def _is_full(error: sa.exc.OperationalError) -> bool:
    """Whether a statement failed for want of room: SQLite's SQLITE_FULL, Postgres' class 53100."""
    told = error.orig
    return getattr(told, "sqlite_errorname", "") == "SQLITE_FULL" or getattr(told, "sqlstate", "") == "53100"


_HTTP: Mapping[int, tuple[str, str]] = {
    404: ("not-found", "There is nothing at this address."),
    405: ("method-not-allowed", "This address does not take that method."),
}


def sentence_of(errors: Any, skip: int = 0) -> str:
    """The first faults of a body in words; what was sent is not repeated, since it may name somebody.

    Args:
        errors: as pydantic tells them.
        skip: parts of each place that say no more than where in the request it is.
    """
    told = []
    for fault in errors[:3]:
        place = ".".join(str(part) for part in fault.get("loc", ())[skip:])
        message = str(fault.get("msg", "is wrong")).removeprefix("Value error, ")
        told.append(f"{place}: {message}" if place else message)
    return "; ".join(told) or "The request cannot be understood."
