"""`index add`: source → decode processes → encoder → writer, joined by bounded queues, each stage timed.

A step is a group of studies that is embedded together, while the images of the next are being decoded.
Several steps are committed together, always in the ledger's order: vectors, flush, one transaction.
"""

import os
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from corpus.images.decoder import HANG_SECONDS, DecodePool
from corpus.language.deidentify import deidentify_study
from corpus.language.labeler import label_study
from corpus.records import Problem, Source, Study, study_of
from corpus.settings import settings
from indexer.catalog.ledger import Ledger
from indexer.catalog.ledger_records import FORMS, KINDS, Step, collection_of
from indexer.catalog.state import Version
from indexer.home import home_error
from indexer.index import Index
from indexer.ingest.added import Added, Observer, Stopped
from indexer.ingest.duplicates import check_instances, replace_single_reports
from indexer.ingest.embedding import Group, Resolved, Work, embed, resolve, start_decoding
from indexer.ingest.payload import fields_of, study_hash
from indexer.ingest.pending import Pending
from indexer.ingest.readahead import read_ahead
from indexer.ingest.repair import repair
from indexer.ingest.subject_identity import Identities
from indexer.vectors.filters import FieldType
from indexer.versions import CatalogSource
from indexer.write_lease import WriteLease

if TYPE_CHECKING:
    from trainer.runtime.encoder import Encoder

STEP_IMAGES = 64
STEP_STUDIES = 128
STEPS_AHEAD = 3


def add_source(
    index: Index,
    source: Source,
    encoder: "Encoder",
    *,
    origin: str,
    folder: str,
    patches: bool = False,
    workers: int | None = None,
    observer: Observer | None = None,
    hang_seconds: float = HANG_SECONDS,
) -> Added:
    """Update the index from a source: embed what is new, update what changed, delete what is gone.

    Args:
        index: open for writing.
        source: read from its beginning; what a study of it no longer has is deleted, studies that it no
            longer lists stay.
        encoder: of the version to update. An unknown one makes a new version, beside the active one until
            `versions.activate`; in an empty index it is the active one.
        origin: the source as it was named, stored with its problems.
        folder: of the encoder, so that a search finds it.
        patches: embed the patches of this source's images, too, so that a region can be searched for; images
            that have them keep them up to date in any case.
        workers: decode processes; 0 decodes in this process, by default one a core.
        observer: called at every moment of every step.
        hang_seconds: time limit of decoding one image.

    Raises:
        HomeError: the disk is full or read-only.
        ServerUnavailable: a server went away, and did not come back in time; what was committed is safe.
        IndexInUse: another run writes that admits none beside it, and did not end in time.
        LeaseLost: this run was silent for too long, and another replaced it.
        WorkerNotStarted: decode processes cannot be started here.
        Stopped: by the observer.
    """
    with index.writing("index add", exclusive=False) as lease:
        job = _Job(index, encoder, origin, patches, observer or (lambda _stage, _added: None), lease)
        try:
            job.prepare(folder)
            processes = (os.cpu_count() or 1) if workers is None else workers
            with DecodePool(encoder.framing, processes, hang_seconds) as pool:
                try:
                    job.run(source, pool)
                except (KeyboardInterrupt, Stopped):
                    job.checkpoint()  # a run that is stopped in order loses nothing
                    raise
            job.finish()
        except OSError as error:
            raise home_error(index.home.folder, error) from error
        return job.added


