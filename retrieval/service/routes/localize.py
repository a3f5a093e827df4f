"""`POST /v1/localize` and `/v1/likeness`: localization of phrases, and correspondence of two images."""

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field

from retrieval.export.formats import Form, forms
from retrieval.localize.answer import MaskLaterality
from retrieval.service import background_worker, case_views, schemas
from retrieval.service.auth import Reader, RequestId, Shared
from retrieval.service.problems import problems
from retrieval.service.uploads import body_of, receive_as

router = APIRouter(tags=["localize"])

Heat = Annotated[str, Field(description="A grey PNG in base64, 255 the hottest; scale it to the image.")]
Phrase = Annotated[str, Field(min_length=1, max_length=500, examples=["right pleural effusion"])]


class LocalizeRequest(schemas.RequestBody):
    """Phrases to localize in `image`, an image of the index, or in an uploaded one."""

    image: schemas.Opaque | None = None
    phrases: Annotated[list[Phrase], Field(min_length=1, max_length=8)]
    method: Annotated[
        background_worker.Method | None,
        Field(description="Default: the method that the encoder is calibrated for, else gscorecam."),
    ] = None


class RunLengths(BaseModel):
    """A mask: size (height, width) and run lengths by column, starting outside (COCO, uncompressed)."""

    size: list[int]
    counts: list[int]


class Located(BaseModel):
    """The localization of one phrase, as `similarity localize --json` prints it.

    reason: why there is no mask, or what qualifies it.
    """

    phrase: str
    finding: str | None
    method: str
    refined_by: str | None
    specificity: float
    threshold: float
    reason: str | None
    mask: RunLengths | None
    boxes: list[schemas.Region]
    side: MaskLaterality | None
    zone: str | None
    share: float | None
    words: str | None
    pixel_spacing_mm: Annotated[
        list[float] | None, Field(description="Between rows and between columns; null where unknown.")
    ]
    spacing_source: Annotated[
        Literal["patient", "detector", "assumed"],
        Field(
            description="Plane of the spacing; `assumed`: it is unknown, and where a size limits a mask, the "
            "longer side is assumed to be 380 mm."
        ),
    ]
    size_mm: Annotated[list[float] | None, Field(description="Height and width of the largest box.")]
    heat: Heat
    forms: Annotated[list[Form], Field(description="Forms that `/v1/exports/localization` offers.")]


class LocalizeAnswer(BaseModel):
    """The localizations, in pixels of the image as read."""

    height: int
    width: int
    localizations: list[Located]
    notes: schemas.Notes


class CorrespondenceRequest(schemas.RequestBody):
    """Two images to compare: `image` of the index or an uploaded one, and `hit`."""

    image: schemas.Opaque | None = None
    hit: schemas.Opaque


class CorrespondencePair(BaseModel):
    """A region of the query image and the matching region of the hit; the strongest pair's score is 1."""

    query: schemas.Region
    hit: schemas.Region
    score: float


class CorrespondenceAnswer(BaseModel):
    """How strongly each patch of either image matches the other image, and the strongest pairs.

    matches: for each patch of the query image the most similar patch of the hit.
    """

    query_heat: Heat
    hit_heat: Heat
    pairs: list[CorrespondencePair]
    matches: list[CorrespondencePair]
    notes: schemas.Notes


@router.post(
    "/v1/localize",
    operation_id="localize",
    response_model=LocalizeAnswer,
    responses=problems(404, 408, 409, 410, 413, 415, 507),
    openapi_extra=body_of(LocalizeRequest, {"phrases": ["right pleural effusion"], "method": "gradcam"}),
)
async def localize(request: Request, actor: Reader, state: Shared, request_id: RequestId) -> LocalizeAnswer:
    """Localize phrases in an image; where a mask is refused, the reason is given."""
    body, content = await receive_as(request, LocalizeRequest)
    image = await run_in_threadpool(case_views.query_image, state, body.image, content)
    future = state.background.run(background_worker.localize, image, body.phrases, body.method)
    results = await asyncio.wrap_future(future)
    studies = (
        [] if body.image is None else [await run_in_threadpool(case_views.key_of_image, state, body.image)]
    )
    detail = {"phrases": body.phrases, "method": results[0]["method"]}
    await run_in_threadpool(state.audit.write, actor, "localize", request_id, studies, detail)
    height, width = image.pixels.shape
    return LocalizeAnswer(
        height=height,
        width=width,
        localizations=[
            Located(**result, forms=forms(masked=result["mask"] is not None, dicom=image.dicom))
            for result in results
        ],
        notes=list(image.notes),
    )


@router.post(
    "/v1/likeness",
    operation_id="likeness",
    response_model=CorrespondenceAnswer,
    responses=problems(404, 408, 409, 410, 413, 415, 507),
    openapi_extra=body_of(CorrespondenceRequest, {"hit": "0f3c9e5a7b1d2c4e6f8091a2b3c4d5e6"}),
)
async def correspondence(
    request: Request, actor: Reader, state: Shared, request_id: RequestId
) -> CorrespondenceAnswer:
    """Return which regions of one image match which of another."""
    body, content = await receive_as(request, CorrespondenceRequest)
    image = await run_in_threadpool(case_views.query_image, state, body.image, content)
    hit = await run_in_threadpool(case_views.read_image, state, body.hit)
    future = state.background.run(background_worker.correspondence, image.pixels, hit.pixels)
    found = await asyncio.wrap_future(future)
    images = [key for key in (body.image, body.hit) if key is not None]
    studies = [await run_in_threadpool(case_views.key_of_image, state, key) for key in images]
    await run_in_threadpool(state.audit.write, actor, "localize", request_id, studies, {"method": "likeness"})
    return CorrespondenceAnswer.model_validate({**found, "notes": [*image.notes, *hit.notes]})
