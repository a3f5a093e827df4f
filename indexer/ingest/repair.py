"""Verifying that catalog, ledger and vectors agree, and repairing what a killed run leaves."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal
from uuid import UUID

import numpy as np

from corpus.redaction import redacted
from indexer.catalog.ledger import Ledger
from indexer.catalog.ledger_records import KINDS, Done, collection_of
from indexer.catalog.rows import chunks
from indexer.index import Index
from indexer.ingest.bm25 import terms_hash
from indexer.ingest.payload import (
    SENTENCE_ATTRIBUTES,
    SENTENCE_PAYLOAD,
    attribute_hash,
    content_hash,
    item_payload,
    patches_hash,
    text_hash,
)
from indexer.vectors.filters import PayloadValue
from indexer.vectors.store import UNIT_TOLERANCE, Point

FaultKind = Literal[
    "vector without ledger row",
    "ledger row without vector",
    "ledger row without item",
    "item without ledger row",
    "vector not finite",
    "vector not of unit length",
    "payload differs",
    "content differs",
    "deletion pending",
]


@redacted
@dataclass(frozen=True, slots=True)
class Fault:
    """One disagreement. `item`: the item's id where the catalog has it, else the point's."""

    fault: FaultKind
    collection: str
    item: str


@dataclass
class Verified:
    """The result of a verification: vectors compared by kind, and the faults found."""

    vectors: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    faults: list[Fault] = field(default_factory=list)

    def as_json(self) -> dict[str, object]:
        """Return the form of `docs/contracts/index-verify.schema.json`."""
        return {
            "sound": not self.faults,
            "vectors": dict(self.vectors),
            "faults": [{"fault": f.fault, "collection": f.collection, "item": f.item} for f in self.faults],
        }


def verify(index: Index) -> Verified:
    """Compare catalog, ledger and vectors both ways, and every vector and payload by itself.

    Raises:
        EmptyIndex: nothing was indexed yet.
    """
    version = index.active_version
    verified = Verified()
    for kind in KINDS:
        _verify_kind(index, version.fingerprint, kind, verified)
    for collection, point in Ledger(index.catalog, index.home).tombstones():
        verified.faults.append(Fault("deletion pending", collection, str(point)))
    verified.faults.sort(key=lambda fault: (fault.fault, fault.collection, fault.item))
    return verified


@dataclass(frozen=True, slots=True)
class Repaired:
    """The result of a repair.

    `lost`: points of the ledger that the store did not have: the next `index add` of their sources embeds
    them again. `deleted`: points that no ledger has, of runs that ended before their commit.
    """

    lost: int = 0
    deleted: int = 0

    def __add__(self, other: "Repaired") -> "Repaired":
        return Repaired(self.lost + other.lost, self.deleted + other.deleted)

    def as_json(self) -> dict[str, int]:
        """Return the form of `docs/contracts/index-repair.schema.json`."""
        return {"lost": self.lost, "deleted": self.deleted}


def repair_versions(index: Index) -> Repaired:
    """Purge and repair every version.

    Args:
        index: open for writing.

    Raises:
        IndexInUse: a run that writes did not end in time.
    """
    repaired = Repaired()
    with index.writing("index repair") as lease:
        ledger = Ledger(index.catalog, index.home, lease.lease_id)
        repaired += Repaired(deleted=ledger.purge(index.store, lease.check))
        for version in index.catalog.versions():
            repaired += repair(index, version.fingerprint, ledger, lease.check)
    return repaired


def repair(
    index: Index, fingerprint: str, ledger: Ledger, check: Callable[[], None], *, alone: bool = True
) -> Repaired:
    """Make ledger and store agree, so that the next run embeds again what is missing.

    Rows of vectors that the store lost (a disk, a folder deleted) are deleted from the ledger; vectors
    without a row (a killed run wrote them and never committed) are deleted from the store.

    Args:
        index: open for writing.
        fingerprint: of the version.
        ledger: writes for this run.
        check: is called before each deletion of vectors, and raises where the run may not write any more: a
            vector without a row may be another run's by then.
        alone: no other run writes now; else vectors without a row may be another's, and stay.
    """
    repaired = Repaired()
    existing = index.store.collections()
    for kind in KINDS:
        collection = collection_of(kind, fingerprint)
        # In this order: a row is committed when its vector is stored.
        recorded = ledger.points(fingerprint, kind).keys()
        stored = set(index.store.ids(collection)) if collection in existing else set()
        lost, orphans = recorded - stored, stored - recorded if alone else set()
        ledger.forget(lost, fingerprint, kind)
        if orphans:
            check()
            index.store.delete(collection, orphans)
            index.store.flush(collection)
        repaired += Repaired(len(lost), len(orphans))
    return repaired


@redacted
@dataclass(frozen=True, slots=True)
class _Expected:
    item: str
    done: Done
    payload: dict[str, PayloadValue]


def _verify_kind(index: Index, fingerprint: str, kind: str, verified: Verified) -> None:
    collection = collection_of(kind, fingerprint)
    ledger = Ledger(index.catalog, index.home).points(fingerprint, kind)
    stored = set(index.store.ids(collection)) if collection in index.store.collections() else set()
    verified.vectors[kind] = len(stored)

    def note(fault: FaultKind, item: str | UUID) -> None:
        verified.faults.append(Fault(fault, collection, str(item)))

    required: set[UUID] = set()
    for point, expected in _expected(index, fingerprint, kind):
        required.add(point)
        if point not in ledger:
            if kind != "patch":  # on request only
                note("item without ledger row", expected.item)
        elif ledger[point].content != expected.done.content:
            note("content differs", expected.item)
        elif ledger[point].attributes != expected.done.attributes:
            note("payload differs", expected.item)
    for point in ledger.keys() - required:
        note("ledger row without item", point)
    for point in ledger.keys() - stored:
        note("ledger row without vector", point)
    for point in stored - ledger.keys():
        note("vector without ledger row", point)
    _verify_points(index, fingerprint, kind, stored & required, note)


def _verify_points(index: Index, fingerprint: str, kind: str, points: set[UUID], note: object) -> None:
    assert callable(note)
    collection = collection_of(kind, fingerprint)
    expected = ((p, e) for p, e in _expected(index, fingerprint, kind) if p in points)
    while batch := dict(islice(expected, 1_000)):
        for point in index.store.fetch(collection, batch):
            for fault in _faults_of(point, batch[point.id].payload):
                note(fault, batch[point.id].item)


def _faults_of(point: Point, payload: dict[str, PayloadValue]) -> Iterator[FaultKind]:
    if point.terms is None:
        lengths = np.linalg.norm(np.atleast_2d(point.vector).astype(np.float64), axis=1)
        if not np.isfinite(lengths).all():
            yield "vector not finite"
        elif np.abs(lengths - 1.0).max() > UNIT_TOLERANCE:
            yield "vector not of unit length"
    if dict(point.payload) != payload:
        yield "payload differs"


def _expected(index: Index, fingerprint: str, kind: str) -> Iterator[tuple[UUID, _Expected]]:
    """Yield each point of a kind that the catalog requires."""
    if kind == "sentence":
        for point, text in index.catalog.sentences():
            content = content_hash(text_hash(text), fingerprint)
            yield point, _Expected(str(point), Done(content, SENTENCE_ATTRIBUTES), dict(SENTENCE_PAYLOAD))
        return
    own_fields = index.catalog.own_fields()
    item_kind = {"term": "report", "patch": "image"}.get(kind, kind)
    for chunk in chunks(index.catalog.study_ids()):
        studies, items = index.catalog.studies(chunk), index.catalog.items_of_studies(chunk)
        for item in (item for of_study in items.values() for item in of_study if item.kind == item_kind):
            study = studies[item.study_id]
            image = next((i for i in study.images if i.item_id == item.item_id), None)
            payload = item_payload(study, image, index.home, own_fields)
            language = None if study.report is None else study.report.language
            done = Done(_content(kind, item.content, fingerprint, language), attribute_hash(study, payload))
            yield item.point, _Expected(item.item_id, done, payload)


def _content(kind: str, content: str, fingerprint: str, language: str | None) -> str:
    """The hash under which a point of a kind is done, by its item's content and its report's language."""
    if kind == "term":
        return terms_hash(content, language)
    return (patches_hash if kind == "patch" else content_hash)(content, fingerprint)
