"""From studies to points: what of a group of studies is new, and the vectors of just that."""

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID

import numpy as np

from corpus.records import ImageRef, Problem, Study
from corpus.reports import says_something, sentences
from indexer.decode import Decoded, DecodePool, Outcome, Undecoded
from indexer.home import Home
from indexer.ledger import Done, KnownItem, KnownStudy, NewItem, NewStudy
from indexer.payload import (
    SENTENCE_ATTRIBUTES,
    SENTENCE_PAYLOAD,
    attribute_hash,
    content_hash,
    item_payload,
    text_hash,
)
from indexer.vectors.conditions import FieldType, PayloadValue
from indexer.vectors.store import Point

if TYPE_CHECKING:
    from trainer.encoder import Encoder


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of a study under way. `outcome` is None where the file is as it was when last read."""

    image: ImageRef
    stamp: str | None
    known: KnownItem | None
    outcome: "Future[Outcome] | None"


@dataclass(frozen=True, slots=True)
class Group:
    """Studies that are written in one step, their pictures being read meanwhile."""

    studies: tuple[tuple[Study, KnownStudy | None, tuple[Picture, ...]], ...]
    problems: tuple[Problem, ...] = ()

    @property
    def pictures(self) -> int:
        """How many pictures are being read for it."""
        return sum(picture.outcome is not None for _, _, pictures in self.studies for picture in pictures)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A vector that should be in the store: what it is made of and what stands beside it."""

    kind: str
    done: Done
    payload: Mapping[str, PayloadValue]
    source: "Decoded | str | None"


@dataclass
class Resolved:
    """A group after its pictures were read: the catalog's rows, and the points that should exist."""

    new: list[tuple[NewStudy, bool]] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    wanted: dict[UUID, Wanted] = field(default_factory=dict)
    problems: list[tuple[str | None, str | None, Problem]] = field(default_factory=list)
    decode_seconds: float = 0.0


def start_reading(
    studies: Sequence[Study], known: Mapping[str, KnownStudy], pool: DecodePool, fingerprint: str
) -> Group:
    """Have the pictures of some studies read, save those whose files are as they were when last indexed."""
    started = []
    for study in studies:
        held = known.get(study.study_id)
        pictures = []
        for image in study.images:
            item = held.items.get(image.item_id) if held else None
            stamp = stamp_of(image.location)
            same = item is not None and stamp is not None and item.stamp == stamp
            done = same and item is not None and item.done is not None
            if done and item is not None and item.done is not None:
                done = item.done.content == content_hash(item.content, fingerprint)
            outcome = None if done else pool.submit(image.location)
            pictures.append(Picture(image, stamp, item, outcome))
        started.append((study, held, tuple(pictures)))
    return Group(tuple(started))


def stamp_of(location: str) -> str | None:
    """Size and times of a file: while they stand, its content does. None where there is no file to ask."""
    if location.startswith("phantom://"):
        return location  # a drawing is decided by its name
    try:
        stat = os.stat(location)  # noqa: PTH116 - follows links, as reading does
    except (OSError, ValueError):
        return None
    return f"{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ctime_ns}"


def resolve(group: Group, home: Home, own_fields: Mapping[str, FieldType], fingerprint: str) -> Resolved:
    """Wait for the pictures of a group and say what should be in catalog and store."""
    resolved = Resolved()
    for study, held, pictures in group.studies:
        items: list[NewItem] = []
        for picture in pictures:
            item = _picture(study, picture, home, own_fields, fingerprint, resolved)
            if item is not None:
                items.append(item)
        said = _report(study, items, home, own_fields, fingerprint, resolved)
        if not items:
            if held is not None:
                resolved.gone.append(study.study_id)
            continue
        before = {k: (v.content, v.stamp) for k, v in held.items.items()} if held else None
        changed = before != {item.item_id: (item.content, item.stamp) for item in items}
        resolved.new.append((NewStudy(study, tuple(items), said), changed))
    return resolved


