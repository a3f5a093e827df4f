"""From studies to points: what of a group of studies is new, and the vectors of just that."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from corpus.dicom.file import DISPLAY_VERSION, is_dicom
from corpus.files import UnreadableFile, read_bytes
from corpus.images.decode_pool import DecodePool
from corpus.images.decoder import Decoded, Outcome, Undecoded
from corpus.language.affirmed import affirmed_text
from corpus.language.sections import says_something, sentences
from corpus.records import ImageRef, Problem, Study
from corpus.redaction import redacted
from indexer.catalog.ledger import KINDS, Done, Key, KnownItem, KnownStudy, NewItem, NewStudy
from indexer.home import Home
from indexer.ingest.bm25 import document_terms, terms_hash
from indexer.ingest.payload import (
    SENTENCE_ATTRIBUTES,
    SENTENCE_PAYLOAD,
    attribute_hash,
    content_hash,
    item_payload,
    patches_hash,
    text_hash,
)
from indexer.vectors.filters import FieldType, PayloadValue
from indexer.vectors.store import NO_VECTOR, Point, Terms

if TYPE_CHECKING:
    from trainer.runtime.encoder import Encoder


@redacted
@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of a study under way. `outcome` is None where the file is as it was when last read.

    `patches`: whether its patches are to be there; once they are, they are kept up to date.
    """

    image: ImageRef
    stamp: str | None
    known: KnownItem | None
    outcome: "Future[Outcome] | None"
    patches: bool = False


@redacted
@dataclass(frozen=True, slots=True)
class Group:
    """Studies that are written in one step, their pictures being read meanwhile."""

    studies: tuple[tuple[Study, KnownStudy | None, tuple[Picture, ...]], ...]
    problems: tuple[Problem, ...] = ()

    @property
    def pictures(self) -> int:
        """How many pictures are being read for it."""
        return sum(picture.outcome is not None for _, _, pictures in self.studies for picture in pictures)


@redacted
@dataclass(frozen=True, slots=True)
class Wanted:
    """A point that should be in the store: what it is made of and what stands beside it."""

    done: Done
    payload: Mapping[str, PayloadValue]
    source: "Decoded | str | None"


@redacted
@dataclass
class Resolved:
    """A group after its pictures were read: the catalog's rows, and the points that should exist."""

    new: list[tuple[NewStudy, bool]] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    """Studies of the catalog, not of the group, that were nothing but the report of one of its studies."""
    wanted: dict[Key, Wanted] = field(default_factory=dict)
    problems: list[tuple[str | None, str | None, Problem]] = field(default_factory=list)
    unread: set[str] = field(default_factory=set)
    """Pictures whose files are as they were when they were last read."""
    decode_seconds: float = 0.0


def start_reading(
    studies: Sequence[Study],
    known: Mapping[str, KnownStudy],
    pool: DecodePool,
    fingerprint: str,
    patches: bool = False,
) -> Group:
    """Have the pictures of some studies read, save those whose files are as they were when last indexed.

    `patches`: theirs are wanted, too.
    """
    started = []
    for study in studies:
        held = known.get(study.study_id)
        pictures = []
        for image in study.images:
            item = held.items.get(image.item_id) if held else None
            same = item is not None and item.stamp is not None and is_read_alike(image.location, item.stamp)
            stamp = item.stamp if same and item is not None else stamp_of(image.location)
            patched = patches or (item is not None and item.patched is not None)
            done = same and item is not None and _is_done(item, fingerprint, patched)
            outcome = None if done else pool.submit(image.location)
            pictures.append(Picture(image, stamp, item, outcome, patched))
        started.append((study, held, tuple(pictures)))
    return Group(tuple(started))


def _is_done(item: KnownItem, fingerprint: str, patched: bool) -> bool:
    """Whether all that is wanted of a picture is in the store, made of what the catalog has of it."""
    if item.done is None or item.done.content != content_hash(item.content, fingerprint):
        return False
    made = patches_hash(item.content, fingerprint)
    return not patched or (item.patched is not None and item.patched.content == made)


def stamp_of(location: str) -> str | None:
    """What a file is when it is read: size, times, and the version of the rules by which DICOM is shown.

    None where there is no file to ask.
    """
    if location.startswith("phantom://"):
        return location  # a drawing is decided by its name
    try:
        stat = os.stat(location)  # noqa: PTH116 - follows links, as reading does
    except (OSError, ValueError):
        return None
    return f"{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ctime_ns}:{DISPLAY_VERSION}"


def is_same_file(location: str, stamp: str) -> bool:
    """Whether a file is as it was when it was stamped: while size and times stand, its content does."""
    now = stamp_of(location)
    return now is not None and _of_file(now) == _of_file(stamp)


def is_read_alike(location: str, stamp: str) -> bool:
    """Whether reading a file would give the pixels that it gave when it was stamped.

    A DICOM file that was read by other rules would not: it may hang otherwise, or show another window.
    """
    if not is_same_file(location, stamp):
        return False
    if location.startswith("phantom://") or stamp.split(":")[_FILE_PARTS:] == [DISPLAY_VERSION]:
        return True
    try:
        return not is_dicom(read_bytes(Path(location), head=_DICOM_HEAD))
    except UnreadableFile:
        return False


