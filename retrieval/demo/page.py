"""The page of the demonstration: plain records in, one HTML file without any external part out."""

import base64
import io
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray
from PIL import Image

from corpus.images.reader import read_image
from corpus.redaction import redacted


@dataclass(frozen=True, slots=True)
class Chip:
    """A finding as it is shown: `state` is present, uncertain or absent; `shared` with the query."""

    label: str
    state: str
    shared: bool = False


@redacted
@dataclass(frozen=True, slots=True)
class Card:
    """One case on the page: the query's, or a hit's. `image` is a data address."""

    title: str
    image: str | None
    chips: tuple[Chip, ...]
    text: str | None
    rank: int | None = None
    score: str | None = None
    because: tuple[str, ...] = ()
    about: str = ""


@redacted
@dataclass(frozen=True, slots=True)
class Panel:
    """One search: the question in words and as a command, the query, and the hits.

    `agreement`: how many hits share a finding with the query. `note`: what the answer promises of its hits.
    `first_agrees`: whether the first hit shares a finding with the query.
    """

    heading: str
    explanation: str
    command: str
    query: Card
    hits: tuple[Card, ...]
    agreement: str
    first_agrees: bool
    took: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Tile:
    """An image with what it shows in a few words. `image` is a data address."""

    title: str
    image: str
    caption: str


@redacted
@dataclass(frozen=True, slots=True)
class Evidence:
    """What was found in one image, or in two beside each other: tiles, and a sentence below them."""

    heading: str
    explanation: str
    command: str
    tiles: tuple[Tile, ...]
    note: str


@redacted
@dataclass(frozen=True, slots=True)
class DraftedSentence:
    """A sentence of the draft, the votes that carry it, and source sentences with their studies."""

    text: str
    votes: tuple[str, ...]
    sources: tuple[tuple[str, str], ...]


@redacted
@dataclass(frozen=True, slots=True)
class DraftPanel:
    """A draft with its evidence, beside the query and the report that the draft's author never saw."""

    explanation: str
    command: str
    query: Card
    heading: str
    sentences: tuple[DraftedSentence, ...]
    rest: tuple[str, ...]
    report: str


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
    """The evaluation as a table, with the lift of each finding. `not_retrieved`: those with none."""

    heading: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    bars: tuple[Bar, ...]
    note: str
    not_retrieved: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """All that the page shows, in the order of the page.

    `cases`: the search that the evidence, the correspondence and the draft belong to. `searches`: the others.
    `agreement`: in how many of all searches the first hit shares a finding with the query. `own_commands`,
    `own_python`: the same for a folder of one's own. `commands`: this demonstration by hand.
    """

    facts: tuple[tuple[str, str], ...]
    cases: Panel
    evidence: tuple[Evidence, ...]
    draft: DraftPanel
    searches: tuple[Panel, ...]
    agreement: str
    scores: tuple[Scores, ...]
    own_commands: tuple[str, ...]
    own_python: str
    commands: tuple[str, ...]
    version: str


def write(page: Page) -> str:
    """Return the page as HTML. Everything in it is escaped."""
    return _environment().get_template("page.html").render(page=page)


def inline_radiograph(location: str, longest: int = 240) -> str:
    """Read a radiograph and return it as the `data:` address of a small grey PNG.

    Args:
        location: as for `corpus.images.reader.read_image`.
        longest: the longest side of the small image, in pixels.

    Raises:
        UnreadableImage: the image cannot be read.
    """
    grey = Image.fromarray(np.rint(read_image(location) * 255).astype(np.uint8))
    return _address_of(grey, longest)


def inline_pixels(pixels: NDArray[np.uint8], longest: int = 320) -> str:
    """Return (height, width, 3) RGB pixels as the `data:` address of a PNG, reduced to `longest` pixels."""
    return _address_of(Image.fromarray(pixels), longest)


def _address_of(image: Image.Image, longest: int) -> str:
    image.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    written = io.BytesIO()
    image.save(written, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(written.getvalue()).decode("ascii")


@lru_cache(maxsize=1)
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("retrieval.demo", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