def _picture(
    study: Study,
    picture: Picture,
    home: Home,
    own_fields: Mapping[str, FieldType],
    fingerprint: str,
    resolved: Resolved,
) -> NewItem | None:
    image = picture.image
    decoded = None
    if picture.outcome is None:
        assert picture.known is not None
        content = picture.known.content
    else:
        outcome = picture.outcome.result()
        if isinstance(outcome, Undecoded):
            problem = Problem(image.item_id, outcome.state, outcome.reason, image.location)
            resolved.problems.append((study.study_id, study.subject_id, problem))
            return None
        decoded, content = outcome, outcome.content
        resolved.decode_seconds += outcome.seconds
    point = home.point_id(image.item_id)
    payload = item_payload(study, image, home, own_fields)
    done = Done(content_hash(content, fingerprint), attribute_hash(study, payload))
    resolved.wanted[point] = Wanted("image", done, payload, decoded)
    return NewItem(
        image.item_id, point, "image", content, image.location, image.view, image.modality, picture.stamp
    )


def _report(
    study: Study,
    items: list[NewItem],
    home: Home,
    own_fields: Mapping[str, FieldType],
    fingerprint: str,
    resolved: Resolved,
) -> tuple[tuple[UUID, str], ...]:
    """Add the report to the items; return its sentences."""
    report = study.report
    if report is None:
        return ()
    text = report.described
    if not says_something(text):
        problem = Problem(report.item_id, "skipped", "the report says nothing of the film")
        resolved.problems.append((study.study_id, study.subject_id, problem))
        return ()
    point = home.point_id(report.item_id)
    payload = item_payload(study, None, home, own_fields)
    content = text_hash(text)
    done = Done(content_hash(content, fingerprint), attribute_hash(study, payload))
    resolved.wanted[point] = Wanted("report", done, payload, text)
    items.append(NewItem(report.item_id, point, "report", content))
    said = tuple((home.sentence_id(sentence), sentence) for sentence in sentences(report))
    for sentence_point, sentence in said:
        sentence_done = Done(content_hash(text_hash(sentence), fingerprint), SENTENCE_ATTRIBUTES)
        resolved.wanted[sentence_point] = Wanted("sentence", sentence_done, SENTENCE_PAYLOAD, sentence)
    return said


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be written: new points by kind, and payloads of points whose vector stands."""

    points: Mapping[str, Sequence[Point]]
    payloads: Mapping[str, Mapping[UUID, Mapping[str, PayloadValue]]]
    done: Mapping[tuple[str, UUID], Done]


def embed(wanted: Mapping[UUID, Wanted], held: Mapping[UUID, Done], encoder: "Encoder") -> Work:
    """Make the vectors that the ledger does not have, and find the payloads that it has otherwise."""
    missing = {p: w for p, w in wanted.items() if p not in held or held[p].content != w.done.content}
    pictures = {p: w.source for p, w in missing.items() if isinstance(w.source, Decoded)}
    texts = {p: w.source for p, w in missing.items() if isinstance(w.source, str)}
    vectors: dict[UUID, np.ndarray[tuple[int], np.dtype[np.float32]]] = {}
    if pictures:
        framed = np.stack([picture.framed for picture in pictures.values()])
        vectors |= zip(pictures, encoder.encode_framed(framed), strict=True)
    if texts:
        vectors |= zip(texts, encoder.encode_texts(list(texts.values())), strict=True)
    points: dict[str, list[Point]] = {}
    for point, vector in vectors.items():
        points.setdefault(wanted[point].kind, []).append(Point(point, vector, wanted[point].payload))
    payloads: dict[str, dict[UUID, Mapping[str, PayloadValue]]] = {}
    for point, want in _changed(wanted, held, missing):
        payloads.setdefault(want.kind, {})[point] = want.payload
    written = {*vectors, *(point for kind in payloads.values() for point in kind)}
    done = {(wanted[point].kind, point): wanted[point].done for point in written}
    return Work(points, payloads, done)


def _changed(
    wanted: Mapping[UUID, Wanted], held: Mapping[UUID, Done], missing: Mapping[UUID, Wanted]
) -> Iterable[tuple[UUID, Wanted]]:
    for point, want in wanted.items():
        if point not in missing and held[point].attributes != want.done.attributes:
            yield point, want
