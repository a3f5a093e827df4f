"""`POST /v1/localize` and `/v1/likeness`: where in a film a phrase is, and what of two films is alike."""

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field

from retrieval.export.formats import Form, forms
from retrieval.localize.answer import Side
from retrieval.service import cases, schemas, slow_worker
from retrieval.service.auth import Reader, RequestId, Shared
from retrieval.service.problems import problems
from retrieval.service.routes.search import picture_of
from retrieval.service.uploads import body_of, receive_as

router = APIRouter(tags=["localize"])

Heat = Annotated[str, Field(description="A grey PNG in base64, 255 the hottest; stretch it over the film.")]
Phrase = Annotated[str, Field(min_length=1, max_length=500, examples=["right pleural effusion"])]


class LocalizeRequest(schemas.Asking):
    """Where are these phrases? In `image`, a picture of the index, or in one that is sent along."""

    image: schemas.Opaque | None = None
    phrases: Annotated[list[Phrase], Field(min_length=1, max_length=8)]
    method: Annotated[
        slow_worker.Method | None,
        Field(description="Without one that which the encoder is calibrated for, else gscorecam."),
    ] = None


class RunLengths(BaseModel):
    """A mask: size (height, width) and run lengths, column by column, outside first (COCO, uncompressed)."""

    size: list[int]
    counts: list[int]


class Located(BaseModel):
    """Where one phrase is; without a mask, `reason` says why. What `similarity localize --json` tells."""

    phrase: str
    finding: str | None
    method: str
    refined_by: str | None
    specificity: float
    threshold: float
    reason: str | None
    mask: RunLengths | None
    boxes: list[schemas.Region]
    side: Side | None
    zone: str | None
    share: float | None
    words: str | None
    pixel_spacing_mm: Annotated[
        list[float] | None, Field(description="Between rows and between columns; null where it is unknown.")
    ]
    spacing_source: Annotated[
        Literal["patient", "detector", "assumed"],
        Field(
            description="Where millimetres are measured; `assumed`: unknown; where a size bounds a mask, the "
            "longer side is taken for 380 mm."
        ),
    ]
    size_mm: Annotated[list[float] | None, Field(description="Height and width of the largest box.")]
    heat: Heat
    forms: Annotated[list[Form], Field(description="What `/v1/exports/localization` makes of it.")]


class LocalizeAnswer(BaseModel):
    """Where the phrases are, in pixels of the film as read."""

    height: int
    width: int
    localizations: list[Located]
    notes: schemas.Notes


class LikenessRequest(schemas.Asking):
    """What of a film (`image` of the index, or one that is sent along) is like what of another, `hit`?"""

    image: schemas.Opaque | None = None
    hit: schemas.Opaque


class LikePair(BaseModel):
    """A part of the film and the part of the hit that is like it; the strongest pair's score is 1."""

    query: schemas.Region
    hit: schemas.Region
    score: float


class LikenessAnswer(BaseModel):
    """How strongly each place finds its like in the other film, and the strongest pairs.

    `matches`: for every patch of the film the patch of the hit that is nearest to it.
    """

    query_heat: Heat
    hit_heat: Heat
    pairs: list[LikePair]
    matches: list[LikePair]
    notes: schemas.Notes


@router.post(
    "/v1/localize",
    operation_id="localize",
    response_model=LocalizeAnswer,
    responses=problems(404, 408, 409, 410, 413, 415, 507),
    openapi_extra=body_of(LocalizeRequest, {"phrases": ["right pleural effusion"], "method": "gradcam"}),
)
async def localize(request: Request, actor: Reader, state: Shared, request_id: RequestId) -> LocalizeAnswer:
    """Show where phrases are in a film, or say why that cannot be shown."""
    asked, content = await receive_as(request, LocalizeRequest)
    picture = await run_in_threadpool(picture_of, state, asked.image, content)
    looking = state.slow.run(slow_worker.localize, picture, asked.phrases, asked.method)
    found = await asyncio.wrap_future(looking)
    shown = [] if asked.image is None else [await run_in_threadpool(cases.key_of_image, state, asked.image)]
    detail = {"phrases": asked.phrases, "method": found[0]["method"]}
    await run_in_threadpool(state.audit.write, actor, "localize", request_id, shown, detail)
    height, width = picture.pixels.shape
    return LocalizeAnswer(
        height=height,
        width=width,
        localizations=[
            Located(**one, forms=forms(masked=one["mask"] is not None, dicom=picture.dicom)) for one in found
        ],
        notes=list(picture.notes),
    )


@router.post(
    "/v1/likeness",
    operation_id="likeness",
    response_model=LikenessAnswer,
    responses=problems(404, 408, 409, 410, 413, 415, 507),
    openapi_extra=body_of(LikenessRequest, {"hit": "0f3c9e5a7b1d2c4e6f8091a2b3c4d5e6"}),
)
async def likeness(request: Request, actor: Reader, state: Shared, request_id: RequestId) -> LikenessAnswer:
    """Show which part of one film is like which part of another."""
    asked, content = await receive_as(request, LikenessRequest)
    picture = await run_in_threadpool(picture_of, state, asked.image, content)
    other = await run_in_threadpool(cases.read_image, state, asked.hit)
    matching = state.slow.run(slow_worker.likeness, picture.pixels, other.pixels)
    alike = await asyncio.wrap_future(matching)
    named = [image for image in (asked.image, asked.hit) if image is not None]
    shown = [await run_in_threadpool(cases.key_of_image, state, image) for image in named]
    await run_in_threadpool(state.audit.write, actor, "localize", request_id, shown, {"method": "likeness"})
    return LikenessAnswer.model_validate({**alike, "notes": [*picture.notes, *other.notes]})
