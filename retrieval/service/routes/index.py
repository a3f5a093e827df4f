"""`/v1/index` and `/v1/fields`: the content of the index, and the fields of filters."""

from typing import Literal, get_args

from fastapi import APIRouter

from corpus.findings import VOCABULARY
from corpus.records import ItemState
from retrieval.query.filter_fields import closed_values, operators
from retrieval.service.auth import Reader, Shared
from retrieval.service.problems import problems
from retrieval.service.schemas import Private

router = APIRouter(tags=["index"])

_KINDS = ("image", "report", "sentence")


class IndexVersion(Private):
    """A version of the index: the encoder's name and fingerprint, the dimension of its vectors."""

    name: str
    fingerprint: str
    dim: int
    state: str


class ReportCount(Private):
    """Reports by language (ISO 639-1 code).

    findings_unread: reports in a language without a lexicon.
    """

    by_language: dict[str, int]
    findings_unread: int


class IndexStatus(Private):
    """The content of the index: studies by source, vectors by kind, problem items by state."""

    versions: list[IndexVersion]
    studies: dict[str, int]
    vectors: dict[str, int]
    problems: dict[str, int]
    reports: ReportCount


class FilterField(Private):
    """A field of `where`. `values`: its possible values, where they are few."""

    name: str
    type: Literal["keyword", "number", "bool", "date"]
    operators: list[str]
    values: list[str] | None


class Fields(Private):
    """All fields of `where`. `parents`: finding → its parent in the vocabulary."""

    fields: list[FilterField]
    parents: dict[str, str]


@router.get("/v1/index", operation_id="index_status", response_model=IndexStatus, responses=problems())
def index_status(actor: Reader, state: Shared) -> IndexStatus:
    """Return the content of the index."""
    counts = state.catalog.counts()
    return IndexStatus(
        versions=[
            IndexVersion(name=v.name, fingerprint=v.fingerprint, dim=v.dim, state=v.state)
            for v in state.catalog.versions()
        ],
        studies=counts["studies"],
        vectors={kind: counts["vectors"].get(kind, 0) for kind in _KINDS},
        problems={name: counts["problems"].get(name, 0) for name in get_args(ItemState)},
        reports=ReportCount(**state.catalog.report_languages().as_json()),
    )


@router.get("/v1/fields", operation_id="filter_fields", response_model=Fields, responses=problems())
def filter_fields(actor: Reader, state: Shared) -> Fields:
    """Return all fields of `where` with their operators and, where they are few, their values."""
    sources = sorted(state.catalog.counts()["studies"])
    values = {"source": sources, "finding": list(VOCABULARY.names)}
    return Fields(
        fields=[
            FilterField(
                name=name,
                type=kind.value,
                operators=list(operators(kind)),
                values=values.get(name) or closed_values(name),
            )
            for name, kind in state.catalog.filter_fields().items()
        ],
        parents={f.name: f.parent for f in VOCABULARY.findings if f.parent is not None},
    )
