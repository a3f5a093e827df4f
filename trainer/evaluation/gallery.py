"""Query and gallery sets: from a source to the items of one kind that an evaluation compares.

Imports no model: what turns items into vectors is anything with the methods of `Embedder`.
"""

import hashlib
import logging
import os
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from corpus.errors import EvaluationError, NotAdmitted, UnreadableImage, UsageError
from corpus.findings import Statuses, is_normal, present_leaves
from corpus.geometry import Framing
from corpus.images.reader import read_image
from corpus.language.labeler import labeled
from corpus.records import Problem, Source, Study
from corpus.redaction import redacted
from corpus.splits import Split, split_of
from corpus.truth import Truth
from trainer.evaluation.labels import CLASSES, Labels

log = logging.getLogger(__name__)

Kind = Literal["image", "report"]
KindChoice = Literal["auto", "image", "report"]
SplitChoice = Split | Literal["all"]
Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many items are done, and how many there are."""

_BATCH = 64  # pictures in memory at a time


class Embedder(Protocol):
    """What an evaluation needs of an encoder; raw features of any network can offer the same."""

    @property
    def framing(self) -> Framing:
        """How a picture is placed into the network's square."""
        ...

    def encode_framed(self, framed: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, size, size) float32 in [0, 1] → (n, dim) float32 unit rows."""
        ...

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Texts → (n, dim) float32 unit rows."""
        ...


@redacted
@dataclass(frozen=True, slots=True)
class Item:
    """One picture or report to be compared.

    `content`: the picture's location or the report's text. `statuses`: what it is scored by. `owners`: the
    (source, subject) pairs, and `study_ids` the studies, of every item with identical content.
    """

    item_id: str
    kind: Kind
    study: Study
    content: str
    statuses: Statuses
    owners: frozenset[tuple[str, str]]
    study_ids: frozenset[str]


@redacted
@dataclass(frozen=True, slots=True)
class Side:
    """The queries or the gallery before encoding.

    `found`: items of this kind in the split. `dropped`: those of them without a known finding that are not
    normal, which nothing can match. `problems`: what the source or the decoder could not give.
    `under_truth`: whether the statuses are the truth table's.
    """

    source: str
    kind: Kind
    items: tuple[Item, ...]
    found: int
    dropped: int
    problems: tuple[Problem, ...]
    under_truth: bool

    @property
    def subjects(self) -> frozenset[str]:
        """The subjects of all items."""
        return frozenset(item.study.subject_id for item in self.items)


@redacted
@dataclass(frozen=True, slots=True)
class Encoded:
    """The items of a side that could be read, each content once, and their vectors (n, dim) float32.

    `not_drawn`: how many more there were that `balance` left out.
    """

    items: tuple[Item, ...]
    vectors: NDArray[np.float32]
    problems: tuple[Problem, ...] = ()
    not_drawn: int = 0

    def take(self, index: Sequence[int]) -> "Encoded":
        """Return the chosen items; the others are counted as not drawn."""
        items = tuple(self.items[place] for place in index)
        return replace(
            self,
            items=items,
            vectors=self.vectors[list(index)],
            not_drawn=self.not_drawn + len(self.items) - len(items),
        )


def gather(
    source: Source,
    kind: KindChoice = "auto",
    *,
    prefer: Kind = "image",
    split: SplitChoice = "test",
    truth: Truth | None = None,
) -> Side:
    """Collect the items of one kind from a source, with the statuses they are scored by.

    Args:
        source: where the studies come from.
        kind: what to compare; `auto` takes what the source has, and `prefer` where it has both.
        prefer: see `kind`.
        split: whose items: subjects of that split, or of `all`.
        truth: a truth table; if it names any study of this side, its statuses replace the side's own, and a
            study it has no row for has no known finding.

    Raises:
        UsageError: the source has no item of that kind.
        CorpusError: the source cannot be read at all.
    """
    problems: list[Problem] = []
    studies = list(source.studies(problems.append))
    kind = _choose_kind(source.name, studies, kind, prefer)
    owning = [study for study in studies if _contents(study, kind)]
    under_truth = truth is not None and truth.names(study.study_id for study in owning)
    found = 0
    items: list[Item] = []
    for study in owning:
        if split not in ("all", split_of(study.subject_id)):
            continue
        told = truth.of(study.study_id) if truth is not None and under_truth else labeled(study).findings
        contents = _contents(study, kind)
        found += len(contents)
        if not (present_leaves(told) or is_normal(told)):
            continue
        owner, named = frozenset([(study.source, study.subject_id)]), frozenset([study.study_id])
        items += [Item(name, kind, study, content, told, owner, named) for name, content in contents]
    return Side(source.name, kind, tuple(items), found, found - len(items), tuple(problems), under_truth)