def _of_file(stamp: str) -> list[str]:
    return [stamp] if stamp.startswith("phantom://") else stamp.split(":")[:_FILE_PARTS]


_FILE_PARTS = 3  # of a stamp: size and the two times; a stamp of an earlier version has no more
_DICOM_HEAD = 132  # bytes that tell whether a file is DICOM


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
        content, shape = picture.known.content, picture.known.shape
        resolved.unread.add(image.item_id)
    else:
        outcome = picture.outcome.result()
        if isinstance(outcome, Undecoded):
            problem = Problem(image.item_id, outcome.state, outcome.reason, image.location)
            resolved.problems.append((study.study_id, study.subject_id, problem))
            return None
        decoded, content, shape = outcome, outcome.content, outcome.shape
        resolved.decode_seconds += outcome.seconds
        if outcome.notes:
            problem = Problem(image.item_id, "noted", "; ".join(outcome.notes), image.location)
            resolved.problems.append((study.study_id, study.subject_id, problem))
    point = home.point_id(image.item_id)
    payload = item_payload(study, image, home, own_fields)
    beside = attribute_hash(study, payload)
    done = Done(content_hash(content, fingerprint), beside)
    resolved.wanted["image", point] = Wanted(done, payload, decoded)
    if picture.patches:
        done = Done(patches_hash(content, fingerprint), beside)
        resolved.wanted["patch", point] = Wanted(done, payload, decoded)
    return NewItem(
        item_id=image.item_id,
        point_id=point,
        kind="image",
        content=content,
        location=image.location,
        view=image.view,
        modality=image.modality,
        stamp=picture.stamp,
        shape=shape,
        instance_key=image.instance_key,
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
    beside = attribute_hash(study, payload)
    resolved.wanted["report", point] = Wanted(Done(content_hash(content, fingerprint), beside), payload, text)
    affirmed = Done(terms_hash(content, report.language), beside)
    resolved.wanted["term", point] = Wanted(affirmed, payload, affirmed_text(report))
    items.append(NewItem(report.item_id, point, "report", content))
    said = tuple((home.sentence_id(sentence), sentence) for sentence in sentences(report))
    for sentence_point, sentence in said:
        sentence_done = Done(content_hash(text_hash(sentence), fingerprint), SENTENCE_ATTRIBUTES)
        resolved.wanted["sentence", sentence_point] = Wanted(sentence_done, SENTENCE_PAYLOAD, sentence)
    return said


@redacted
@dataclass(frozen=True, slots=True)
class Work:
    """What is to be written: new points by kind, and payloads of points whose vector stands."""

    points: Mapping[str, Sequence[Point]]
    payloads: Mapping[str, Mapping[UUID, Mapping[str, PayloadValue]]]
    done: Mapping[Key, Done]


def embed(wanted: Mapping[Key, Wanted], held: Mapping[Key, Done], encoder: "Encoder") -> Work:
    """Make the vectors that the ledger does not have, and find the payloads that it has otherwise."""
    missing = {k: w for k, w in wanted.items() if k not in held or held[k].content != w.done.content}
    points: dict[str, list[Point]] = {}
    for kind in KINDS:
        sources = {
            point: want.source
            for (of, point), want in missing.items()
            if of == kind and want.source is not None
        }
        if not sources:
            continue
        for point, vector in zip(sources, _made(kind, list(sources.values()), encoder), strict=True):
            payload = wanted[kind, point].payload
            if isinstance(vector, Terms):
                points.setdefault(kind, []).append(Point(point, NO_VECTOR, payload, vector))
            else:
                points.setdefault(kind, []).append(Point(point, vector, payload))
    payloads: dict[str, dict[UUID, Mapping[str, PayloadValue]]] = {}
    for (kind, point), want in wanted.items():
        key = (kind, point)
        if key not in missing and held[key].attributes != want.done.attributes:
            payloads.setdefault(kind, {})[point] = want.payload
    written = {(kind, point.id) for kind, of in points.items() for point in of}
    written |= {(kind, point) for kind, of_kind in payloads.items() for point in of_kind}
    return Work(points, payloads, {key: wanted[key].done for key in wanted if key in written})


def _made(
    kind: str, sources: Sequence[Decoded | str], encoder: "Encoder"
) -> Iterable[NDArray[np.float32] | Terms]:
    """What a kind holds of each source: of pictures and texts their vectors, of affirmed words their
    weights."""
    pictures = [source for source in sources if isinstance(source, Decoded)]
    texts = [source for source in sources if isinstance(source, str)]
    if kind == "image":
        return encoder.encode_framed(np.stack([picture.framed for picture in pictures]))
    if kind == "patch":
        return _patches(pictures, encoder)
    if kind == "term":
        return map(document_terms, texts)
    return encoder.encode_texts(texts)


def _patches(pictures: Sequence[Decoded], encoder: "Encoder") -> Iterator[NDArray[np.float32]]:
    """The vectors of each picture's patches, row by row of the grid, those of its padding left out."""
    encoded = encoder.encode_patches([picture.framed for picture in pictures])
    places = [encoder.framing.place(*picture.shape) for picture in pictures]
    placed = replace(encoded, places=places)
    for number, grid in enumerate(encoded.vectors):
        yield grid[placed.inside(number)]
