"""`/v1/index` and `/v1/fields`: what is there to be found, and by what one can filter."""

from typing import get_args

from fastapi import APIRouter

from corpus.findings import VOCABULARY
from corpus.records import ItemState
from retrieval.query.filter_fields import closed_values, operators
from retrieval.service import schemas
from retrieval.service.auth import Reader, Shared
from retrieval.service.problems import problems

router = APIRouter(tags=["index"])

_KINDS = ("image", "report", "sentence")


@router.get(
    "/v1/index", operation_id="index_status", response_model=schemas.IndexStatus, responses=problems()
)
def index_status(actor: Reader, state: Shared) -> schemas.IndexStatus:
    """What the index holds."""
    counts = state.catalog.counts()
    return schemas.IndexStatus(
        versions=[
            schemas.IndexVersion(name=v.name, fingerprint=v.fingerprint, dim=v.dim, state=v.state)
            for v in state.catalog.versions()
        ],
        studies=counts["studies"],
        vectors={kind: counts["vectors"].get(kind, 0) for kind in _KINDS},
        problems={told: counts["problems"].get(told, 0) for told in get_args(ItemState)},
        reports=schemas.ReportCount(**state.catalog.report_languages().as_json()),
    )


@router.get("/v1/fields", operation_id="filter_fields", response_model=schemas.Fields, responses=problems())
def filter_fields(actor: Reader, state: Shared) -> schemas.Fields:
    """Every field of `where`, with its operators and, where they are few, its values."""
    sources = sorted(state.catalog.counts()["studies"])
    known = {"source": sources, "finding": list(VOCABULARY.names)}
    return schemas.Fields(
        fields=[
            schemas.FilterField(
                name=name,
                type=kind.value,
                operators=list(operators(kind)),
                values=known.get(name) or closed_values(name),
            )
            for name, kind in state.catalog.filter_fields().items()
        ],
        parents={f.name: f.parent for f in VOCABULARY.findings if f.parent is not None},
    )
