"""Errors as problem documents (RFC 9457): a status, and a sentence for the reader."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

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
    NotInstalled,
    ServerUnavailable,
    SimilarityError,
    UnreadableImage,
    UsageError,
)
from indexer.catalog.database_failures import NoFreeConnection, OperationalError, is_disk_full

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"


class Problem(BaseModel):
    """A problem document (RFC 9457). `detail` is for the reader."""

    type: str = Field(examples=["urn:similarity:not-found"])
    title: str = Field(examples=["Not Found"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["There is no such case: it may have been removed since you saw it."])
    request_id: str = Field(description="Quote it when you ask for help: the log has it too.")


class Refused(Exception):
    """A request that is answered with a problem document. `slug` names its kind for programs."""

    def __init__(self, status: int, slug: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.slug, self.detail, self.headers = status, slug, detail, headers


_KINDS: tuple[tuple[type[SimilarityError], int, str], ...] = (
    (NotAdmitted, 422, "not-admitted"),
    (UnreadableImage, 422, "unreadable-image"),
    (UsageError, 422, "wrong-request"),
    (ExportError, 422, "cannot-export"),
    (NotInstalled, 501, "not-installed"),
    (EmptyIndex, 409, "empty-index"),
    (IndexInUse, 503, "index-in-use"),
    (HomeError, 503, "storage"),
)


def of_error(error: SimilarityError) -> Refused:
    """Return the problem of an error of ours; details of the installation stay in the log."""
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
                return Refused(status, slug, "The index is empty.")
            return Refused(status, slug, str(error))
    log.error("the service cannot answer: %s", type(error).__name__)
    return Refused(503, "unavailable", "The index cannot answer now: tell your administrator.")


DISK_FULL = Refused(507, "disk-full", "The disk of the service is full: tell your administrator.")
DATABASE_DOWN = Refused(
    503,
    "database-down",
    "The database does not answer, so nothing can be shown: the audit has to record each access first.",
    {"Retry-After": "10"},
)
VECTORS_DOWN = Refused(
    503,
    "vectors-down",
    "The vector store does not answer, so nothing can be searched: try again in a moment.",
    {"Retry-After": "10"},
)


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route: these statuses, and those that any route may answer with."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in sorted({*statuses, 400, 401, 403, 422, 429, 503})
    }


def response_of(refused: Refused, request_id: str) -> JSONResponse:
    """Return the problem document of a refusal as a response."""
    problem = Problem(
        type=f"urn:similarity:{refused.slug}",
        title=HTTPStatus(refused.status).phrase,
        status=refused.status,
        detail=refused.detail,
        request_id=request_id,
    )
    return JSONResponse(
        problem.model_dump(), refused.status, headers=dict(refused.headers or {}), media_type=MEDIA_TYPE
    )


def install(app: FastAPI) -> None:
    """Answer every error of the application with a problem document."""

    def request_id(request: Request) -> str:
        return str(getattr(request.state, "request_id", ""))

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> JSONResponse:
        return response_of(error, request_id(request))

    @app.exception_handler(SimilarityError)
    async def ours(request: Request, error: SimilarityError) -> JSONResponse:
        return response_of(of_error(error), request_id(request))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return response_of(
            Refused(422, "wrong-request", sentence_of(error.errors(), skip=1)), request_id(request)
        )

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        slug, detail = _HTTP.get(error.status_code, ("wrong-request", "This request is malformed."))
        return response_of(Refused(error.status_code, slug, detail, error.headers), request_id(request))

    @app.exception_handler(NoFreeConnection)
    async def overloaded(request: Request, error: NoFreeConnection) -> JSONResponse:
        log.error("no connection to the database became free in time")
        return response_of(DATABASE_DOWN, request_id(request))

    @app.exception_handler(OperationalError)
    async def database(request: Request, error: OperationalError) -> JSONResponse:
        if is_disk_full(error):
            log.error("the disk of the database is full")
            return response_of(DISK_FULL, request_id(request))
        log.error("the database does not answer: %s", type(error.orig).__name__)
        return response_of(DATABASE_DOWN, request_id(request))


_HTTP: Mapping[int, tuple[str, str]] = {
    404: ("not-found", "There is nothing at this address."),
    405: ("method-not-allowed", "This address does not take that method."),
}


def sentence_of(errors: Any, skip: int = 0) -> str:
    """Return the first errors of a request as a sentence, without the values: they may name a patient.

    Args:
        errors: as pydantic lists them.
        skip: leading parts of each location to leave out ("body", "query").
    """
    sentences = []
    for error in errors[:3]:
        location = ".".join(str(part) for part in error.get("loc", ())[skip:])
        message = str(error.get("msg", "is wrong")).removeprefix("Value error, ")
        sentences.append(f"{location}: {message}" if location else message)
    return "; ".join(sentences) or "The request is malformed."
