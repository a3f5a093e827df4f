"""The ledger: which points are done in which version, and the transaction that commits a step of indexing.

A row says that the point's vector is on the disk. `content` (pixels or text, with the encoder) decides
whether to embed again, `attributes` whether to write its payload again. The order is always: vectors
written, store flushed, then one transaction with the catalog's rows and the ledger's. Killed before it, the
next run writes the same points under the same ids; killed after it, nothing is left to do. Points that leave
the catalog are entered as tombstones in that transaction and purged from the store after it, by this run or
the next.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import orm

from corpus.records import ItemState
from indexer.catalog.database import Connected, repeated
from indexer.catalog.identity import lock_catalog
from indexer.catalog.leases import fence
from indexer.catalog.ledger_records import (
    DOUBTFUL,
    KINDS,
    Done,
    ExistingItem,
    ExistingStudy,
    Key,
    Step,
)
from indexer.catalog.models import (
    ClaimRow,
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
from indexer.catalog.rows import (
    chunks,
    delete,
    delete_problems_under,
    delete_unused,
    insert,
    item_row,
    ledger_row,
    points_of,
    problem_rows,
    revive,
    study_row,
    tombstone,
)
from indexer.catalog.state import Version
from indexer.home import Home
from indexer.vectors.filters import FieldType
from indexer.vectors.store import VectorStore


class Ledger:
    """Writes catalog and ledger of one version, a step at a time."""

    def __init__(self, catalog: Connected, home: Home, lease_id: UUID | None = None) -> None:
        """Write to this catalog; the caller owns the home's lock.

        Args:
            catalog: of the index.
            home: with the key that ids are hashed with.
            lease_id: of the run that writes: once another replaced it, it writes nothing more.
        """
        self.engine = catalog.engine
        self._home = home
        self._lease_id = lease_id

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        """Open a transaction that no other writer's overlaps, on whichever machine."""
        with self.engine.begin() as connection:
            lock_catalog(connection)
            if self._lease_id is not None:
                fence(connection, self._lease_id)
            yield connection

    @repeated
    def register(self, version: Version) -> None:
        """Enter a version, or the folder in which its encoder lies now; the first one is the active one."""
        with self._transaction() as session:
            known = session.scalar(
                sa.select(EncoderRow.fingerprint).where(EncoderRow.fingerprint == version.fingerprint)
            )
            if known is None:
                active = sa.select(EncoderRow.fingerprint).where(EncoderRow.state == "active")
                first = session.execute(active).first() is None
                session.execute(
                    sa.insert(EncoderRow).values(
                        fingerprint=version.fingerprint,
                        name=version.name,
                        dim=version.dim,
                        folder=version.folder,
                        state="active" if first else "building",
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
    def activate(self, fingerprint: str) -> None:
        """Make a version the active one, in one transaction; the one that was active is retired."""
        with self._transaction() as session:
            session.execute(sa.update(EncoderRow).where(EncoderRow.state == "active").values(state="retired"))
            chosen = EncoderRow.fingerprint == fingerprint
            session.execute(sa.update(EncoderRow).where(chosen).values(state="active"))

    @repeated
    def drop_version(self, fingerprint: str) -> None:
        """Delete a version and its rows of the ledger; its vectors are the caller's to drop before."""
        with self._transaction() as session:
            session.execute(sa.delete(LedgerRow).where(LedgerRow.fingerprint == fingerprint))
            session.execute(sa.delete(EncoderRow).where(EncoderRow.fingerprint == fingerprint))

    @repeated
    def add_fields(self, fields: Mapping[str, FieldType]) -> None:
        """Enter filter fields that are new."""
        with self._transaction() as session:
            known = set(session.scalars(sa.select(FilterFieldRow.name)))
            new = [{"name": n, "type": k.value} for n, k in fields.items() if n not in known]
            insert(session, FilterFieldRow, new)

    @repeated
    def existing_studies(self, study_ids: Iterable[str], fingerprint: str) -> dict[str, ExistingStudy]:
        """Return what the catalog and this version's ledger store of these studies, by study id."""
        content: dict[str, str] = {}
        items: dict[str, dict[str, ExistingItem]] = {}
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
                    item = ExistingItem(row.content, row.stamp, done, patches, shape)
                    items.setdefault(row.study_id, {})[row.item_id] = item
        return {study_id: ExistingStudy(content[study_id], items.get(study_id, {})) for study_id in content}

    @repeated
    def done(self, points: Iterable[UUID], fingerprint: str) -> dict[Key, Done]:
        """Return the rows of a version's ledger for these points."""
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
    def doubt(self, points: Iterable[Key], fingerprint: str) -> None:
        """Record that done points are about to be overwritten: killed before its commit, a run leaves it open
        which vector and payload they have, and the next run writes them again."""
        with self._transaction() as session:
            for kind, of_kind in _by_kind(points).items():
                mine = (LedgerRow.fingerprint == fingerprint) & (LedgerRow.kind == kind)
                for chunk in chunks(of_kind):
                    doubted = sa.update(LedgerRow).where(mine, LedgerRow.point_id.in_(chunk))
                    session.execute(doubted.values(content=DOUBTFUL, attributes=DOUBTFUL))

    @repeated
    def commit(self, step: Step, fingerprint: str, origin: str) -> int:
        """Commit a step in one transaction. Its vectors are on the disk already.

        Args:
            step: what changes.
            fingerprint: of the version.
            origin: the source as it was named.

        Returns:
            How many points left the catalog: the store still has them, see `purge`.
        """
        with self._transaction() as session:
            if self._is_committed(session, step):
                return 0
            touched = [new.study.study_id for new in step.studies] + list(step.gone)
            old_points, old_sentences = points_of(session, touched)
            delete(session, StudyRow.study_id, touched)
            self._insert(session, step, fingerprint)
            present = {item.point_id for new in step.studies for item in new.items}
            left = {point: kind for point, kind in old_points.items() if point not in present}
            left |= dict.fromkeys(delete_unused(session, old_sentences), "sentence")
            tombstone(session, left)
            revive(session, step, fingerprint)
            _replace_problems(session, step, origin)
            delete(session, ClaimRow.study_id, step.claimed)
        return len(left)

    @repeated
    def forget_problems(self, origin: str, seen: set[str], unread: set[str]) -> list[ItemState]:
        """Delete the problems of a source that its newest run no longer has.

        Args:
            origin: the source as it was named.
            seen: items with a problem in this run.
            unread: items with unchanged files, which this run did not read: their problems stay.

        Returns:
            The states of the problems that stay although they were not seen.
        """
        with self._transaction() as session:
            select = sa.select(ProblemRow.item_id, ProblemRow.state).where(ProblemRow.origin == origin)
            before = {row.item_id: row.state for row in session.execute(select)}
            delete(session, ProblemRow.item_id, [item for item in before if item not in seen | unread])
        return [cast("ItemState", before[item]) for item in before.keys() & (unread - seen)]

    @repeated
    def erase(self, study_ids: Sequence[str], subject_id: str | None) -> int:
        """Delete studies, and every problem of theirs or of the subject; the points become tombstones."""
        with self._transaction() as session:
            points, sentences = points_of(session, study_ids)
            delete(session, StudyRow.study_id, study_ids)
            points |= dict.fromkeys(delete_unused(session, sentences), "sentence")
            tombstone(session, points)
            delete(session, ProblemRow.study_id, study_ids)
            for study_id in study_ids:
                delete_problems_under(session, study_id, "#")
            if subject_id is not None:
                session.execute(sa.delete(ProblemRow).where(ProblemRow.subject_id == subject_id))
                # Study ids that are made of the subject's: `<subject>@<day>`, `<subject>_<number>`.
                delete_problems_under(session, subject_id, "#@_")
        return len(points)

    @repeated
    def tombstones(self) -> list[tuple[str, UUID]]:
        """Return collection and point of everything that still has to leave the vector store."""
        with self.engine.connect() as session:
            rows = session.execute(sa.select(TombstoneRow.collection, TombstoneRow.point_id))
            return [(row.collection, row.point_id) for row in rows]

    def vacuum(self) -> None:
        """Overwrite deleted rows on the disk: SQLite leaves their text in the file until pages are reused."""
        if self.engine.dialect.name == "sqlite":
            with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as session:
                session.execute(sa.text("VACUUM"))
                session.execute(sa.text("PRAGMA wal_checkpoint(TRUNCATE)"))

    def purge(self, store: VectorStore, check: Callable[[], None]) -> int:
        """Delete the points of all tombstones from the store, then the tombstones; return how many.

        Args:
            store: the vectors.
            check: is called before each deletion, and raises where the run may not write any more: what was
                a tombstone may be another run's point by then.
        """
        left: dict[str, list[UUID]] = {}
        for collection, point in self.tombstones():
            left.setdefault(collection, []).append(point)
        present = set(store.collections()) if left else set()
        for collection, points in left.items():
            if collection in present:
                check()
                store.delete(collection, points)
                store.flush(collection)
            self._forget_tombstones(collection, points)
        return sum(map(len, left.values()))

    @repeated
    def _forget_tombstones(self, collection: str, points: Sequence[UUID]) -> None:
        with self._transaction() as session:
            for chunk in chunks(points):
                purged = (TombstoneRow.collection == collection) & TombstoneRow.point_id.in_(chunk)
                session.execute(sa.delete(TombstoneRow).where(purged))

    @repeated
    def points(self, fingerprint: str, kind: str) -> dict[UUID, Done]:
        """Return the hashes of every done point of one kind in one version."""
        columns = (LedgerRow.point_id, LedgerRow.content, LedgerRow.attributes)
        select = sa.select(*columns).where(LedgerRow.fingerprint == fingerprint, LedgerRow.kind == kind)
        with self.engine.connect() as session:
            return {p: Done(content, attributes) for p, content, attributes in session.execute(select)}

    @repeated
    def forget(self, points: Iterable[UUID], fingerprint: str, kind: str) -> None:
        """Delete points of one kind from a version's ledger: the next run writes them again."""
        with self._transaction() as session:
            _forget(session, points, fingerprint, kind)

    def _is_committed(self, session: sa.Connection, step: Step) -> bool:
        """Return whether the step was committed before, and the reply was lost: its claims are gone.

        Another run may have indexed its studies since.
        """
        if self._lease_id is None or not step.claimed:
            return False
        mine: set[str] = set()
        for chunk in chunks(step.claimed):
            rows = sa.select(ClaimRow.study_id).where(ClaimRow.study_id.in_(chunk))
            mine |= set(session.scalars(rows.where(ClaimRow.lease_id == self._lease_id)))
        return not mine

    def _insert(self, session: sa.Connection, step: Step, fingerprint: str) -> None:
        insert(session, StudyRow, [study_row(new.study, self._home) for new in step.studies])
        insert(
            session,
            ItemRow,
            [item_row(new.study, n, item) for new in step.studies for n, item in enumerate(new.items)],
        )
        texts = {point: text for new in step.studies for point, text in new.sentences}
        known: set[UUID] = set()
        for chunk in chunks(texts):
            known |= set(
                session.scalars(sa.select(SentenceRow.point_id).where(SentenceRow.point_id.in_(chunk)))
            )
        insert(session, SentenceRow, [{"point_id": p, "text": t} for p, t in texts.items() if p not in known])
        insert(
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
        insert(
            session,
            LedgerRow,
            [ledger_row(fingerprint, kind, point, done) for (kind, point), done in step.done.items()],
        )


def _by_kind(points: Iterable[Key]) -> dict[str, list[UUID]]:
    found: dict[str, list[UUID]] = {}
    for kind, point in points:
        found.setdefault(kind, []).append(point)
    return found


def _forget(session: sa.Connection, points: Iterable[UUID], fingerprint: str, kind: str) -> None:
    of_kind = (LedgerRow.fingerprint == fingerprint) & (LedgerRow.kind == kind)
    for chunk in chunks(points):
        session.execute(sa.delete(LedgerRow).where(of_kind, LedgerRow.point_id.in_(chunk)))


def _replace_problems(session: sa.Connection, step: Step, origin: str) -> None:
    delete(session, ProblemRow.item_id, step.settled)
    rows = problem_rows(step.problems, origin)
    delete(session, ProblemRow.item_id, list(rows))
    insert(session, ProblemRow, list(rows.values()))
