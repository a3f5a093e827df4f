"""What can be asked, before anything is read or encoded: a picture, a phrase, or a case of the index."""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal, cast, get_args

from corpus.errors import UsageError
from retrieval.picture import Picture

Target = Literal["images", "reports", "cases"]
TARGETS: tuple[Target, ...] = get_args(Target)
MOST_HITS = 10_000
"""More studies than this are an export, not an answer."""

_KEYS = ("id", "image", "text", "case", "for", "k", "where", "subject")


@dataclass(frozen=True, slots=True)
class Query:
    """One question. Exactly one of `image` (a file, or `phantom://…`), `text` and `case` (a study_id).

    `target`: what comes back. `k`: how many studies. `where`: an expression of `retrieval.where`.
    `subject`: the subject_id of the person asked about, whose own studies are not hits. `picture`: what
    `image` holds, where it was read already.

    Raises:
        UsageError: on making one that cannot be answered.
    """

    image: str | None = None
    text: str | None = None
    case: str | None = None
    target: Target = "cases"
    k: int = 10
    where: str | None = None
    subject: str | None = None
    picture: Picture | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("image", "text", "case") if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) if given else "none"
            raise UsageError(f"a query is exactly one of image, text and case; here are {found}")
        if not getattr(self, given[0]).strip():
            raise UsageError(f"the query's {given[0]} is empty")
        if self.target not in TARGETS:
            raise UsageError(f"one can search for {', '.join(TARGETS)}, not for {self.target!r}")
        if not 1 <= self.k <= MOST_HITS:
            raise UsageError(f"k is a number of studies from 1 to {MOST_HITS}, not {self.k}")

    def as_json(self) -> dict[str, Any]:
        """What was asked, as the answer repeats it."""
        asked = {"image": self.image, "text": self.text, "case": self.case}
        return {
            **{name: value for name, value in asked.items() if value is not None},
            "for": self.target,
            "k": self.k,
            "where": self.where,
        }


def query_from_json(line: Mapping[str, Any]) -> Query:
    """Make a query of one object of a batch: `image` or `text` or `case`, and `for`, `k`, `where`, `subject`.

    Raises:
        UsageError: a key is unknown or a value is of the wrong type.
    """
    for key in line:
        if key not in _KEYS:
            nearest = get_close_matches(key, _KEYS, n=1, cutoff=0.0)[0]
            raise UsageError(f"unknown key {key!r}; the nearest is {nearest!r}")
    for key in ("image", "text", "case", "for", "where", "subject"):
        if not isinstance(line.get(key), str | None):
            raise UsageError(f"{key} is text, not {line[key]!r}")
    k = line.get("k", 10)
    if isinstance(k, bool) or not isinstance(k, int):
        raise UsageError(f"k is a whole number, not {k!r}")
    return Query(
        image=line.get("image"),
        text=line.get("text"),
        case=line.get("case"),
        target=cast(Target, line.get("for") or "cases"),
        k=k,
        where=line.get("where"),
        subject=line.get("subject"),
    )
