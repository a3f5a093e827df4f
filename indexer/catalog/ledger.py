"""The ledger: which points are done in which version, and how a step of indexing is made to last.

A row says that the point's vector is on the disk. `content` (pixels or text, with the encoder) decides
whether to embed again, `attributes` whether to write its payload again. The order is always: vectors
written, store flushed, then one transaction with the catalog's rows and the ledger's. Killed before it, the
next run writes the same points under the same ids; killed after it, nothing is left to do. Points that leave
are entered as tombstones in that transaction and deleted from the store after it, by this run or the next.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import orm

from corpus.records import ItemState, Problem, Study
from corpus.redaction import redacted
from indexer.catalog.catalog import Version, chunks
from indexer.catalog.database import repeated
from indexer.catalog.models import (
    Base,
    EncoderRow,
    FilterFieldRow,
    ItemRow,
    LedgerRow,
    ProblemRow,
    SentenceRow,
    SentenceUseRow,
    StudyRow,
    TombstoneRow,
)
from indexer.catalog.rows import problem_rows, study_row
from indexer.home import Home
from indexer.vectors.filters import FieldType
from indexer.vectors.store import Form, VectorStore

KINDS = ("image", "report", "sentence", "term", "patch")
"""What a point may be done as. A report is one of reports and of terms (the words it affirms), a picture one
of images and, where that was asked for, of patches."""

FORMS: Mapping[str, Form] = {"term": "terms", "patch": "patches"}
"""Of the kinds that are no plain vectors."""

_SIDES = {"image": ("image", "patch"), "report": ("report", "term"), "sentence": ("sentence",)}
_PLURALS = {"patch": "patches"}

Key = tuple[str, UUID]
"""Kind and point: what the ledger has a row for."""


def collection_of(kind: str, fingerprint: str) -> str:
    """The collection of one kind in one version: `images__<first 8 of the fingerprint>`."""
    return f"{_PLURALS.get(kind, f'{kind}s')}__{fingerprint[:8]}"


@dataclass(frozen=True, slots=True)
class Done:
    """What the ledger holds of a point: the hashes under which it was last written."""

    content: str
    attributes: str


@redacted
@dataclass(frozen=True, slots=True)
class KnownItem:
    """What the catalog holds of an item. `done` and `patched` are None where the vector, or those of the
    patches, are not known to be on the disk; `shape` (height, width) where it was not kept."""

    content: str
    stamp: str | None
    done: Done | None
    patched: Done | None = None
    shape: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class KnownStudy:
    """What the catalog holds of a study that is read again."""

    content: str
    items: Mapping[str, KnownItem]


@redacted
@dataclass(frozen=True, slots=True)
class NewItem:
    """A picture or report as it will stand in the catalog. `shape`: (height, width) of a picture as read."""

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
    """A study as it will stand in the catalog: what it had before and has no more is deleted."""

    study: Study
    items: tuple[NewItem, ...]
    sentences: tuple[tuple[UUID, str], ...] = ()


@redacted
@dataclass(frozen=True, slots=True)
class Step:
    """Everything that one transaction commits.

    `gone`: studies that no longer have any item. `done`: kind and point → hashes, of every point written in
    this step. `problems`: (study id or None, subject id or None, problem). `settled`: items that are well,
    whatever was recorded of them before.
    """

    studies: Sequence[NewStudy] = ()
    gone: Sequence[str] = ()
    done: Mapping[Key, Done] = field(default_factory=dict)
    problems: Sequence[tuple[str | None, str | None, Problem]] = ()
    settled: Sequence[str] = ()


class Ledger:
    """Writes catalog and ledger of one version, a step at a time."""

    def __init__(self, engine: sa.Engine, home: Home) -> None:
        """Write through this engine; the caller owns the home's lock."""
        self.engine = engine
        self._home = home

    @repeated
    def register(self, version: Version) -> None:
        """Enter an encoder, or where it now lies."""
        with self.engine.begin() as session:
            known = session.scalar(
                sa.select(EncoderRow.fingerprint).where(EncoderRow.fingerprint == version.fingerprint)
            )
            if known is None:
                session.execute(
                    sa.insert(EncoderRow).values(
                        fingerprint=version.fingerprint,
                        name=version.name,
                        dim=version.dim,
                        folder=version.folder,
                        state=version.state,
                        created=datetime.now(UTC),
                    )
                )
            else:
                session.execute(
                    sa.update(EncoderRow)
                    .where(EncoderRow.fingerprint == version.fingerprint)
                    .values(folder=version.folder)
                )

    @repeated
    def add_fields(self, fields: Mapping[str, FieldType]) -> None:
        """Enter filter fields that are not known yet."""
        with self.engine.begin() as session:
            known = set(session.scalars(sa.select(FilterFieldRow.name)))
            new = [{"name": n, "type": k.value} for n, k in fields.items() if n not in known]
            _put(session, FilterFieldRow, new)

    @repeated
    def known_studies(self, study_ids: Iterable[str], fingerprint: str) -> dict[str, KnownStudy]:
        """What the catalog and this version's ledger hold of these studies."""
        content: dict[str, str] = {}
        items: dict[str, dict[str, KnownItem]] = {}
        made, patched = orm.aliased(LedgerRow), orm.aliased(LedgerRow)
        select = sa.select(
            ItemRow.study_id,
            ItemRow.item_id,
            ItemRow.content,
            ItemRow.stamp,
            ItemRow.height,
            ItemRow.width,
            made.content.label("made"),
            made.attributes.label("made_attributes"),
            patched.content.label("patched"),
            patched.attributes.label("patched_attributes"),
        )
        of_kind: tuple[tuple[type[LedgerRow], Any], ...] = ((made, ItemRow.kind), (patched, "patch"))
        for of, kind in of_kind:
            mine = (of.point_id == ItemRow.point_id) & (of.fingerprint == fingerprint)
            select = select.outerjoin(of, mine & (of.kind == kind))
        with self.engine.connect() as session:
            for chunk in chunks(study_ids):
                rows = session.execute(
                    sa.select(StudyRow.study_id, StudyRow.content).where(StudyRow.study_id.in_(chunk))
                )
                content |= {row.study_id: row.content for row in rows}
                for row in session.execute(select.where(ItemRow.study_id.in_(chunk))):
                    done = None if row.made is None else Done(row.made, row.made_attributes)
                    patches = None if row.patched is None else Done(row.patched, row.patched_attributes)
                    shape = None if row.height is None else (row.height, row.width)
                    known = KnownItem(row.content, row.stamp, done, patches, shape)
                    items.setdefault(row.study_id, {})[row.item_id] = known
        return {study_id: KnownStudy(content[study_id], items.get(study_id, {})) for study_id in content}

    @repeated
    def done(self, points: Iterable[UUID], fingerprint: str) -> dict[Key, Done]:
        """Of these points, those that are done in a version, by what they are done as."""
        found: dict[Key, Done] = {}
        columns = (LedgerRow.kind, LedgerRow.point_id, LedgerRow.content, LedgerRow.attributes)
        with self.engine.connect() as session:
            for chunk in chunks(points):
                select = sa.select(*columns).where(
                    LedgerRow.fingerprint == fingerprint, LedgerRow.point_id.in_(chunk)
                )
                found |= {
                    (kind, p): Done(c, attributes) for kind, p, c, attributes in session.execute(select)
                }
        return found

    @repeated
    def commit(self, step: Step, fingerprint: str, origin: str) -> int:
        """Make a step last, in one transaction. Its vectors are on the disk already.

        Returns:
            How many points left the catalog: the store still has them, see `bury`.
        """
        with self.engine.begin() as session:
            touched = [new.study.study_id for new in step.studies] + list(step.gone)
            old_points, old_sentences = _points_of(session, touched)
            _delete(session, StudyRow.study_id, touched)
            self._insert(session, step, fingerprint)
            kept = {item.point_id for new in step.studies for item in new.items}
            left = {point: kind for point, kind in old_points.items() if point not in kept}
            left |= dict.fromkeys(_unsaid(session, old_sentences), "sentence")
            _leave(session, left)
            _replace_problems(session, step, origin)
        return len(left)

    @repeated
    def forget_problems(self, origin: str, seen: set[str], unread: set[str]) -> list[ItemState]:
        """Delete the problems of a source that its newest reading no longer has.

        Args:
            origin: the source as it was named.
            seen: items that the reading recorded a problem of.
            unread: items whose files it did not read again: what was noted of them holds.

        Returns:
            The states of the problems that hold although they were not seen.
        """
        with self.engine.begin() as session:
            select = sa.select(ProblemRow.item_id, ProblemRow.state).where(ProblemRow.origin == origin)
            before = {row.item_id: row.state for row in session.execute(select)}
            _delete(session, ProblemRow.item_id, [item for item in before if item not in seen | unread])
        return [cast("ItemState", before[item]) for item in before.keys() & (unread - seen)]

    @repeated
    def erase(self, study_ids: Sequence[str], subject_id: str | None) -> int:
        """Delete studies, and every problem of theirs or of the subject; the points become tombstones."""
        with self.engine.begin() as session:
            points, sentences = _points_of(session, study_ids)
            _delete(session, StudyRow.study_id, study_ids)
            points |= dict.fromkeys(_unsaid(session, sentences), "sentence")
            _leave(session, points)
            _delete(session, ProblemRow.study_id, study_ids)
            for study_id in study_ids:
                _delete_problems_under(session, study_id, "#")
            if subject_id is not None:
                session.execute(sa.delete(ProblemRow).where(ProblemRow.subject_id == subject_id))
                # Study ids that are made of the subject's: `<subject>@<day>`, `<subject>_<number>`.
                _delete_problems_under(session, subject_id, "#@_")
        return len(points)

    @repeated
    def bury(self, store: VectorStore) -> int:
        """Delete from the store what has left the catalog; the number of points."""
        with self.engine.connect() as session:
            left: dict[str, list[UUID]] = {}
            for row in session.execute(sa.select(TombstoneRow.collection, TombstoneRow.point_id)):
                left.setdefault(row.collection, []).append(row.point_id)
        present = set(store.collections()) if left else set()
        for collection, points in left.items():
            if collection in present:
                store.delete(collection, points)
                store.flush(collection)
            with self.engine.begin() as session:
                for chunk in chunks(points):
                    session.execute(
                        sa.delete(TombstoneRow).where(
                            TombstoneRow.collection == collection, TombstoneRow.point_id.in_(chunk)
                        )
                    )
        return sum(map(len, left.values()))

    @repeated
    def points(self, fingerprint: str, kind: str) -> dict[UUID, Done]:
        """Every done point of one kind in one version."""
        columns = (LedgerRow.point_id, LedgerRow.content, LedgerRow.attributes)
        select = sa.select(*columns).where(LedgerRow.fingerprint == fingerprint, LedgerRow.kind == kind)
        with self.engine.connect() as session:
            return {p: Done(content, attributes) for p, content, attributes in session.execute(select)}

    @repeated
    def forget(self, points: Iterable[UUID], fingerprint: str, kind: str) -> None:
        """Count points of one kind as not done."""
        with self.engine.begin() as session:
            _forget(session, points, fingerprint, kind)

    def _insert(self, session: sa.Connection, step: Step, fingerprint: str) -> None:
        _put(session, StudyRow, [study_row(new.study, self._home) for new in step.studies])
        _put(
            session,
            ItemRow,
            [_item_row(new.study, n, item) for new in step.studies for n, item in enumerate(new.items)],
        )
        texts = {point: text for new in step.studies for point, text in new.sentences}
        known: set[UUID] = set()
        for chunk in chunks(texts):
            known |= set(
                session.scalars(sa.select(SentenceRow.point_id).where(SentenceRow.point_id.in_(chunk)))
            )
        _put(session, SentenceRow, [{"point_id": p, "text": t} for p, t in texts.items() if p not in known])
        _put(
            session,
            SentenceUseRow,
            [
                {"study_id": new.study.study_id, "position": n, "point_id": point}
                for new in step.studies
                for n, (point, _) in enumerate(new.sentences)
            ],
        )
        for kind in KINDS:
            _forget(session, (point for made, point in step.done if made == kind), fingerprint, kind)
        _put(
            session,
            LedgerRow,
            [
                {
                    "fingerprint": fingerprint,
                    "point_id": point,
                    "kind": kind,
                    "content": done.content,
                    "attributes": done.attributes,
                }
                for (kind, point), done in step.done.items()
            ],
        )


