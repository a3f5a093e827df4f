"""Notices on how a source was read as a whole, and the formatting of texts and numbers for a terminal.

Imports nothing heavy, so that the commands' help stays quick.
"""

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

    `kind`: what the remark concerns.
    `table`: the file, without its folder.
    `text`: one sentence without patient data.
    `examples`: values from the tables. They can be identifiers: a command shows them to the local user, and
    they never go to a log.
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
    """Log a notice without its examples; the default sink."""
    log.warning("%s: %s", notice.table, notice.text)


class Notices:
    """A sink that collects each different notice once, however often a source is read.

    Args:
        on_new: called with each notice at its first occurrence.
    """

    def __init__(self, on_new: NoticeSink | None = None) -> None:
        self._on_new = on_new
        self._notices: dict[Notice, None] = {}

    def __call__(self, notice: Notice) -> None:
        """Add a notice."""
        if notice not in self._notices:
            self._notices[notice] = None
            if self._on_new is not None:
                self._on_new(notice)

    def as_json(self) -> list[dict[str, Any]]:
        """Return the notices in the order of their first occurrence."""
        return [notice.as_json() for notice in self._notices]


def one_line(text: object) -> str:
    r"""Return the text with control characters, line breaks and undecodable bytes escaped (`a\\nb`)."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in str(text))


def format_bytes(count: int) -> str:
    """Return a number of bytes in decimal units: `999 B`, `5.3 MB`, `1.4 GB`."""
    size, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while size >= 999.5 and len(units) > 1:
        size /= 1000
        del units[0]
    return f"{size:.{1 if size < 100 and units[0] != 'B' else 0}f} {units[0]}"


def format_duration(seconds: float) -> str:
    """Return a duration in one unit: `40 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
