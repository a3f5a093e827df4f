"""The query as a user writes it, validated before anything is read or encoded.

A query is made of parts that add up: an image or a region of it, a phrase, a case of the index, examples that
are liked and disliked, an expression over findings. "Like this, without tubes" is an image with a phrase.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from corpus.errors import UsageError
from corpus.geometry import Box
from corpus.redaction import redacted

if TYPE_CHECKING:
    from retrieval.query.image import QueryImage

Target = Literal["images", "reports", "cases"]
TARGETS: tuple[Target, ...] = get_args(Target)
MOST_HITS = 10_000
"""More studies than this are an export, not an answer."""
MOST_EXAMPLES = 50
LONGEST_TEXT = 100_000
"""Characters of a text: ten times the longest report."""

_TEXTS = ("image", "text", "case", "finding", "for", "where", "subject")
_LISTS = ("like", "dislike")
_KEYS = ("id", *_TEXTS, *_LISTS, "region", "diversify", "k")


@redacted
@dataclass(frozen=True, slots=True)
class Query:
    """One query, of at least one of `image`, `text`, `case`, `like` and `finding`.

    Attributes:
        image: a file (its name or `Path`), `phantom://…`, or an image in memory (of Pillow, or an array that
            `image.make_query_image` takes; the answer calls it "the image in memory").
        text: a phrase or a report; it may stand with any other part.
        case: a study_id of the index, in place of an image.
        target: what is searched for.
        k: how many studies.
        where: an expression of `retrieval.query.filters`, which every hit meets.
        subject: the subject_id of the query's own subject; the subject's other studies are no hits.
        region: a box of the image, in pixels of it as read; hits then have a similar region.
        like: relevance feedback: cases (study_id) or images (file) to be similar to.
        dislike: cases or images to be dissimilar to.
        finding: an expression of `retrieval.query.finding_expression`, which every hit meets.
        diversify: choose hits that differ, instead of the most similar ones.
        ahead: how many of the k hits only show that there are more; no promise is made of them.
        decoded: the image of `image`, where it was decoded already.

    Raises:
        UsageError: on making one that cannot be answered.
    """

    image: str | Path | Image.Image | NDArray[Any] | None = None
    text: str | None = None
    case: str | None = None
    target: Target = "cases"
    k: int = 10
    where: str | None = None
    subject: str | None = None
    region: Box | None = None
    like: tuple[str, ...] = ()
    dislike: tuple[str, ...] = ()
    finding: str | None = None
    diversify: bool = False
    ahead: int = 0
    decoded: "QueryImage | None" = None

    def __post_init__(self) -> None:
        _normalize(self)
        _check_parts(self)
        if self.region is not None:
            _check_region(self, self.region)
        if self.target not in TARGETS:
            raise UsageError(f"one can search for {', '.join(TARGETS)}, not for {self.target!r}")
        if not 1 <= self.k <= MOST_HITS:
            raise UsageError(f"k is a number of studies from 1 to {MOST_HITS}, not {self.k}")

    @property
    def location(self) -> str | None:
        """Where `image` comes from, as text."""
        return cast("str | None", self.image)

    @property
    def promised_hits(self) -> int:
        """How many hits, of the best, a guarantee is of: those beyond only show that there are more."""
        return self.k - self.ahead

    def as_json(self) -> dict[str, Any]:
        """The query as the answer repeats it, with the keys of a line of a batch."""
        box = self.region
        given: dict[str, Any] = {
            "image": self.location,
            "region": None if box is None else [box.left, box.top, box.right, box.bottom],
            "text": self.text,
            "case": self.case,
            "like": list(self.like) or None,
            "dislike": list(self.dislike) or None,
            "finding": self.finding,
            "diversify": self.diversify or None,
        }
        return {
            **{name: value for name, value in given.items() if value is not None},
            "for": self.target,
            "k": self.k,
            "where": self.where,
        }


def query_from_json(line: Mapping[str, Any]) -> Query:
    """Return the query of one object of a batch: its keys are `Query`'s fields, with `for` for `target`.

    Raises:
        UsageError: a key is unknown or a value is of the wrong type.
    """
    for key in line:
        if key not in _KEYS:
            nearest = get_close_matches(key, _KEYS, n=1, cutoff=0.0)[0]
            raise UsageError(f"unknown key {key!r}; the nearest is {nearest!r}")
    for key in _TEXTS:
        if not isinstance(line.get(key), str | None):
            raise UsageError(f"{key} is text, not {line[key]!r}")
    k = line.get("k", 10)
    if isinstance(k, bool) or not isinstance(k, int):
        raise UsageError(f"k is a whole number, not {k!r}")
    diversify = line.get("diversify") or False
    if not isinstance(diversify, bool):
        raise UsageError(f"diversify is true or false, not {diversify!r}")
    region = line.get("region")
    return Query(
        image=line.get("image"),
        text=line.get("text"),
        case=line.get("case"),
        target=cast(Target, line.get("for") or "cases"),
        k=k,
        where=line.get("where"),
        subject=line.get("subject"),
        region=None if region is None else box_of(region),
        like=_texts("like", line.get("like")),
        dislike=_texts("dislike", line.get("dislike")),
        finding=line.get("finding"),
        diversify=diversify,
    )


def box_of(corners: object) -> Box:
    """A box from `[left, top, right, bottom]`, or from that as text, its numbers parted by commas.

    Raises:
        UsageError: these are not four whole numbers.
    """
    parts = corners.split(",") if isinstance(corners, str) else corners
    try:
        if not isinstance(parts, Sequence) or len(parts) != 4 or any(isinstance(p, bool) for p in parts):
            raise ValueError
        if not all(isinstance(part, str | int) for part in parts):
            raise ValueError
        return Box(*(int(part) for part in parts))
    except ValueError:
        raise UsageError(
            f"a region is left, top, right, bottom in pixels (12,30,80,96), not {corners!r}"
        ) from None


def _normalize(query: Query) -> None:
    """Convert what a caller may write in several ways into one, and refuse values of other types."""
    put = partial(object.__setattr__, query)
    image: object = query.image
    if isinstance(image, Path):
        put("image", str(image))
    elif isinstance(image, Image.Image | np.ndarray):
        from retrieval.query.image import IN_MEMORY, make_query_image  # late: DICOM, which no phrase needs

        put("decoded", make_query_image(image))
        put("image", IN_MEMORY)
    elif not isinstance(image, str | None):
        raise UsageError(
            f"image is a file's name, a Path, a Pillow image or an array, not {type(image).__name__}"
        )
    for name in ("text", "case", "where", "subject", "finding"):
        value = getattr(query, name)
        if not isinstance(value, str | None):
            raise UsageError(f"{name} is text, not {type(value).__name__}")
    k: object = query.k
    if isinstance(k, bool) or not isinstance(k, int):
        raise UsageError(f"k is a whole number, not {k!r}")
    for name in _LISTS:
        given = getattr(query, name)
        examples = (given,) if isinstance(given, str | Path) else given
        if not isinstance(examples, Sequence) or not all(isinstance(one, str | Path) for one in examples):
            raise UsageError(f"{name} is a list of cases or image files, not {type(given).__name__}")
        put(name, tuple(map(str, examples)))
    region: object = query.region
    if region is not None and not isinstance(region, Box):
        put("region", box_of(region))


def _check_parts(query: Query) -> None:
    for name in ("image", "text", "case", "finding"):
        value = getattr(query, name)
        if value is not None and not value.strip():
            raise UsageError(f"the query's {name} is empty")
    if query.text is not None and len(query.text) > LONGEST_TEXT:
        raise UsageError(
            f"the query's text has {len(query.text)} characters; at most {LONGEST_TEXT} are read"
        )
    if query.image is not None and query.case is not None:
        raise UsageError("a query is of an image or of a case, not of both: give the second as --like")
    if not (query.image or query.text or query.case or query.like or query.finding):
        if query.dislike:
            raise UsageError("a dislike alone says nothing of what is wanted: add an image, a text or a like")
        raise UsageError("a query needs an image, a text, a case, a like or a finding; here is none")
    for name in _LISTS:
        if any(not example.strip() for example in getattr(query, name)):
            raise UsageError(f"a {name} is empty")
    if len(query.like) + len(query.dislike) > MOST_EXAMPLES:
        raise UsageError(f"at most {MOST_EXAMPLES} examples are taken together")
    both = {*query.like, *filter(None, (query.location, query.case))} & set(query.dislike)
    if both:
        raise UsageError(f"{min(both)!r} is both wanted and disliked: leave one of the two out")


def _check_region(query: Query, box: Box) -> None:
    if query.image is None:
        raise UsageError("a region is a box of an image: give the image, too")
    if query.target == "reports":
        raise UsageError("a region is looked for in images: search for images or cases")
    if box.right <= box.left or box.bottom <= box.top:
        raise UsageError(
            f"the region {box.left},{box.top},{box.right},{box.bottom} has no pixel: right and bottom lie "
            "beyond left and top"
        )
    if box.left < 0 or box.top < 0:
        raise UsageError("a region begins at pixel 0,0 or further in")


def _texts(key: str, value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise UsageError(f"{key} is a list of texts, not {value!r}")
    return tuple(value)