def _choose_kind(name: str, studies: Sequence[Study], kind: KindChoice, prefer: Kind) -> Kind:
    kinds: tuple[Kind, ...] = ("image", "report")
    held = [k for k in kinds if any(_contents(study, k) for study in studies)]
    if not held:
        raise UsageError(f"{name} holds no picture and no report: there is nothing to evaluate")
    if kind == "auto":
        return prefer if prefer in held else held[0]
    if kind not in held:
        raise UsageError(f"{name} holds no {kind}s; it holds {held[0]}s")
    return kind


def _contents(study: Study, kind: Kind) -> list[tuple[str, str]]:
    """Return the (item id, content) of a study's items of a kind; a report that says nothing is none."""
    if kind == "image":
        return [(image.item_id, image.location) for image in study.images]
    if study.report is None or not study.report.described.strip():
        return []
    return [(study.report.item_id, study.report.described)]


def encode(side: Side, embedder: Embedder, on_progress: Progress | None = None) -> Encoded:
    """Turn a side's items into vectors, those with identical text or pixels into one.

    Of identical items the first is kept and is scored by its own statuses; it belongs to the subjects and
    studies of all. A picture that cannot be read is a problem, and is left out.

    Raises:
        EncoderError: the encoder refuses what it is given.
    """
    kept: dict[str, Item] = {}
    rows: list[NDArray[np.float32]] = []
    problems: list[Problem] = []
    done = 0
    batches = _read_texts(side) if side.kind == "report" else _read_pictures(side, embedder.framing)
    for batch in batches:
        fresh: list[str | NDArray[np.float32]] = []
        for item, content in batch:
            if isinstance(content, Problem):
                problems.append(content)
                continue
            digest, readable = content
            if digest in kept:
                first = kept[digest]
                owners, named = first.owners | item.owners, first.study_ids | item.study_ids
                kept[digest] = replace(first, owners=owners, study_ids=named)
            else:
                kept[digest] = item
                fresh.append(readable)
        texts = [content for content in fresh if isinstance(content, str)]
        pictures = [content for content in fresh if not isinstance(content, str)]
        if texts:
            rows.append(embedder.encode_texts(texts))
        if pictures:
            rows.append(embedder.encode_framed(np.stack(pictures)))
        done += len(batch)
        if on_progress is not None:
            on_progress(f"encoding {side.kind}s", done, len(side.items))
    for problem in problems:
        log.warning("%s: %s", problem.item_id, problem.reason)
    vectors = np.concatenate(rows) if rows else np.zeros((0, 0), np.float32)
    return Encoded(tuple(kept.values()), vectors, tuple(problems))


@dataclass(frozen=True, slots=True)
class Balance:
    """How two sides were balanced: `per_class` items of each of `classes` on either side.

    `too_few`: class → (queries, gallery items), of the classes left out for having fewer on a side.
    """

    per_class: int
    classes: tuple[str, ...]
    too_few: Mapping[str, tuple[int, int]]


def balance(
    queries: Encoded, gallery: Encoded, per_class: int, *, seed: int = 0
) -> tuple[Encoded, Encoded, Balance]:
    """Draw as many items of every class, on both sides, as CheXpert-5x200 holds 200 of each of five.

    An item is of a class when it shows exactly one finding, or is normal and shows none
    (`Labels.classes`); the others are left out. A class enters when both sides have enough of it. On such
    sets an item matches a query exactly when it is of its class, so that `precision_at` is class precision.

    Which items are drawn is decided by a hash of the seed and the study's id: the same on both sides, so
    that of paired studies the pairs stay together, and the same for every encoder.

    Args:
        queries: encoded queries.
        gallery: encoded gallery items.
        per_class: items of each class to draw on either side.
        seed: of the draw.

    Raises:
        EvaluationError: fewer than two classes have enough items on both sides; names them with counts.
    """
    members = [_by_class(side, seed) for side in (queries, gallery)]
    counts = {
        name: (len(members[0][name]), len(members[1][name]))
        for name in CLASSES
        if any(name in side for side in members)
    }
    classes = tuple(name for name, count in counts.items() if min(count) >= per_class)
    too_few = {name: count for name, count in counts.items() if name not in classes}
    if len(classes) < 2:
        told = ", ".join(f"{name} {asked} and {held}" for name, (asked, held) in counts.items())
        raise EvaluationError(
            f"fewer than two classes have {per_class} items on both sides, so there is nothing to tell "
            f"apart (queries and gallery items of one class: {told or 'none'}); take a smaller --per-class"
        )
    drawn = [
        side.take(sorted(place for name in classes for place in held[name][:per_class]))
        for side, held in zip((queries, gallery), members, strict=True)
    ]
    return drawn[0], drawn[1], Balance(per_class, classes, MappingProxyType(too_few))


