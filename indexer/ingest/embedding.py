"""Embedding a group of studies: which points are new or changed, and their vectors."""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from corpus.dicom.file import DISPLAY_VERSION, is_dicom
from corpus.files import UnreadableFile, read_bytes
from corpus.images.decoder import Decoded, DecodePool, Outcome, Undecoded
from corpus.language.labeler import affirmed_text
from corpus.language.sections import has_words, sentences
from corpus.records import ImageRef, Problem, Study
from corpus.redaction import redacted
from indexer.catalog.ledger_records import KINDS, Done, ExistingItem, ExistingStudy, Key, NewItem, NewStudy
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
    from trainer.runtime.encoder import Encoder, Patches


@redacted
@dataclass(frozen=True, slots=True)
class PendingImage:
    """An image of a study in progress.

    `stamp`: of its file now. `known`: the catalog's item. `outcome`: of decoding it; None where the file is
    unchanged since it was last read. `patches`: whether its patches are embedded; once they are, they stay up
    to date.
    """

    image: ImageRef
    stamp: str | None
    known: ExistingItem | None
    outcome: "Future[Outcome] | None"
    patches: bool = False


@redacted
@dataclass(frozen=True, slots=True)
class Group:
    """Studies of one step, their images being decoded meanwhile."""

    studies: tuple[tuple[Study, ExistingStudy | None, tuple[PendingImage, ...]], ...]
    problems: tuple[Problem, ...] = ()


@redacted
@dataclass(frozen=True, slots=True)
class Wanted:
    """A point required in the store. `done`: its hashes; `source`: pixels or text, None where unchanged."""

    done: Done
    payload: Mapping[str, PayloadValue]
    source: "Decoded | str | None"


@redacted
@dataclass
class Resolved:
    """A group after decoding: the catalog's rows and the required points.

    `new`: (study, whether its row or items changed). `gone`: studies without any item. `problems`: (study id,
    subject id, problem). `decode_seconds`: time of the decode processes, summed.
    """

    new: list[tuple[NewStudy, bool]] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    """Studies of the catalog, not of the group, that were only the report of one of its studies."""
    wanted: dict[Key, Wanted] = field(default_factory=dict)
    problems: list[tuple[str | None, str | None, Problem]] = field(default_factory=list)
    unread: set[str] = field(default_factory=set)
    """Images with files unchanged since they were last read."""
    decode_seconds: float = 0.0


def start_decoding(
    studies: Sequence[Study],
    known: Mapping[str, ExistingStudy],
    pool: DecodePool,
    fingerprint: str,
    patches: bool = False,
) -> Group:
    """Submit the images of some studies for decoding, except those with files unchanged since the last run.

    Args:
        studies: to be indexed.
        known: the catalog's studies among them, by id.
        pool: decodes.
        fingerprint: of the version.
        patches: embed the patches of these images, too.
    """
    started = []
    for study in studies:
        existing = known.get(study.study_id)
        images = []
        for image in study.images:
            item = existing.items.get(image.item_id) if existing else None
            same = (
                item is not None and item.stamp is not None and is_read_the_same(image.location, item.stamp)
            )
            stamp = item.stamp if same and item is not None else stamp_of(image.location)
            patched = patches or (item is not None and item.patched is not None)
            done = same and item is not None and _is_done(item, fingerprint, patched)
            outcome = None if done else pool.submit(image.location)
            images.append(PendingImage(image, stamp, item, outcome, patched))
        started.append((study, existing, tuple(images)))
    return Group(tuple(started))


def _is_done(item: ExistingItem, fingerprint: str, patched: bool) -> bool:
    """Return whether every required point of an image is done, of the content in the catalog."""
    if item.done is None or item.done.content != content_hash(item.content, fingerprint):
        return False
    made = patches_hash(item.content, fingerprint)
    return not patched or (item.patched is not None and item.patched.content == made)


def stamp_of(location: str) -> str | None:
    """Return the stamp of a file: size, times, and the version of the rules by which DICOM is displayed.

    None where there is no file.
    """
    if location.startswith("phantom://"):
        return location  # a drawing is decided by its name
    try:
        stat = os.stat(location)  # noqa: PTH116 - follows links, as reading does
    except (OSError, ValueError):
        return None
    return f"{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ctime_ns}:{DISPLAY_VERSION}"


def is_same_file(location: str, stamp: str) -> bool:
    """Return whether a file has the stamped size and times: its content is then unchanged."""
    now = stamp_of(location)
    return now is not None and _of_file(now) == _of_file(stamp)


