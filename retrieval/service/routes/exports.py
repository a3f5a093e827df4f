"""`POST /v1/exports/list`: a list of cases as CSV."""

import csv
import io
from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import Field

from corpus.findings import sides
from corpus.records import Study
from retrieval.service import schemas
from retrieval.service.auth import Reader, RequestId, Shared
from retrieval.service.problems import problems

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
        **problems(),
    },
)
def export_list(asked: ListRequest, actor: Reader, state: Shared, request_id: RequestId) -> Response:
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
