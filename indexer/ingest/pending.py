"""The steps of a run that are in the vector store, and not yet in the ledger."""

import time
from dataclasses import dataclass, field

from corpus.records import Problem
from corpus.redaction import redacted
from indexer.catalog.ledger_records import Done, Key, NewStudy
from indexer.ingest.embedding import Group

COMMIT_VECTORS = 2_048
COMMIT_SECONDS = 5.0
"""Steps are flushed and committed together, at this many vectors or after this long: a flush waits for the
disk up to half a second, whatever it writes, and a killed run repeats no more than what was not committed."""


@redacted
@dataclass
class Pending:
    """What the next commit has; see `Step`. `since`: monotonic seconds."""

    studies: list[NewStudy] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    done: dict[Key, Done] = field(default_factory=dict)
    problems: list[tuple[str | None, str | None, Problem]] = field(default_factory=list)
    settled: list[str] = field(default_factory=list)
    relied: dict[Key, Done] = field(default_factory=dict)
    claimed: set[str] = field(default_factory=set)
    since: float = field(default_factory=time.monotonic)

    @property
    def due(self) -> bool:
        """Whether to commit now."""
        return len(self.done) >= COMMIT_VECTORS or time.monotonic() - self.since >= COMMIT_SECONDS

    def overlaps(self, group: Group) -> bool:
        """Return whether a study of the group is among them."""
        mine = {*self.gone, *(new.study.study_id for new in self.studies)}
        return any(study.study_id in mine for study, _, _ in group.studies)
