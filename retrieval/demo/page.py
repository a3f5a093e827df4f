"""The page of the demonstration: plain records in, one HTML file without any outside part out."""

from dataclasses import dataclass
from functools import lru_cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from corpus.findings import NO_FINDING, VOCABULARY, Statuses, sides
from corpus.redaction import redacted
from retrieval.answer import Answer, Hit
from retrieval.demo.images import inline_png


@dataclass(frozen=True, slots=True)
class Chip:
    """A finding as it is shown: `state` is present, uncertain or absent; `shared` with the query."""

    label: str
    state: str
    shared: bool = False


@redacted
@dataclass(frozen=True, slots=True)
class Card:
    """One case on the page: the query's, or a hit's. `picture` is a data address."""

    title: str
    picture: str | None
    chips: tuple[Chip, ...]
    text: str | None
    rank: int | None = None
    score: str | None = None
    because: tuple[str, ...] = ()
    about: str = ""


@redacted
@dataclass(frozen=True, slots=True)
class Panel:
    """One search: what was asked in words and as a command, the query, and the hits."""

    heading: str
    explanation: str
    command: str
    query: Card
    hits: tuple[Card, ...]
    agreeing: str
    took: str


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the evaluation table. `cells`: (value, interval or nothing) in the order of the columns."""

    name: str
    cells: tuple[tuple[str, str], ...]
    ours: bool = False


@dataclass(frozen=True, slots=True)
class Bar:
    """One finding of the evaluation: its lift, and the bar's length in per cent of the scale."""

    name: str
    lift: str
    length: float


@redacted
@dataclass(frozen=True, slots=True)
class Scores:
    """The evaluation as a table, with the lift of each finding."""

    heading: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    bars: tuple[Bar, ...]
    note: str


@dataclass(frozen=True, slots=True)
class Page:
    """All that the page shows."""

    facts: tuple[tuple[str, str], ...]
    panels: tuple[Panel, ...]
    scores: tuple[Scores, ...]
    commands: tuple[str, ...]
    version: str


def label(finding: str) -> str:
    """A finding's name as people write it."""
    return "normal" if finding == NO_FINDING else finding.replace("_", " ")


def chips(statuses: Statuses, shared_with: Statuses | None = None) -> tuple[Chip, ...]:
    """The findings worth showing: what is present or uncertain, without the parents of what is shown.

    Args:
        statuses: of the case.
        shared_with: of the query; what is present in both is marked.
    """
    told = sides(statuses)
    theirs = set(sides(shared_with)["present"]) if shared_with is not None else set()
    present = [name for name in told["present"] if not set(told["present"]) & _below(name)]
    uncertain = [name for name in told["uncertain"] if not set(told["present"]) & _below(name)]
    return (
        *(Chip(label(name), "present", name in theirs) for name in present),
        *(Chip(label(name) + "?", "uncertain") for name in uncertain),
    )


def _below(name: str) -> set[str]:
    children = set(VOCABULARY.children(name))
    return children.union(*(_below(child) for child in children)) if children else children


def card_of(hit: Hit, query: Statuses | None, single: bool) -> Card:
    """Show a hit. `single`: its score is a cosine (one list), not a fusion."""
    case = hit.case
    best = {evidence.kind: evidence for evidence in reversed(hit.evidence)}
    because = []
    for kind in ("image", "report", "sentence"):
        if kind in best:
            said = f": “{best[kind].text}”" if best[kind].text else ""
            because.append(f"{kind} {best[kind].score:.2f}{said}")
    age, sex = case.attributes.get("age"), case.attributes.get("sex")
    return Card(
        title=case.study_id,
        picture=None if case.path is None else inline_png(case.path),
        chips=chips(case.findings, query),
        text=case.text,
        rank=hit.rank,
        score=f"{hit.score:.2f}" if single else f"{hit.score:.2f} fused",
        because=tuple(because),
        about=" · ".join(str(part) for part in (sex, age if age is None else f"{age:g} y") if part),
    )


def agreement(answer: Answer, query: Statuses) -> str:
    """How many hits share a present finding with the query, in words."""
    mine = set(sides(query)["present"])
    shared = sum(bool(mine & set(sides(hit.case.findings)["present"])) for hit in answer.hits)
    return f"{shared} of {len(answer.hits)} share a finding with the query"


def write(page: Page) -> str:
    """Write the page as HTML. Everything in it is escaped."""
    return _environment().get_template("page.html").render(page=page)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("retrieval.demo", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
