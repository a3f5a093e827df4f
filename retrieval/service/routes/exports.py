"""`/v1/exports`: a list of cases as CSV, and the localization of a phrase as PNG or DICOM."""

import asyncio
import csv
import io
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import Field

from corpus.errors import ExportError
from corpus.findings import status_lists
from corpus.records import Study
from retrieval.export.formats import FILES, Form
from retrieval.export.source import SourceImage
from retrieval.query.image import QueryImage
from retrieval.service import background_worker, case_views, schemas
from retrieval.service.auth import Reader, RequestId, Shared
from retrieval.service.problems import problems
from retrieval.service.routes.localize import Phrase
from retrieval.service.state import State
from retrieval.service.uploads import SENT_IMAGE, JsonBody, body_of, json_of, receive_as

router = APIRouter(tags=["export"])

_COLUMNS = (
    "study_id", "accession", "study_uid", "source", "date", "sex", "age", "diagnosis",
    "present", "absent", "uncertain", "note",
)  # fmt: skip


class ListedCase(schemas.RequestBody):
    """A case of a list, and the reader's note on it."""

    id: schemas.Opaque
    note: Annotated[str, Field(max_length=1_000)] = ""


class ListRequest(schemas.RequestBody):
    """A list of cases, in order."""

    cases: Annotated[list[ListedCase], Field(min_length=1, max_length=1_000)]


@router.post(
    "/v1/exports/list",
    operation_id="export_list",
    response_class=Response,
    responses={
        200: {"description": "CSV.", "content": {"text/csv": {"schema": {"type": "string"}}}},
        **problems(408, 413, 415),
    },
    openapi_extra=json_of(ListRequest),
)
def export_list(
    actor: Reader,
    body: Annotated[ListRequest, Depends(JsonBody(ListRequest))],
    state: Shared,
    request_id: RequestId,
) -> Response:
    """Return the cases as CSV, without those removed meanwhile."""
    studies = state.catalog.studies_by_key(case.id for case in body.cases)
    written = io.StringIO()
    writer = csv.writer(written)
    writer.writerow(_COLUMNS)
    for case in body.cases:
        if case.id in studies:
            writer.writerow(map(_cell, _row(studies[case.id], case.note)))
    state.audit.write(actor, "export", request_id, studies, {"what": "list"})
    return Response(
        written.getvalue(),
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": 'attachment; filename="cases.csv"'},
    )


class LocalizationRequest(schemas.RequestBody):
    """The localization of a phrase in `image`, an image of the index, or in an uploaded one, as one file.

    `overlay` and `mask` are PNG; without a mask there is only an overlay, which gives the reason. `dicom_seg`
    and `secondary_capture` are DICOM in the image's own study, for an image that is DICOM.
    """

    image: schemas.Opaque | None = None
    phrase: Phrase
    method: Annotated[
        background_worker.Method | None,
        Field(description="Default: the method that the encoder is calibrated for, else gscorecam."),
    ] = None
    form: Form = "overlay"


@router.post(
    "/v1/exports/localization",
    operation_id="export_localization",
    response_class=Response,
    responses={
        200: {
            "description": "The file.",
            "content": {
                kind: {"schema": {"type": "string", "format": "binary"}}
                for kind in ("image/png", "application/dicom")
            },
        },
        **problems(404, 408, 409, 410, 413, 415, 507),
    },
    openapi_extra=body_of(LocalizationRequest, {"phrase": "right pleural effusion", "form": "overlay"}),
)
async def export_localization(
    request: Request, actor: Reader, state: Shared, request_id: RequestId
) -> Response:
    """Return the localization of a phrase as a file, as `similarity localize --out` writes it."""
    body, content = await receive_as(request, LocalizationRequest)
    image, source = await run_in_threadpool(_image_and_source, state, body, content)
    future = state.background.run(
        background_worker.export, image, body.phrase, body.method, body.form, source
    )
    file = await asyncio.wrap_future(future)
    studies = (
        [] if body.image is None else [await run_in_threadpool(case_views.key_of_image, state, body.image)]
    )
    detail = {"what": "localization", **body.model_dump(exclude={"image"})}
    await run_in_threadpool(state.audit.write, actor, "export", request_id, studies, detail)
    name = FILES[body.form]
    return Response(
        file,
        media_type="image/png" if name.endswith(".png") else "application/dicom",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def _image_and_source(
    state: State, body: LocalizationRequest, content: bytes | None
) -> tuple[QueryImage, SourceImage | None]:
    """Return the image, and where it is DICOM the attributes that an export repeats.

    Raises:
        Refused: as `query_image`; or the image is not the one that was indexed.
        ExportError: the form needs DICOM, and the image is none or lacks an identifier.
    """
    image = case_views.query_image(state, body.image, content)
    if body.image is not None:
        case_views.require_unchanged(state, body.image, image.content)
    if not image.dicom and body.form in ("overlay", "mask"):
        return image, None
    try:
        if content is not None:
            return image, state.image_pool.source_of_upload(content, SENT_IMAGE)
        _, ref = case_views.find_image(state, str(body.image))
        return image, state.image_pool.source(ref.location, SENT_IMAGE)
    except ExportError:
        if body.form in ("overlay", "mask"):
            return image, None  # only the scale bar of the overlay is lost
        raise


def _row(study: Study, note: str) -> list[object]:
    statuses = status_lists(study.findings)
    findings = ["|".join(statuses[status]) for status in ("present", "absent", "uncertain")]
    return [
        study.study_id, study.accession, study.study_uid, study.source, study.date, study.sex, study.age,
        study.diagnosis, *findings, note,
    ]  # fmt: skip


def _cell(value: object) -> str:
    """Return a value that is safe to open in a spreadsheet: text from a report never becomes a formula."""
    text = "" if value is None else str(value)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
