"""`/v1/exports`: a list of cases as CSV, and where a phrase is in a film as a picture or DICOM."""

import asyncio
import csv
import io
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import Field

from corpus.errors import ExportError
from corpus.findings import sides
from corpus.records import Study
from retrieval.export.formats import FILES, Form
from retrieval.export.source import Source
from retrieval.query.image import Picture
from retrieval.service import cases, schemas, slow_worker
from retrieval.service.auth import Reader, RequestId, Shared
from retrieval.service.problems import problems
from retrieval.service.routes.localize import Phrase
from retrieval.service.routes.search import picture_of
from retrieval.service.state import State
from retrieval.service.uploads import PICTURE, JsonBody, body_of, json_of, receive_as

router = APIRouter(tags=["export"])

_COLUMNS = (
    "study_id", "accession", "study_uid", "source", "date", "sex", "age", "diagnosis",
    "present", "absent", "uncertain", "note",
)  # fmt: skip


class ListedCase(schemas.Asking):
    """A case of a list, and what its collector noted."""

    id: schemas.Opaque
    note: Annotated[str, Field(max_length=1_000)] = ""


class ListRequest(schemas.Asking):
    """A list of cases, in its order."""

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
    asked: Annotated[ListRequest, Depends(JsonBody(ListRequest))],
    state: Shared,
    request_id: RequestId,
) -> Response:
    """The cases as CSV; those that were removed meanwhile are left out."""
    known = state.catalog.studies_by_key(case.id for case in asked.cases)
    written = io.StringIO()
    writer = csv.writer(written)
    writer.writerow(_COLUMNS)
    for case in asked.cases:
        if case.id in known:
            writer.writerow(map(_cell, _row(known[case.id], case.note)))
    state.audit.write(actor, "export", request_id, known, {"what": "list"})
    return Response(
        written.getvalue(),
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": 'attachment; filename="cases.csv"'},
    )


class LocalizationRequest(schemas.Asking):
    """Where is this phrase? In `image`, a picture of the index, or in one that is sent along, as one file.

    `overlay` and `mask` are PNG; without a mask there is an overlay alone, which says why. `dicom_seg` and
    `secondary_capture` are DICOM in the film's own study, of a film that is DICOM.
    """

    image: schemas.Opaque | None = None
    phrase: Phrase
    method: Annotated[
        slow_worker.Method | None,
        Field(description="Without one that which the encoder is calibrated for, else gscorecam."),
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
    """Where a phrase is in a film as a file to take away; what `similarity localize --out` writes."""
    asked, content = await receive_as(request, LocalizationRequest)
    picture, source = await run_in_threadpool(_film, state, asked, content)
    making = state.slow.run(slow_worker.export, picture, asked.phrase, asked.method, asked.form, source)
    file = await asyncio.wrap_future(making)
    shown = [] if asked.image is None else [await run_in_threadpool(cases.key_of_image, state, asked.image)]
    detail = {"what": "localization", **asked.model_dump(exclude={"image"})}
    await run_in_threadpool(state.audit.write, actor, "export", request_id, shown, detail)
    name = FILES[asked.form]
    return Response(
        file,
        media_type="image/png" if name.endswith(".png") else "application/dicom",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def _film(state: State, asked: LocalizationRequest, content: bytes | None) -> tuple[Picture, Source | None]:
    """A film, and where it is DICOM what a file made of it repeats.

    Raises:
        Refused: as `picture_of`; or the film is not the one that was indexed.
        ExportError: it is no DICOM or lacks an identifier, and the form refers to it.
    """
    picture = picture_of(state, asked.image, content)
    if asked.image is not None:
        cases.require_unchanged(state, asked.image, picture)
    if not picture.dicom and asked.form in ("overlay", "mask"):
        return picture, None
    try:
        if content is not None:
            return picture, state.pictures.source_of_sent(content, PICTURE)
        _, ref = cases.find_image(state, str(asked.image))
        return picture, state.pictures.source(ref.location, PICTURE)
    except ExportError:
        if asked.form in ("overlay", "mask"):
            return picture, None  # only the scale of the overlay is lost
        raise


def _row(study: Study, note: str) -> list[object]:
    statuses = sides(study.findings)
    told = ["|".join(statuses[side]) for side in ("present", "absent", "uncertain")]
    return [
        study.study_id, study.accession, study.study_uid, study.source, study.date, study.sex, study.age,
        study.diagnosis, *told, note,
    ]  # fmt: skip


def _cell(value: object) -> str:
    """A value as a spreadsheet may open it: other people's text never becomes a formula."""
    text = "" if value is None else str(value)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
