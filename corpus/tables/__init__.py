"""Tables and text files as they arrive: encodings, columns, dates, and damage by spreadsheets.

`TableOptions` states how the tables of a source are read where their content does not determine it.
"""

from dataclasses import dataclass
from typing import Final

from corpus.notices import NoticeSink, log_notice


@dataclass(frozen=True, slots=True)
class TableOptions:
    """What a user states about the tables of a source.

    `encoding`: of tables and report files, as `corpus.tables.encodings.parse_encoding` returns it; None
    detects it.
    `dates`: the format of a manifest's dates, as `corpus.tables.dates.parse_date_format` returns it; None
    lets the column decide.
    `on_notice`: receives remarks on the reading (by default the log).
    """

    encoding: str | None = None
    dates: str | None = None
    on_notice: NoticeSink = log_notice


DEFAULT: Final = TableOptions()
