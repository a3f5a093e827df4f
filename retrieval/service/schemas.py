"""The models of HTTP: the contract's JSON without paths, and with opaque ids of images and cases.

An `id` is a keyed hash of this home: it reveals nothing, opens nothing without a token, and may be part of a
URL. A `study_id` may contain a patient's number: it is part of bodies only.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from corpus.records import AttributeValue
from retrieval.answer import EvidenceKind
from retrieval.query.query import MOST_EXAMPLES, Target

Opaque = Annotated[
    str,
    Field(
        pattern="^[0-9a-f]{32}$", examples=["0f3c9e5a7b1d2c4e6f8091a2b3c4d5e6"], description="An opaque id."
    ),
]
CaseName = Annotated[str, Field(max_length=500, description="`id` or `study_id` of a case.")]
Kind = Literal["image", "report", "case"]
Notes = Annotated[
    list[str],
    Field(description="What of a DICOM header could not be applied, and what was done instead: sentences."),
]
MOST_A_PAGE = 100
"""Studies on one page of an answer."""

MOST_RANKED = 1_000
"""Studies on all pages of an answer together; beyond, a filter narrows the search."""


class Private(BaseModel):
    """A model that may contain data of a patient: its `repr` shows no field, so that no log does."""

    def __repr_args__(self) -> list[tuple[str | None, object]]:
        return []


class RequestBody(Private):
    """A request's body; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class SearchRequest(RequestBody):
    """A query of parts that add up: a case or an image (of the index or uploaded), a text, examples."""

    text: Annotated[
        str | None, Field(min_length=1, max_length=20_000, examples=["right pleural effusion"])
    ] = None
    case: CaseName | None = None
    image: Annotated[Opaque | None, Field(description="An image of the index.")] = None
    region: Annotated[
        list[int] | None,
        Field(
            min_length=4,
            max_length=4,
            description="Left, top, right, bottom in pixels of the image: hits contain a similar region.",
        ),
    ] = None
    like: Annotated[
        list[CaseName],
        Field(
            max_length=MOST_EXAMPLES,
            description="Relevant cases: relevance feedback moves the query towards them.",
        ),
    ] = []
    dislike: Annotated[
        list[CaseName],
        Field(
            max_length=MOST_EXAMPLES,
            description="Irrelevant cases: relevance feedback moves the query away from them.",
        ),
    ] = []
    finding: Annotated[
        str | None,
        Field(max_length=2_000, description="Expression over findings that every hit satisfies."),
    ] = None
    diversify: Annotated[bool, Field(description="Diversify the hits.")] = False
    target: Annotated[Target, Field(alias="for")] = "cases"
    k: Annotated[int, Field(ge=1, le=MOST_A_PAGE, description="Studies a page.")] = 10
    where: Annotated[str | None, Field(max_length=2_000, examples=["sex=F and finding=edema"])] = None
    cursor: Annotated[str | None, Field(max_length=500, description="`next` of the page before.")] = None
    timings: Annotated[bool, Field(description="Include the time of each step.")] = False


class Findings(Private):
    """The findings of a study; a finding in none of the lists is unmentioned."""

    present: list[str]
    absent: list[str]
    uncertain: list[str]


class CaseImage(Private):
    """An image of a case: `/v1/thumbnails/{id}` and `/v1/images/{id}` return it."""

    id: Opaque
    item_id: str
    view: str | None
    modality: str | None


class Region(Private):
    """A box in pixels of the image as read; `right` and `bottom` are exclusive."""

    left: int
    top: int
    right: int
    bottom: int


class Evidence(Private):
    """Evidence for a hit, as in `similarity search --json` (`retrieval.answer.Evidence`).

    image: the image that the evidence is of, or null.
    """

    item_id: str
    kind: EvidenceKind
    score: float
    text: str | None = None
    contributed: float | None = None
    by: list[str] | None = None
    agree: list[str] | None = None
    conflict: list[str] | None = None
    box: Region | None = None
    study_id: str | None = None
    image: Opaque | None = None


class CaseSummary(Private):
    """A case in an answer.

    language: of its report (ISO 639-1).
    findings_read: whether findings could be extracted from the report.

    Both are null without a report, and where the index is of a version that did not detect languages.
    """

    id: Opaque
    study_id: str
    subject_id: str
    source: str
    text: str | None
    diagnosis: str | None
    findings: Findings
    attributes: dict[str, AttributeValue]
    language: str | None
    findings_read: bool | None
    images: list[CaseImage]


class Hit(CaseSummary):
    """A hit. `image`: the image of the best evidence, or the first of the case."""

    rank: int
    score: float
    kind: Kind
    item_id: str
    image: Opaque | None
    evidence: list[Evidence]


class EncoderName(Private):
    """The encoder that encoded the query."""

    name: str
    fingerprint: str


class Took(Private):
    """Time of each step in milliseconds."""

    decode: float
    encode: float
    search: float
    rank: float
    catalog: float
    total: float


class SearchAnswer(Private):
    """The answer to a search.

    findings_unread: hits of this page with a report in a language without a lexicon.
    next: cursor of the next page; null on the last.
    """

    query: dict[str, JsonValue]
    encoder: EncoderName
    abstained: bool | None
    reason: str | None
    own_studies: list[CaseSummary]
    hits: list[Hit]
    findings_unread: int
    next: str | None
    notes: Notes
    took_ms: Took | None = None


class Section(Private):
    """A section of a report."""

    name: str
    text: str


class Case(CaseSummary):
    """A case with its report and its subject's other studies.

    viewer: link to the study in the site's own viewer, where one is configured.
    """

    age: float | None
    sex: str | None
    date: str | None
    accession: str | None
    report: list[Section] | None
    own_studies: list[CaseSummary]
    viewer: str | None


class Health(Private):
    """Whether the process runs."""

    status: Literal["ok"]


class Readiness(Private):
    """Whether the service can answer; `checks` gives the state of each part."""

    ready: bool
    checks: dict[str, str]
