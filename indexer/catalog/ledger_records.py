"""Records of the ledger: kinds of points and their collections, what is done, what a step commits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from corpus.records import ItemKind, Problem, Study
from corpus.redaction import redacted
from indexer.vectors.store import Form

KINDS: tuple[str, ...] = tuple(kind.value for kind in ItemKind)
"""Kinds of points. A report has a point of `report` and one of `term` (the words it affirms), an image one of
`image` and, where that was requested, one of `patch`."""

FORMS: Mapping[str, Form] = {"term": "terms", "patch": "patches"}
"""Forms of the kinds that are not plain vectors."""

KINDS_OF_ITEM: Mapping[str, tuple[str, ...]] = {
    "image": ("image", "patch"),
    "report": ("report", "term"),
    "sentence": ("sentence",),
}
"""Kind of an item, or sentence → kinds of its points, all of one id."""

DOUBTFUL = ""
"""In place of a hash: a run began to overwrite the point, and has not committed."""

_PLURALS = {"patch": "patches"}

Key = tuple[str, UUID]
"""Kind and point: the key of a row of the ledger."""


def collection_of(kind: str, fingerprint: str) -> str:
    """Return the collection of one kind in one version: `images__<first 8 of the fingerprint>`."""
    return f"{alias_of(kind)}__{fingerprint[:8]}"


def alias_of(kind: str) -> str:
    """Return the name under which a server has the active version's collection of one kind: `images`."""
    return _PLURALS.get(kind, f"{kind}s")


@dataclass(frozen=True, slots=True)
class Done:
    """The hashes under which a point was last written.

    `content`: of what decides the vector. `attributes`: of what decides the payload.
    """

    content: str
    attributes: str


@redacted
@dataclass(frozen=True, slots=True)
class ExistingItem:
    """An item of the catalog that is read again.

    `content`: hash of the pixels or the text. `stamp`: of its file when it was read. `done`, `patched`: of
    its vector and of its patches; None where the ledger has no row. `shape`: (height, width), None where it
    was not recorded.
    """

    content: str
    stamp: str | None
    done: Done | None
    patched: Done | None = None
    shape: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class ExistingStudy:
    """A study of the catalog that is read again. `content`: hash of its row; `items`: by item id."""

    content: str
    items: Mapping[str, ExistingItem]


@redacted
@dataclass(frozen=True, slots=True)
class NewItem:
    """An image or report to be written to the catalog. `shape`: (height, width) of an image as read."""

    item_id: str
    point_id: UUID
    kind: str
    content: str
    location: str | None = None
    view: str | None = None
    modality: str | None = None
    stamp: str | None = None
    shape: tuple[int, int] | None = None
    instance_key: str | None = None


@redacted
@dataclass(frozen=True, slots=True)
class NewStudy:
    """A study to be written to the catalog in place of its earlier rows.

    `sentences`: (point, text) of its report, in order.
    """

    study: Study
    items: tuple[NewItem, ...]
    sentences: tuple[tuple[UUID, str], ...] = ()


@redacted
@dataclass(frozen=True, slots=True)
class Step:
    """Everything that one transaction commits.

    `studies`: new or changed. `gone`: ids of studies that no longer have any item. `done`: the hashes of
    every point written in this step; `relied`: of the points of these studies that were done before it.
    `problems`: (study id or None, subject id or None, problem). `settled`: ids of items without a problem
    now, whatever was recorded before. `claimed`: ids of studies that another run may index from now on.
    """

    studies: Sequence[NewStudy] = ()
    gone: Sequence[str] = ()
    done: Mapping[Key, Done] = field(default_factory=dict)
    problems: Sequence[tuple[str | None, str | None, Problem]] = ()
    settled: Sequence[str] = ()
    relied: Mapping[Key, Done] = field(default_factory=dict)
    claimed: Sequence[str] = ()
