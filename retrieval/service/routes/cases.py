"""`/v1/cases`, `/v1/images`, `/v1/thumbnails`, `/v1/previews`: looking at cases and images.

The audit records every access to a case or an image. A thumbnail is not recorded: its id is known only from
an answer that was. A preview shows an upload and stores nothing.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import Field

from corpus.errors import SimilarityError
from retrieval.service import case_views, schemas
from retrieval.service.auth import Reader, RequestId, Shared
from retrieval.service.decode_pool import RenderedImage, Window
from retrieval.service.problems import Refused, problems
from retrieval.service.state import State
from retrieval.service.uploads import SENT_IMAGE, form_of, receive_as

router = APIRouter(tags=["cases"])

CaseId = Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="The opaque id of a case.")]
ImageId = Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="The opaque id of an image.")]

THUMBNAIL_PIXELS = 256
"""Longer side of a thumbnail."""

_PNG: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {"image/png": {"schema": {"type": "string", "format": "binary"}}},
        "description": "An image.",
    }
}


class Preview(schemas.RequestBody):
    """How the upload is rendered; see `GET /v1/images`."""

    low: Annotated[float, Field(ge=0, le=1)] = 0.0
    high: Annotated[float, Field(ge=0, le=1)] = 1.0
    longest: Annotated[int | None, Field(ge=16, le=8192)] = None
    depth: Annotated[int, Field(json_schema_extra={"enum": [8, 16]})] = 8


@router.get(
    "/v1/cases/{case_id}", operation_id="get_case", response_model=schemas.Case, responses=problems(404)
)
def get_case(case_id: CaseId, actor: Reader, state: Shared, request_id: RequestId) -> schemas.Case:
    """Return one case with its report, its images and its subject's other studies."""
    case = case_views.whole_case(state, case_views.find_case(state, case_id))
    state.audit.write(actor, "view", request_id, [case.id, *(own.id for own in case.own_studies)])
    return case


@router.get(
    "/v1/images/{image_id}",
    operation_id="get_image",
    response_class=Response,
    responses={**_PNG, **problems(404, 410)},
)
def get_image(
    image_id: ImageId,
    actor: Reader,
    state: Shared,
    request_id: RequestId,
    low: Annotated[float, Query(ge=0, le=1, description="Grey value that becomes black.")] = 0.0,
    high: Annotated[float, Query(ge=0, le=1, description="Grey value that becomes white.")] = 1.0,
    longest: Annotated[int | None, Query(ge=16, le=8192, description="Longer side in pixels.")] = None,
    depth: Annotated[
        int, Query(description="Bits of grey: 8 or 16.", json_schema_extra={"enum": [8, 16]})
    ] = 8,
) -> Response:
    """Return an image as a grey PNG; `X-Image-Height` and `X-Image-Width` are of the image as read."""
    window = _window(low, high, longest, depth)
    study, image = case_views.find_image(state, image_id)
    rendered = _render(state, image.location, window)
    state.audit.write(actor, "view", request_id, [case_views.study_key(state.home, study.study_id)])
    return _response(rendered)


@router.get(
    "/v1/thumbnails/{image_id}",
    operation_id="get_thumbnail",
    response_class=Response,
    responses={**_PNG, **problems(404, 410)},
)
def get_thumbnail(image_id: ImageId, actor: Reader, state: Shared) -> Response:
    """Return an image as a small grey PNG of at most 256 pixels."""
    _, image = case_views.find_image(state, image_id)
    window = Window(longest=THUMBNAIL_PIXELS)
    return _response(
        state.thumbnails.get(image.location, lambda: _render(state, image.location, window)),
    )


@router.post(
    "/v1/previews",
    operation_id="preview",
    response_class=Response,
    responses={**_PNG, **problems(408, 413, 415)},
    openapi_extra=form_of(Preview),
)
async def preview(request: Request, actor: Reader, state: Shared) -> Response:
    """Return an uploaded DICOM, PNG or JPEG as the encoder sees it: a grey PNG."""
    body, content = await receive_as(request, Preview)
    if content is None:
        raise Refused(422, "wrong-request", "Send the image as the form's `image`.")
    window = _window(body.low, body.high, body.longest, body.depth)
    return _response(await run_in_threadpool(state.image_pool.render_upload, content, SENT_IMAGE, window))


def _window(low: float, high: float, longest: int | None, depth: int) -> Window:
    if high <= low:
        raise Refused(422, "wrong-request", "`high` has to be above `low`.")
    if depth not in (8, 16):
        raise Refused(422, "wrong-request", "`depth` is 8 or 16 bits.")
    return Window(low, high, longest, depth)


def _render(state: State, location: str, window: Window) -> RenderedImage:
    try:
        return state.image_pool.render(location, window)
    except SimilarityError:  # its message names the file, and the name may be a patient's
        raise case_views.IMAGE_GONE from None


def _response(rendered: RenderedImage) -> Response:
    size = {"X-Image-Height": str(rendered.height), "X-Image-Width": str(rendered.width)}
    return Response(rendered.png, media_type="image/png", headers=size)
