"""What a user should know of a source as a whole, though no item of it failed: how its tables were read."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from corpus.redaction import redacted

log = logging.getLogger(__name__)

NoticeKind = Literal["encoding", "column", "subject", "dates", "join"]


@redacted
@dataclass(frozen=True, slots=True)
class Notice:
    """One remark on how a source was read.

    `table`: the file it speaks of, without its folder. `text`: one sentence without patient data.
    `examples`: values from the tables that show it. They can be identifiers: a command shows them to the
    person who runs it, and they never go to a log.
    """

    kind: NoticeKind
    table: str
    text: str
    examples: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the form of `notices` in `docs/contracts/corpus-inspect.schema.json`."""
        return {"kind": self.kind, "table": self.table, "text": self.text, "examples": list(self.examples)}


NoticeSink = Callable[[Notice], None]


def log_notice(notice: Notice) -> None:
    """Log a notice, without its examples: what happens to notices where nobody asked for them."""
    log.warning("%s: %s", notice.table, notice.text)


class Notices:
    """A sink that keeps each different notice once, however often a source is read.

    Args:
        on_new: called with each notice when it is first met.
    """

    def __init__(self, on_new: NoticeSink | None = None) -> None:
        self._on_new = on_new
        self._notices: dict[Notice, None] = {}

    def __call__(self, notice: Notice) -> None:
        """Keep a notice."""
        if notice not in self._notices:
            self._notices[notice] = None
            if self._on_new is not None:
                self._on_new(notice)

    def as_json(self) -> list[dict[str, Any]]:
        """Return the notices in the order they were met."""
        return [notice.as_json() for notice in self._notices]