def _forget(session: sa.Connection, points: Iterable[UUID], fingerprint: str, kind: str) -> None:
    of_kind = (LedgerRow.fingerprint == fingerprint) & (LedgerRow.kind == kind)
    for chunk in chunks(points):
        session.execute(sa.delete(LedgerRow).where(of_kind, LedgerRow.point_id.in_(chunk)))


def _put(session: sa.Connection, table: type[Base], rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        session.execute(sa.insert(table), rows)


def _delete(session: sa.Connection, column: Any, values: Sequence[Any]) -> None:
    for chunk in chunks(values):
        session.execute(sa.delete(column.class_).where(column.in_(chunk)))


def _points_of(session: sa.Connection, study_ids: Sequence[str]) -> tuple[dict[UUID, str], set[UUID]]:
    """The points of studies as the catalog has them: of items, with their kind, and of sentences."""
    items: dict[UUID, str] = {}
    sentences: set[UUID] = set()
    for chunk in chunks(study_ids):
        rows = session.execute(sa.select(ItemRow.point_id, ItemRow.kind).where(ItemRow.study_id.in_(chunk)))
        items |= {row.point_id: row.kind for row in rows}
        uses = sa.select(SentenceUseRow.point_id).where(SentenceUseRow.study_id.in_(chunk))
        sentences |= set(session.scalars(uses))
    return items, sentences


def _unsaid(session: sa.Connection, sentences: Iterable[UUID]) -> set[UUID]:
    """Of these sentences, those that no report holds any more; their rows are deleted."""
    unsaid: set[UUID] = set()
    for chunk in chunks(sentences):
        used = sa.select(SentenceUseRow.point_id).where(SentenceUseRow.point_id.in_(chunk))
        unsaid |= set(chunk) - set(session.scalars(used))
    _delete(session, SentenceRow.point_id, list(unsaid))
    return unsaid


def _leave(session: sa.Connection, points: Mapping[UUID, str]) -> None:
    """Take points out of every version's ledger and enter them as to be deleted from the store."""
    versions = session.scalars(sa.select(EncoderRow.fingerprint)).all()
    _delete(session, LedgerRow.point_id, list(points))
    for chunk in chunks(points):
        buried = sa.select(TombstoneRow.point_id).where(TombstoneRow.point_id.in_(chunk))
        already = set(session.scalars(buried))
        rows = [
            {"collection": collection_of(kind, version), "point_id": point}
            for version in versions
            for point in chunk
            for kind in _SIDES[points[point]]
            if point not in already
        ]
        _put(session, TombstoneRow, rows)


def _delete_problems_under(session: sa.Connection, name: str, marks: str) -> None:
    """Delete the problems of items whose id is `name`, or begins with it and one of the marks."""
    start = sa.func.substr(ProblemRow.item_id, 1, len(name) + 1)
    under = start.in_([name + mark for mark in marks])
    session.execute(sa.delete(ProblemRow).where((ProblemRow.item_id == name) | under))


def _replace_problems(session: sa.Connection, step: Step, origin: str) -> None:
    _delete(session, ProblemRow.item_id, step.settled)
    rows = problem_rows(step.problems, origin)
    _delete(session, ProblemRow.item_id, list(rows))
    _put(session, ProblemRow, list(rows.values()))


def _item_row(study: Study, position: int, item: NewItem) -> dict[str, Any]:
    return {
        "item_id": item.item_id,
        "study_id": study.study_id,
        "point_id": item.point_id,
        "kind": item.kind,
        "position": position,
        "location": item.location,
        "view": item.view,
        "modality": item.modality,
        "content": item.content,
        "stamp": item.stamp,
        "height": None if item.shape is None else item.shape[0],
        "width": None if item.shape is None else item.shape[1],
        "instance_key": item.instance_key,
    }
