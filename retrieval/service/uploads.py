"""Request bodies: JSON, or a form with an image, bounded in size and in time.

No upload touches a disk: a form's files stay in memory until the request is answered.
"""

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from corpus.redaction import redacted
from corpus.settings import settings
from retrieval.service.problems import Refused, sentence_of

SENT_IMAGE = "the image"
"""What messages call an uploaded image: its file name may be a patient's."""

BODIES: list[type[BaseModel]] = []
"""The models of request bodies: FastAPI does not see them, `retrieval.service.openapi` adds them."""

Body = TypeVar("Body", bound=BaseModel)

_MOST_FIELDS = 4
_LONGEST_FIELD = 1 << 16


class _InMemory(MultiPartParser):
    """A form parser that never spills a file to the disk; the body's size is bounded before."""

    spool_max_size = 1 << 62


@redacted
@dataclass(frozen=True, slots=True)
class Received:
    """A request's body.

    query: its JSON object.
    image: the bytes of the uploaded image, or None.
    """

    query: dict[str, Any]
    image: bytes | None


async def receive(request: Request) -> Received:
    """Read a body: JSON, or a form of `query` (JSON, optional) and `image` (a file).

    Raises:
        Refused: 413 too large, 408 too slow, 415 neither JSON nor a form, 400 and 422 malformed.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        async with asyncio.timeout(settings().upload_seconds):
            if kind == "multipart/form-data":
                return await _form(request)
            if kind == "application/json":
                body = b"".join([part async for part in _bounded(request)])
                return Received(_object(body), None)
    except TimeoutError:
        raise Refused(
            408,
            "too-slow",
            f"The request did not arrive within {settings().upload_seconds:g} seconds: try again.",
            {"Connection": "close"},
        ) from None
    raise Refused(
        415, "wrong-type", "Send application/json, or multipart/form-data with the file as `image`."
    )


async def receive_as(request: Request, model: type[Body]) -> tuple[Body, bytes | None]:
    """Read a body as a model, and the uploaded image; see `receive`.

    Raises:
        Refused: 422, the body does not fit the model.
    """
    received = await receive(request)
    try:
        return model.model_validate(received.query), received.image
    except ValidationError as error:
        raise Refused(422, "wrong-request", sentence_of(error.errors())) from None


class JsonBody(Generic[Body]):
    """A dependency: reads a JSON body as a model, bounded in size and in time."""

    def __init__(self, model: type[Body]) -> None:
        self._model = model

    async def __call__(self, request: Request) -> Body:
        """Read it; see `receive_as`."""
        body, image = await receive_as(request, self._model)
        if image is not None:
            raise Refused(415, "wrong-type", "Send application/json.")
        return body


async def _bounded(request: Request) -> AsyncGenerator[bytes, None]:
    most = settings().upload_bytes
    too_large = Refused(
        413,
        "too-large",
        f"The request is larger than {most >> 20} MB.",
        {"Connection": "close"},
    )
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > most:
        raise too_large
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise too_large
        yield part


async def _form(request: Request) -> Received:
    parser = _InMemory(
        request.headers,
        _bounded(request),
        max_files=1,
        max_fields=_MOST_FIELDS,
        max_part_size=_LONGEST_FIELD,
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise Refused(
            400, "broken-form", "The form cannot be read: it is broken or has too many parts."
        ) from error
    try:
        unknown = sorted(set(form) - {"query", "image"})
        if unknown:
            raise Refused(422, "wrong-request", f"A form has `query` and `image`, not `{unknown[0][:40]}`.")
        query, image = form.get("query"), form.get("image")
        if isinstance(query, UploadFile):
            query = (await query.read(_LONGEST_FIELD)).decode("utf-8", "replace")
        if isinstance(image, str):
            raise Refused(422, "wrong-request", "The form's `image` is a file, with a file name.")
        content = None if image is None else await image.read()
        return Received(_object(query.encode()) if query else {}, content)
    finally:
        await form.close()


def _object(body: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        raise Refused(400, "broken-json", "The request is not JSON.") from None
    if not isinstance(parsed, dict):
        raise Refused(422, "wrong-request", "The request is not a JSON object.")
    return parsed


def body_of(model: type[BaseModel], example: dict[str, Any]) -> dict[str, Any]:
    """Return the `openapi_extra` of a route that takes a model as JSON, or in a form with an image."""
    BODIES.append(model)
    body = {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}, "example": example}
    return {"requestBody": {"required": True, "content": {"application/json": body, **_FORM}}}


def json_of(model: type[BaseModel]) -> dict[str, Any]:
    """Return the `openapi_extra` of a route that takes a model as JSON, by `JsonBody`."""
    BODIES.append(model)
    body = {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}
    return {"requestBody": {"required": True, "content": {"application/json": body}}}


def form_of(model: type[BaseModel]) -> dict[str, Any]:
    """Return the `openapi_extra` of a route that takes an image in a form, and a model beside it."""
    BODIES.append(model)
    return {"requestBody": {"required": True, "content": _FORM}}


_FORM = {
    "multipart/form-data": {
        "schema": {
            "type": "object",
            "required": ["image"],
            "additionalProperties": False,
            "properties": {
                "query": {
                    "type": "string",
                    "contentMediaType": "application/json",
                    "maxLength": _LONGEST_FIELD,
                },
                "image": {"type": "string", "format": "binary", "description": "DICOM, PNG or JPEG."},
            },
        }
    }
}