def is_read_the_same(location: str, stamp: str) -> bool:
    """Return whether reading a file gives the pixels that it gave when it was stamped.

    A DICOM file that was read by other rules does not: orientation or window may differ.
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
    """Wait for the images of a group and return the rows and points that catalog and store require."""
    resolved = Resolved()
    for study, existing, images in group.studies:
        items: list[NewItem] = []
        for pending in images:
            item = _image_item(study, pending, home, own_fields, fingerprint, resolved)
            if item is not None:
                items.append(item)
        sentence_points = _report(study, items, home, own_fields, fingerprint, resolved)
        if not items:
            if existing is not None:
                resolved.gone.append(study.study_id)
            continue
        before = {k: (v.content, v.stamp) for k, v in existing.items.items()} if existing else None
        changed = before != {item.item_id: (item.content, item.stamp) for item in items}
        resolved.new.append((NewStudy(study, tuple(items), sentence_points), changed))
    return resolved


def _image_item(
    study: Study,
    pending: PendingImage,
    home: Home,
    own_fields: Mapping[str, FieldType],
    fingerprint: str,
    resolved: Resolved,
) -> NewItem | None:
    image = pending.image
    decoded = None
    if pending.outcome is None:
        assert pending.known is not None
        content, shape = pending.known.content, pending.known.shape
        resolved.unread.add(image.item_id)
    else:
        outcome = pending.outcome.result()
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
    if pending.patches:
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
        stamp=pending.stamp,
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
    """Add the report to the items; return (point, text) of its sentences."""
    report = study.report
    if report is None:
        return ()
    text = report.described
    if not has_words(text):
        problem = Problem(report.item_id, "skipped", "the report describes nothing of the image")
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
    sentence_points = tuple((home.sentence_id(sentence), sentence) for sentence in sentences(report))
    for sentence_point, sentence in sentence_points:
        sentence_done = Done(content_hash(text_hash(sentence), fingerprint), SENTENCE_ATTRIBUTES)
        resolved.wanted["sentence", sentence_point] = Wanted(sentence_done, SENTENCE_PAYLOAD, sentence)
    return sentence_points


@redacted
@dataclass(frozen=True, slots=True)
class Work:
    """New points, and payloads of points with an unchanged vector, by kind; and the hashes of both."""

    points: Mapping[str, Sequence[Point]]
    payloads: Mapping[str, Mapping[UUID, Mapping[str, PayloadValue]]]
    done: Mapping[Key, Done]


def embed(wanted: Mapping[Key, Wanted], recorded: Mapping[Key, Done], encoder: "Encoder") -> Work:
    """Embed the points that the ledger lacks, and find the payloads that differ from it."""
    missing = {k: w for k, w in wanted.items() if k not in recorded or recorded[k].content != w.done.content}
    points: dict[str, list[Point]] = {}
    for (kind, point), vector in _made(missing, encoder):
        payload = wanted[kind, point].payload
        if isinstance(vector, Terms):
            points.setdefault(kind, []).append(Point(point, NO_VECTOR, payload, vector))
        else:
            points.setdefault(kind, []).append(Point(point, vector, payload))
    payloads: dict[str, dict[UUID, Mapping[str, PayloadValue]]] = {}
    for (kind, point), want in wanted.items():
        key = (kind, point)
        if key not in missing and recorded[key].attributes != want.done.attributes:
            payloads.setdefault(kind, {})[point] = want.payload
    written = {(kind, point.id) for kind, of in points.items() for point in of}
    written |= {(kind, point) for kind, of_kind in payloads.items() for point in of_kind}
    return Work(points, payloads, {key: wanted[key].done for key in wanted if key in written})


def _made(
    missing: Mapping[Key, Wanted], encoder: "Encoder"
) -> Iterator[tuple[Key, NDArray[np.float32] | Terms]]:
    """Yield the vector of each point, or its weights of affirmed words. What was not read has none."""
    yield from _made_of_images(missing, encoder)
    for kind in KINDS:
        texts = {
            key: want.source
            for key, want in missing.items()
            if key[0] == kind and isinstance(want.source, str)
        }
        if kind == "term":
            yield from zip(texts, map(document_terms, texts.values()), strict=True)
        elif texts:
            yield from zip(texts, encoder.encode_texts(list(texts.values())), strict=True)


def _made_of_images(
    missing: Mapping[Key, Wanted], encoder: "Encoder"
) -> Iterator[tuple[Key, NDArray[np.float32]]]:
    """Yield vectors and patches of images; one that lacks both goes through the network once."""
    whole, patched = (
        {
            p: want.source
            for (of, p), want in missing.items()
            if of == kind and isinstance(want.source, Decoded)
        }
        for kind in ("image", "patch")
    )
    both = {point: image for point, image in whole.items() if point in patched}
    if both:
        vectors, patches = encoder.encode_images_and_patches([image.framed for image in both.values()])
        yield from zip((("image", point) for point in both), vectors, strict=True)
        yield from zip((("patch", point) for point in both), _inside(patches, both, encoder), strict=True)
    if alone := {point: image for point, image in whole.items() if point not in both}:
        vectors = encoder.encode_framed(np.stack([image.framed for image in alone.values()]))
        yield from zip((("image", point) for point in alone), vectors, strict=True)
    if later := {point: image for point, image in patched.items() if point not in both}:
        patches = encoder.encode_patches([image.framed for image in later.values()])
        yield from zip((("patch", point) for point in later), _inside(patches, later, encoder), strict=True)


def _inside(
    patches: "Patches", images: Mapping[UUID, Decoded], encoder: "Encoder"
) -> Iterator[NDArray[np.float32]]:
    """Yield (n, dim) vectors of each image's patches, row by row of the grid, without its padding."""
    placements = [encoder.framing.placement(*image.shape) for image in images.values()]
    placed = replace(patches, content_boxes=placements)
    for number, grid in enumerate(patches.vectors):
        yield grid[placed.inside(number)]
