"""Query and gallery sets: the items of one kind of a source, and their vectors.

No model is imported: anything with the methods of `Embedder` encodes.
"""

import hashlib
import logging
import os
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
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
from corpus.language.labeler import label_study
from corpus.progress import OnProgress, silent
from corpus.records import Problem, Source, Study
from corpus.redaction import redacted
from corpus.splits import Split, split_of
from corpus.truth import Truth
from trainer.evaluation.labels import CLASSES, Labels

log = logging.getLogger(__name__)

Kind = Literal["image", "report"]
KindChoice = Literal["auto", "image", "report"]
SplitChoice = Split | Literal["all"]

_BATCH = 64  # images in memory at a time


class Embedder(Protocol):
    """The part of an encoder that an evaluation needs; raw features of any network can offer it."""

    @property
    def framing(self) -> Framing:
        """The letterbox of the network."""
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
    """One image or report.

    `content`: the image's location or the report's text.
    `statuses`: of its findings, for scoring.
    `owners`, `study_ids`: the (source, subject) pairs and the studies of all items with identical content.
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
class EvaluationSet:
    """The queries or the gallery before encoding.

    `source`, `kind`: of the items.
    `items`: those with a known finding, and normal ones.
    `found`: number of items of this kind in the split.
    `dropped`: number of items that match nothing: without a known finding and not normal.
    `problems`: items that the source could not provide.
    `under_truth`: whether the statuses are those of the ground truth.
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
    """The readable items of a set, identical ones merged, and their vectors (n, dim) float32.

    `problems`: unreadable items. `not_drawn`: number of items that `balance` excluded.
    """

    items: tuple[Item, ...]
    vectors: NDArray[np.float32]
    problems: tuple[Problem, ...] = ()
    not_drawn: int = 0

    def take(self, index: Sequence[int]) -> "Encoded":
        """The chosen items; the others count as not drawn."""
        items = tuple(self.items[position] for position in index)
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
) -> EvaluationSet:
    """Collect the items of one kind from a source, with their statuses.

    Args:
        source: provides the studies.
        kind: of the items; `auto` takes what the source has, and `prefer` where it has both.
        prefer: see `kind`.
        split: of the subjects; `all` takes everyone.
        truth: ground truth; if it names any study of the source, its statuses replace the source's, and a
            study without a row has no known finding.

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
        statuses = (
            truth.of(study.study_id) if truth is not None and under_truth else label_study(study).findings
        )
        contents = _contents(study, kind)
        found += len(contents)
        if not (present_leaves(statuses) or is_normal(statuses)):
            continue
        owner, named = frozenset([(study.source, study.subject_id)]), frozenset([study.study_id])
        items += [Item(name, kind, study, content, statuses, owner, named) for name, content in contents]
    return EvaluationSet(
        source.name, kind, tuple(items), found, found - len(items), tuple(problems), under_truth
    )


def _choose_kind(name: str, studies: Sequence[Study], kind: KindChoice, prefer: Kind) -> Kind:
    kinds: tuple[Kind, ...] = ("image", "report")
    available = [k for k in kinds if any(_contents(study, k) for study in studies)]
    if not available:
        raise UsageError(f"{name} holds no image and no report: there is nothing to evaluate")
    if kind == "auto":
        return prefer if prefer in available else available[0]
    if kind not in available:
        raise UsageError(f"{name} holds no {kind}s; it holds {available[0]}s")
    return kind


def _contents(study: Study, kind: Kind) -> list[tuple[str, str]]:
    """The (item id, content) of a study's items of a kind; an empty report is none."""
    if kind == "image":
        return [(image.item_id, image.location) for image in study.images]
    if study.report is None or not study.report.described.strip():
        return []
    return [(study.report.item_id, study.report.described)]


def encode(side: EvaluationSet, embedder: Embedder, on_progress: OnProgress = silent) -> Encoded:
    """Encode a set; items with identical text or pixels become one.

    The first of identical items stands for all, with its own statuses and the subjects and studies of all. An
    unreadable image is recorded as a problem and skipped.

    Raises:
        EncoderError: the encoder refuses an item.
    """
    distinct: dict[str, Item] = {}
    rows: list[NDArray[np.float32]] = []
    problems: list[Problem] = []
    done = 0
    batches = _read_texts(side) if side.kind == "report" else _read_images(side, embedder.framing)
    for batch in batches:
        fresh: list[str | NDArray[np.float32]] = []
        for item, content in batch:
            if isinstance(content, Problem):
                problems.append(content)
                continue
            digest, readable = content
            if digest in distinct:
                first = distinct[digest]
                owners, named = first.owners | item.owners, first.study_ids | item.study_ids
                distinct[digest] = replace(first, owners=owners, study_ids=named)
            else:
                distinct[digest] = item
                fresh.append(readable)
        texts = [content for content in fresh if isinstance(content, str)]
        images = [content for content in fresh if not isinstance(content, str)]
        if texts:
            rows.append(embedder.encode_texts(texts))
        if images:
            rows.append(embedder.encode_framed(np.stack(images)))
        done += len(batch)
        on_progress(f"encoding {side.kind}s", done, len(side.items))
    for problem in problems:
        log.warning("%s: %s", problem.item_id, problem.reason)
    vectors = np.concatenate(rows) if rows else np.zeros((0, 0), np.float32)
    return Encoded(tuple(distinct.values()), vectors, tuple(problems))