class _Job:
    """One run of `add_source`."""

    def __init__(
        self,
        index: Index,
        encoder: "Encoder",
        origin: str,
        patches: bool,
        observer: Observer,
        lease: WriteLease,
    ) -> None:
        self.index, self.encoder, self.origin, self.observer = index, encoder, origin, observer
        self.patches, self.lease = patches, lease
        self.fingerprint = encoder.fingerprint
        self.ledger = Ledger(index.catalog, index.home, lease.lease_id)
        self.own_fields: dict[str, FieldType] = index.catalog.own_fields()
        self.added = Added()
        self.waiting: deque[Problem] = deque()  # handed over by the reading thread
        self.seen: set[str] = set()
        self.unread: set[str] = set()
        self.groups: deque[Group] = deque()  # being decoded
        self.pending = Pending()
        self.identities = Identities(index.catalog, index.home)
        self.began_alone = False

    def prepare(self, folder: str) -> None:
        """Register the version, create its collections, and repair what a killed run left."""
        self.index.home.require_space()
        self.ledger.register(
            Version(self.fingerprint, self.encoder.name, self.encoder.dim, folder, "building")
        )
        self._create_collections()
        self._clean()

    def _clean(self) -> None:
        """Purge and repair what ended runs left; beside other runs, only what cannot be theirs."""
        with self.lease.alone() as alone:
            if alone:
                self.ledger.purge(self.index.store, self.lease.check)
            repair(self.index, self.fingerprint, self.ledger, self.lease.check, alone=alone)
        self.began_alone = alone

    def run(self, source: Source, pool: DecodePool) -> None:
        """Read, embed and write the whole source."""
        groups = self.groups
        for studies in self._timed("read", self._batches(source)):
            self._claim([study.study_id for study in studies])
            with self._clock("catalog"):
                if source.name != CatalogSource.name:  # these have their subjects
                    claimed = {study.study_id for study in studies}
                    studies, doubts = self.identities.settle(studies)
                    self.waiting.extend(doubts)
                    # What is left out is in no group: another run need not wait for it.
                    self.pending.claimed |= claimed - {study.study_id for study in studies}
                known = self.ledger.existing_studies([s.study_id for s in studies], self.fingerprint)
                groups.append(start_decoding(studies, known, pool, self.fingerprint, self.patches))
            self.observer("read", self.added)
            if len(groups) > STEPS_AHEAD:
                self._next_step()
        while groups:
            self._next_step()
        self.pending.problems += self._take_problems()
        self._commit()

    def _claim(self, study_ids: list[str]) -> None:
        """Let no other run index these studies until they are committed."""
        if self.lease.claim(study_ids):
            return
        # What this run has claimed is committed first: two runs never wait for each other.
        while self.groups:
            self._next_step()
        self._commit()
        with self._clock("wait for another run"):
            self.lease.wait_for(study_ids)

    def checkpoint(self) -> None:
        """Commit what is in the store, so that a stopped run leaves nothing half done."""
        self.observer = lambda _stage, _added: None
        self._commit()

    def finish(self) -> None:
        """Delete problems that no longer occur, build the search graph if due, and clean up as the last."""
        # Problems noted on reading a file stay while the file is unchanged.
        for state in self.ledger.forget_problems(self.origin, self.seen, self.unread):
            self.added.problems[state] += 1
        with self._clock("graph"):
            for kind in self._kinds():
                self.index.store.optimize(collection_of(kind, self.fingerprint))
        self.added.missing = self.index.catalog.version_counts(self.fingerprint)[1]
        if self.lease.leave():  # nothing is written after it where others go on
            # Also tombstones of a commit with a lost reply.
            self.ledger.purge(self.index.store, self.lease.check)
            if not self.began_alone:
                repair(self.index, self.fingerprint, self.ledger, self.lease.check)

    def _batches(self, source: Source) -> Iterator[list[Study]]:
        batch: list[Study] = []
        read = source.studies(self.waiting.append)
        studies = map(label_study, map(deidentify_study, read) if settings().deidentify else read)
        for study in read_ahead(studies, STEP_STUDIES):
            unwritable = _unwritable(study)
            if unwritable is not None:
                self.waiting.append(unwritable)
                continue
            batch.append(study)
            if len(batch) == STEP_STUDIES or sum(len(s.images) for s in batch) >= STEP_IMAGES:
                yield batch
                batch = []
        if batch:
            yield batch

    def _next_step(self) -> None:
        """Take the oldest group; it is in progress, and its studies claimed, until it is embedded."""
        self._step(self.groups[0])
        self.groups.popleft()

    def _step(self, group: Group) -> None:
        """Embed one group, write its vectors, and commit when it is time."""
        if self.pending.overlaps(group):
            self._commit()
        self._learn_fields(group)
        with self._clock("wait for pictures"):
            resolved = resolve(group, self.index.home, self.own_fields, self.fingerprint)
        self._spend("decoding", resolved.decode_seconds)
        self.observer("decoded", self.added)
        with self._clock("catalog"):
            check_instances(resolved, self.index.catalog)
            replace_single_reports(resolved, self.index.catalog)
            recorded = self.ledger.done({point for _, point in resolved.wanted}, self.fingerprint)
            recorded |= self.pending.done
        with self._clock("encode"):
            work = embed(resolved.wanted, recorded, self.encoder)
        self.observer("encoded", self.added)
        if overwritten := [key for key in work.done if key in recorded]:
            with self._clock("ledger"):
                self.ledger.doubt(overwritten, self.fingerprint)
        with self._clock("vectors"):
            self._write(work)
        self._note(group, resolved, work)
        self.observer("vectors", self.added)
        if self.pending.due:
            self._commit()

    def _write(self, work: Work) -> None:
        """Write vectors and payloads to the store."""
        self.index.home.require_space(sum(p.vector.nbytes for ps in work.points.values() for p in ps))
        for kind, points in work.points.items():
            self.lease.check()
            self.index.store.upsert(collection_of(kind, self.fingerprint), points)
            self.added.embedded[kind] += len(points)
        for kind, payloads in work.payloads.items():
            self.lease.check()
            self.index.store.set_payload(collection_of(kind, self.fingerprint), payloads)
            self.added.updated += len(payloads)

    def _note(self, group: Group, resolved: Resolved, work: Work) -> None:
        """Add to the next commit what a group changes in catalog and ledger."""
        before = {study.study_id: row.content for study, row, _ in group.studies if row is not None}
        written = {point for _, point in work.done}
        new = [
            study
            for study, changed in resolved.new
            if changed
            or before.get(study.study.study_id) != study_hash(study.study)
            or any(item.point_id in written for item in study.items)
        ]
        self.added.studies += len(group.studies)
        for study, _, _ in group.studies:
            self.added.reports.add(study.report)
        self.added.unchanged += len(group.studies) - len(new) - len(resolved.gone)
        self.pending.studies += new
        self.pending.gone += resolved.gone + resolved.replaced
        self.pending.done |= work.done
        needed = {item.point_id for study in new for item in study.items}
        needed |= {point for study in new for point, _ in study.sentences}
        self.pending.relied |= {
            key: wanted.done
            for key, wanted in resolved.wanted.items()
            if key[1] in needed and key not in work.done
        }
        self.pending.claimed |= {study.study_id for study, _, _ in group.studies}
        self.pending.problems += [*resolved.problems, *self._take_problems()]
        items = {item.item_id for study, _ in resolved.new for item in study.items}
        self.pending.settled += items - resolved.unread
        self.unread |= resolved.unread

    def _commit(self) -> None:
        """Flush what was written, then commit it in one transaction."""
        pending = self.pending
        with self._clock("flush"):
            for kind in {kind for kind, _ in pending.done}:
                self.index.store.flush(collection_of(kind, self.fingerprint))
        self.observer("flushed", self.added)
        for _, _, problem in pending.problems:
            if problem.item_id not in self.seen:
                self.added.problems[problem.state] += 1
            self.seen.add(problem.item_id)
        in_progress = {study.study_id for group in self.groups for study, _, _ in group.studies}
        step = Step(
            pending.studies,
            pending.gone,
            pending.done,
            pending.problems,
            pending.settled,
            pending.relied,
            sorted(pending.claimed - in_progress),
        )
        self.observer("committing", self.added)
        with self._clock("ledger"):
            deleted = self.ledger.commit(step, self.fingerprint, self.origin)
        self.pending = Pending(claimed=pending.claimed & in_progress)
        self.observer("committed", self.added)
        self.added.deleted += deleted
        if deleted:
            with self._clock("vectors"):
                self._purge()

    def _purge(self) -> None:
        """Delete from the vectors what left the catalog, unless another run writes now."""
        with self.lease.alone() as alone:
            if alone:
                self.ledger.purge(self.index.store, self.lease.check)

    def _learn_fields(self, group: Group) -> None:
        """Add filter fields for new columns; a column keeps its first type."""
        found: dict[str, FieldType] = {}
        for study, _, _ in group.studies:
            for name, kind in fields_of(study.attributes).items():
                if name not in self.own_fields:
                    found.setdefault(name, kind)
        if found:
            self.ledger.add_fields(found)
            self.own_fields = self.index.catalog.own_fields()  # another run may have typed one first
            self._create_collections()

    def _create_collections(self) -> None:
        for kind in self._kinds():
            # A sentence's payload has no study's fields.
            fields: Mapping[str, FieldType] = {} if kind == "sentence" else self.own_fields
            collection, form = collection_of(kind, self.fingerprint), FORMS.get(kind, "dense")
            self.index.store.create(collection, 0 if form == "terms" else self.encoder.dim, fields, form)
        self.index.name_live_collections()

    def _kinds(self) -> tuple[str, ...]:
        """Return every kind of this version; patches only where they were requested once."""
        patched = self.patches or collection_of("patch", self.fingerprint) in self.index.store.collections()
        return tuple(kind for kind in KINDS if kind != "patch" or patched)

    def _take_problems(self) -> list[tuple[str | None, str | None, Problem]]:
        taken: list[tuple[str | None, str | None, Problem]] = []
        while self.waiting:
            problem = self.waiting.popleft()
            taken.append((study_of(problem.item_id), None, problem))
        return taken

    def _spend(self, stage: str, seconds: float) -> None:
        self.added.seconds[stage] = self.added.seconds.get(stage, 0.0) + seconds

    @contextmanager
    def _clock(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self._spend(stage, time.perf_counter() - start)

    def _timed(self, stage: str, batches: Iterator[list[Study]]) -> Iterator[list[Study]]:
        while True:
            with self._clock(stage):
                batch = next(batches, None)
            if batch is None:
                return
            yield batch


def _unwritable(study: Study) -> Problem | None:
    """Return the problem of a study that no database can store: a file name that is not Unicode text."""
    for text in (study.study_id, study.subject_id, *(image.location for image in study.images)):
        try:
            fits = "\0" not in text and bool(text.encode() or True)
        except UnicodeEncodeError:
            fits = False
        if not fits:
            name = study.study_id.encode("ascii", "backslashreplace").decode().replace("\0", "")
            return Problem(name, "failed", "its name is no valid Unicode text: rename the file")
    return None
