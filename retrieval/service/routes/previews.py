"""`POST /v1/previews`: the picture that is sent, as a browser can show it. Nothing is kept."""

from typing import Annotated

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import Field

from retrieval.service import schemas
from retrieval.service.auth import Reader, Shared
from retrieval.service.problems import Refused, problems
from retrieval.service.routes.cases import PNG, png, window_of
from retrieval.service.uploads import PICTURE, form_of, receive_as

router = APIRouter(tags=["cases"])


class Preview(schemas.Asking):
    """How the picture is to be shown; see `GET /v1/images`."""

    low: Annotated[float, Field(ge=0, le=1)] = 0.0
    high: Annotated[float, Field(ge=0, le=1)] = 1.0
    longest: Annotated[int | None, Field(ge=16, le=8192)] = None
    depth: Annotated[int, Field(json_schema_extra={"enum": [8, 16]})] = 8


@router.post(
    "/v1/previews",
    operation_id="preview",
    response_class=Response,
    responses={**PNG, **problems(408, 413, 415)},
    openapi_extra=form_of(Preview),
)
async def preview(request: Request, actor: Reader, state: Shared) -> Response:
    """Show a DICOM, PNG or JPEG as the encoder sees it: a grey PNG."""
    asked, content = await receive_as(request, Preview)
    if content is None:
        raise Refused(422, "wrong-request", "Send the picture as the form's `image`.")
    window = window_of(asked.low, asked.high, asked.longest, asked.depth)
    return png(await run_in_threadpool(state.pictures.show_sent, content, PICTURE, window))