@dataclass(frozen=True, slots=True)
class Balance:
    """The result of balancing: `per_class` items of each of `classes` on both sides.

    `too_few`: excluded class → (queries, gallery items), at least one of them below `per_class`.
    """

    per_class: int
    classes: tuple[str, ...]
    too_few: Mapping[str, tuple[int, int]]


def balance(
    queries: Encoded, gallery: Encoded, per_class: int, *, seed: int = 0
) -> tuple[Encoded, Encoded, Balance]:
    """Draw equally many items of every class on both sides, as CheXpert-5x200 has 200 of each of five.

    An item is of a class when it has exactly one finding, or is normal and has none (`Labels.classes`); other
    items are excluded. A class is included when both sides have enough items. On such sets an item matches a
    query exactly when it is of its class, so that `precision_at` is class precision.

    A hash of the seed and the study id decides the draw: it is the same on both sides, so that pairs stay
    together, and the same for every encoder.

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
        summary = ", ".join(f"{name} {count[0]} and {count[1]}" for name, count in counts.items())
        raise EvaluationError(
            f"fewer than two classes have {per_class} items on both sides, so there is nothing to tell "
            f"apart (queries and gallery items of one class: {summary or 'none'}); take a smaller --per-class"
        )
    drawn = [
        side.take(sorted(position for name in classes for position in by_class[name][:per_class]))
        for side, by_class in zip((queries, gallery), members, strict=True)
    ]
    return drawn[0], drawn[1], Balance(per_class, classes, MappingProxyType(too_few))


def _by_class(side: Encoded, seed: int) -> defaultdict[str, list[int]]:
    """The positions of each class's items, in the order of the draw."""
    members: defaultdict[str, list[int]] = defaultdict(list)
    for position, of_class in enumerate(Labels.of(item.statuses for item in side.items).classes):
        if of_class >= 0:
            members[CLASSES[of_class]].append(position)

    def lot(position: int) -> tuple[str, str]:
        item = side.items[position]
        return hashlib.sha256(f"{seed}:{item.study.study_id}".encode()).hexdigest(), item.item_id

    for positions in members.values():
        positions.sort(key=lot)
    return members


Readable = tuple[str, str | NDArray[np.float32]]
"""A digest of the content, and the content as an embedder takes it: text, or (size, size) pixels."""


def _read_texts(side: EvaluationSet) -> Iterator[list[tuple[Item, Readable | Problem]]]:
    for items in _batches(side.items):
        texts = [" ".join(item.content.split()) for item in items]
        digests = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
        yield [(item, (digest, item.content)) for item, digest in zip(items, digests, strict=True)]


def _read_images(side: EvaluationSet, framing: Framing) -> Iterator[list[tuple[Item, Readable | Problem]]]:
    """Decode in threads (decoding releases the GIL), one batch ahead of the encoder."""
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        ahead: deque[tuple[Sequence[Item], list[Future[Readable | Problem]]]] = deque()
        for items in _batches(side.items):
            ahead.append((items, [pool.submit(_read_image, item, framing) for item in items]))
            if len(ahead) > 1:
                yield _results(*ahead.popleft())
        while ahead:
            yield _results(*ahead.popleft())


def _results(
    items: Sequence[Item], futures: Sequence[Future[Readable | Problem]]
) -> list[tuple[Item, Readable | Problem]]:
    return [(item, future.result()) for item, future in zip(items, futures, strict=True)]


def _read_image(item: Item, framing: Framing) -> Readable | Problem:
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


def describe_set(side: EvaluationSet, encoded: Encoded) -> dict[str, Any]:
    """The counts of a set for the record.

    `items` are scored; `found` = items + `dropped` (no known finding) + `duplicates` + `not_drawn` (excluded
    by `balance`) + unreadable images. `failed`, `skipped` and `missing` count items that the source or the
    decoder could not provide; `failures` lists the failed ones with their reasons.
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
