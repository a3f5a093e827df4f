"""How the tables and text files of a source are to be read, where that cannot be told from them."""

from dataclasses import dataclass
from typing import Final

from corpus.notices import NoticeSink, log_notice


@dataclass(frozen=True, slots=True)
class TableOptions:
    """What a user says of the tables of a source.

    `encoding`: of tables and report files, as `corpus.tables.encodings.known_encoding` returns it; None finds
    it.
    `dates`: how a manifest's dates are written, as `corpus.tables.dates.known_date_format` returns it; None
    lets the column decide.
    `on_notice`: gets what the user should know of the reading (by default the log).
    """

    encoding: str | None = None
    dates: str | None = None
    on_notice: NoticeSink = log_notice


DEFAULT: Final = TableOptions()
