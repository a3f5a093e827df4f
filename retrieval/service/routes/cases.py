"""`/v1/cases`, `/v1/images`, `/v1/thumbnails`: looking at a case. Every look at a case or a film is recorded.

A thumbnail is not recorded by itself: its id is known only from an answer that was.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response

from corpus.errors import SimilarityError
from retrieval.service import cases, schemas
from retrieval.service.auth import Reader, RequestId, Shared
from retrieval.service.images import Shown, Window
from retrieval.service.problems import Refused, problems
from retrieval.service.state import State

router = APIRouter(tags=["cases"])

CaseId = Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="The opaque id of a case.")]
ImageId = Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="The opaque id of a picture.")]

THUMBNAIL = 256
PNG: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {"image/png": {"schema": {"type": "string", "format": "binary"}}},
        "description": "A picture.",
    }
}


@router.get(
    "/v1/cases/{case_id}", operation_id="get_case", response_model=schemas.Case, responses=problems(404)
)
def get_case(case_id: CaseId, actor: Reader, state: Shared, request_id: RequestId) -> schemas.Case:
    """One case with its report, its pictures and its subject's other studies."""
    case = cases.whole_case(state, cases.find_case(state, case_id))
    state.audit.write(actor, "view", request_id, [case.id, *(own.id for own in case.own_studies)])
    return case


@router.get(
    "/v1/images/{image_id}",
    operation_id="get_image",
    response_class=Response,
    responses={**PNG, **problems(404, 410)},
)
def get_image(
    image_id: ImageId,
    actor: Reader,
    state: Shared,
    request_id: RequestId,
    low: Annotated[float, Query(ge=0, le=1, description="Grey that is shown black.")] = 0.0,
    high: Annotated[float, Query(ge=0, le=1, description="Grey that is shown white.")] = 1.0,
    longest: Annotated[int | None, Query(ge=16, le=8192, description="Longer side in pixels.")] = None,
    depth: Annotated[
        int, Query(description="Bits of grey: 8 or 16.", json_schema_extra={"enum": [8, 16]})
    ] = 8,
) -> Response:
    """A picture as a grey PNG in full size; `X-Image-Height` and `X-Image-Width` are those of the film."""
    window = window_of(low, high, longest, depth)
    study, image = cases.find_image(state, image_id)
    shown = show(state, image.location, window)
    state.audit.write(actor, "view", request_id, [cases.study_key(state.home, study.study_id)])
    return png(shown)


@router.get(
    "/v1/thumbnails/{image_id}",
    operation_id="get_thumbnail",
    response_class=Response,
    responses={**PNG, **problems(404, 410)},
)
def get_thumbnail(image_id: ImageId, actor: Reader, state: Shared) -> Response:
    """A picture as a small grey PNG of at most 256 pixels."""
    _, image = cases.find_image(state, image_id)
    return png(
        state.thumbnails.get(image.location, lambda: show(state, image.location, Window(longest=THUMBNAIL)))
    )


def window_of(low: float, high: float, longest: int | None, depth: int) -> Window:
    """Check how a picture is to be shown.

    Raises:
        Refused: the values contradict each other.
    """
    if high <= low:
        raise Refused(422, "wrong-request", "`high` has to be above `low`.")
    if depth not in (8, 16):
        raise Refused(422, "wrong-request", "`depth` is 8 or 16 bits.")
    return Window(low, high, longest, depth)


def show(state: State, location: str, window: Window) -> Shown:
    """A picture of the catalog as a PNG.

    Raises:
        Refused: 410, its file is gone or broken; the file's name is not told, it may be a person's.
    """
    try:
        return state.pictures.show(location, window)
    except SimilarityError:
        raise cases.IMAGE_GONE from None


def png(shown: Shown) -> Response:
    """The response that a picture is."""
    size = {"X-Image-Height": str(shown.height), "X-Image-Width": str(shown.width)}
    return Response(shown.png, media_type="image/png", headers=size)
