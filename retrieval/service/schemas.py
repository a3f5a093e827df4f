"""What crosses HTTP: the contract's JSON, less any path, with opaque ids to fetch pictures and cases by.

An `id` is a keyed hash of this home: it says nothing, opens nothing without a token, and may stand in an
address. A `study_id` may hold a patient's number: it stands in bodies alone.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from corpus.records import AttributeValue
from retrieval.answer import EvidenceKind
from retrieval.query.query import MOST_EXAMPLES, Target
from retrieval.service.access import Role

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
    Field(description="What of a DICOM header could not be followed, and what was done instead: sentences."),
]
MOST_A_PAGE = 100
MOST_PAGES_DEEP = 1_000
"""Studies that one can leaf through; beyond, a filter finds what leafing would not."""


class Private(BaseModel):
    """What crosses HTTP may be of a patient: a log that is given one shows no field of it."""

    def __repr_args__(self) -> list[tuple[str | None, object]]:
        return []


class Asking(Private):
    """A body: what it does not know, it refuses."""

    model_config = ConfigDict(extra="forbid")


class SearchRequest(Asking):
    """A search of parts that add up: a case or a picture (of the index or sent along), a text, examples."""

    text: Annotated[
        str | None, Field(min_length=1, max_length=20_000, examples=["right pleural effusion"])
    ] = None
    case: CaseName | None = None
    image: Annotated[Opaque | None, Field(description="A picture of the index.")] = None
    region: Annotated[
        list[int] | None,
        Field(
            min_length=4,
            max_length=4,
            description="Left, top, right, bottom in pixels of the film: hits have something alike in it.",
        ),
    ] = None
    like: Annotated[list[CaseName], Field(max_length=MOST_EXAMPLES, description="Cases to be near to.")] = []
    dislike: Annotated[
        list[CaseName], Field(max_length=MOST_EXAMPLES, description="Cases to be far from.")
    ] = []
    finding: Annotated[
        str | None, Field(max_length=2_000, description="An expression over findings that every hit meets.")
    ] = None
    diversify: Annotated[bool, Field(description="Spread the hits over what there is.")] = False
    target: Annotated[Target, Field(alias="for")] = "cases"
    k: Annotated[int, Field(ge=1, le=MOST_A_PAGE, description="Studies a page.")] = 10
    where: Annotated[str | None, Field(max_length=2_000, examples=["sex=F and finding=edema"])] = None
    cursor: Annotated[str | None, Field(max_length=500, description="`next` of the page before.")] = None
    timings: Annotated[bool, Field(description="Tell how long each step took.")] = False


class Findings(Private):
    """What is known of a film; what is in none of the lists is unmentioned."""

    present: list[str]
    absent: list[str]
    uncertain: list[str]


class Picture(Private):
    """A picture of a case: `/v1/thumbnails/{id}` and `/v1/images/{id}` show it."""

    id: Opaque
    item_id: str
    view: str | None
    modality: str | None


class Region(Private):
    """A box in pixels of the picture as read; `right` and `bottom` are exclusive."""

    left: int
    top: int
    right: int
    bottom: int


class Evidence(Private):
    """Why a study is in the answer, as `similarity search --json` tells it (`retrieval.answer.Evidence`)."""

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
    """What an answer tells of a case. `language` of its report, and `findings_read`, whether findings could
    be read from it; both null without a report, or where nobody looked."""

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
    images: list[Picture]


class Hit(CaseSummary):
    """A study of the answer. `image`: the picture that speaks for it, or its first."""

    rank: int
    score: float
    kind: Kind
    item_id: str
    image: Opaque | None
    evidence: list[Evidence]


class EncoderName(Private):
    """The encoder by which a query was understood."""

    name: str
    fingerprint: str


class Took(Private):
    """Milliseconds of each step."""

    decode: float
    encode: float
    search: float
    rank: float
    catalog: float
    total: float


class SearchAnswer(Private):
    """The answer to a search. `next`: the cursor of the next page, or null at the end. `findings_unread`:
    hits of this page whose report is in a language without a lexicon."""

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
    """A part of a report."""

    name: str
    text: str


class Case(CaseSummary):
    """A whole case. `viewer`: its link in the site's own viewer, where one is set."""

    age: float | None
    sex: str | None
    date: str | None
    accession: str | None
    report: list[Section] | None
    own_studies: list[CaseSummary]
    viewer: str | None


class SignIn(Asking):
    """What a browser signs in with."""

    token: Annotated[str, Field(min_length=1, max_length=200)]


class Me(Private):
    """Who is asking."""

    name: str
    role: Role
    via: Literal["token", "session", "proxy"]


class FilterField(Private):
    """A field of `where`. `values`: what it can be, where that is a closed or short list."""

    name: str
    type: Literal["keyword", "number", "bool", "date"]
    operators: list[str]
    values: list[str] | None


class Fields(Private):
    """Every field that one can filter on. `parents`: finding → the finding above it in the vocabulary."""

    fields: list[FilterField]
    parents: dict[str, str]


class IndexVersion(Private):
    """A version of the index."""

    name: str
    fingerprint: str
    dim: int
    state: str


class ReportCount(Private):
    """Reports by language (ISO 639-1 code), and how many of them no findings could be read from."""

    by_language: dict[str, int]
    findings_unread: int


class IndexStatus(Private):
    """What the index holds."""

    versions: list[IndexVersion]
    studies: dict[str, int]
    vectors: dict[str, int]
    problems: dict[str, int]
    reports: ReportCount


class Health(Private):
    """Whether the service lives."""

    status: Literal["ok"]


class Readiness(Private):
    """Whether the service can answer; `checks` says of each part what is wrong with it."""

    ready: bool
    checks: dict[str, str]