def _by_class(side: Encoded, seed: int) -> defaultdict[str, list[int]]:
    """Return the places of each class's items, in the order in which they are drawn."""
    members: defaultdict[str, list[int]] = defaultdict(list)
    for place, of_class in enumerate(Labels.of(item.statuses for item in side.items).classes):
        if of_class >= 0:
            members[CLASSES[of_class]].append(place)

    def lot(place: int) -> tuple[str, str]:
        item = side.items[place]
        return hashlib.sha256(f"{seed}:{item.study.study_id}".encode()).hexdigest(), item.item_id

    for places in members.values():
        places.sort(key=lot)
    return members


Readable = tuple[str, str | NDArray[np.float32]]
"""A digest of the content, and the content as an embedder takes it: text, or (size, size) pixels."""


def _read_texts(side: Side) -> Iterator[list[tuple[Item, Readable | Problem]]]:
    for items in _batches(side.items):
        texts = [" ".join(item.content.split()) for item in items]
        digests = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
        yield [(item, (digest, item.content)) for item, digest in zip(items, digests, strict=True)]


def _read_pictures(side: Side, framing: Framing) -> Iterator[list[tuple[Item, Readable | Problem]]]:
    """Decode in threads (decoding releases the GIL), one batch ahead of the encoder."""
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        ahead: deque[tuple[Sequence[Item], list[Future[Readable | Problem]]]] = deque()
        for items in _batches(side.items):
            ahead.append((items, [pool.submit(_read_picture, item, framing) for item in items]))
            if len(ahead) > 1:
                yield _collected(*ahead.popleft())
        while ahead:
            yield _collected(*ahead.popleft())


def _collected(
    items: Sequence[Item], futures: Sequence[Future[Readable | Problem]]
) -> list[tuple[Item, Readable | Problem]]:
    return [(item, future.result()) for item, future in zip(items, futures, strict=True)]


def _read_picture(item: Item, framing: Framing) -> Readable | Problem:
    try:
        image = read_image(item.content)
        digest = hashlib.sha256(repr(image.shape).encode() + np.ascontiguousarray(image).tobytes())
        return digest.hexdigest(), framing.apply(image)
    except NotAdmitted as error:
        return Problem(item.item_id, "skipped", str(error), item.content)
    except (UnreadableImage, OSError) as error:
        return Problem(item.item_id, "failed", str(error), item.content)


def _batches(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), _BATCH):
        yield items[start : start + _BATCH]


def describe_side(side: Side, encoded: Encoded) -> dict[str, Any]:
    """Return the counts of a side for the record.

    `items` are scored; `found` = items + `dropped` (no known finding) + `duplicates` + `not_drawn` (left out
    by `balance`) + pictures that could not be read. `failed`, `skipped` and `missing` count what the source
    and the decoder could not give; `failures` names the failed ones with their reasons.
    """
    problems = (*side.problems, *encoded.problems)
    states = Counter(problem.state for problem in problems)
    return {
        "source": side.source,
        "kind": side.kind,
        "items": len(encoded.items),
        "studies": len({name for item in encoded.items for name in item.study_ids}),
        "subjects": len({owner for item in encoded.items for owner in item.owners}),
        "normal": sum(is_normal(item.statuses) for item in encoded.items),
        "found": side.found,
        "dropped": side.dropped,
        "duplicates": len(side.items) - len(encoded.items) - encoded.not_drawn - len(encoded.problems),
        "not_drawn": encoded.not_drawn,
        "failed": states["failed"],
        "skipped": states["skipped"],
        "missing": states["missing"],
        "failures": [{"item_id": p.item_id, "reason": p.reason} for p in problems if p.state == "failed"],
        "labels": "truth" if side.under_truth else "source",
    }
