"""The result of a run of `index add`, and the moments at which it is observed."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, get_args

from corpus.language.detection import ReportLanguages
from corpus.records import ItemState
from indexer.catalog.ledger_records import KINDS

Stage = Literal["read", "decoded", "encoded", "vectors", "flushed", "committing", "committed"]
"""Moments of a step, in order. `read`: its images are being decoded; `vectors`: written, not yet flushed;
`committing`: the transaction is next."""


@dataclass
class Added:
    """The result of a run. Counts are of points of the store, except `studies`, `unchanged` (studies) and the
    problems; an image's patches are one point, a report's affirmed words another."""

    studies: int = 0
    unchanged: int = 0
    embedded: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    updated: int = 0
    deleted: int = 0
    problems: dict[str, int] = field(default_factory=lambda: dict.fromkeys(get_args(ItemState), 0))
    missing: int = 0
    """Items and sentences of the whole index without a vector in this version: of studies that it was not
    given, or lost by the store."""
    reports: ReportLanguages = field(default_factory=ReportLanguages)
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall time of the main process by stage, and `decoding`: time of the decode processes, summed."""

    def as_json(self) -> dict[str, object]:
        """Return the form of `docs/contracts/index-add.schema.json`."""
        return {
            "studies": self.studies,
            "unchanged": self.unchanged,
            "embedded": dict(self.embedded),
            "updated": self.updated,
            "deleted": self.deleted,
            "problems": dict(self.problems),
            "missing": self.missing,
            "reports": self.reports.as_json(),
            "seconds": {name: round(value, 3) for name, value in self.seconds.items()},
        }


Observer = Callable[[Stage, Added], None]
"""Called at every moment of every step with the result so far: for progress and for tests. It may raise
`Stopped`."""


class Stopped(BaseException):
    """Ends a run in order, with a last commit of what is embedded."""
