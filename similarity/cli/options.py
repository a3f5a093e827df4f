"""The options of every command that takes a source: encoding and dates of its tables, admitted modalities."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from corpus.notices import Notice, Notices, one_line
from similarity.cli.console import note

if TYPE_CHECKING:
    from corpus.records import Source

Command = Callable[..., Any]


def _print_notice(notice: Notice) -> None:
    examples = f" ({'; '.join(notice.examples)})" if notice.examples else ""
    note(one_line(f"note: {notice.table}: {notice.text}{examples}"))


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """The options on sources of one command line.

    `notices`: remarks on the tables read so far; each is printed on stderr when it first occurs.
    """

    reports: Path | None = None
    admit: tuple[str, ...] = ()
    encoding: str | None = None
    dates: str | None = None
    notices: Notices = field(default_factory=lambda: Notices(_print_notice))

    @property
    def given(self) -> bool:
        """Whether an option was given."""
        return any((self.reports, self.admit, self.encoding, self.dates))

    def open(self, spec: str) -> Source:
        """Open a source by its name on the command line; raises as `corpus.sources.open_source` does."""
        from corpus.sources import open_source
        from corpus.tables import TableOptions

        tables = TableOptions(self.encoding, self.dates, self.notices)
        return open_source(spec, reports=self.reports, admit=frozenset(self.admit), tables=tables)


_TABLES = (
    click.option("--encoding", metavar="NAME", help="Encoding of tables and report files (default: found)."),
    click.option("--day-first", is_flag=True, help="A manifest's 5/6/2019 is 5 June."),
    click.option("--month-first", is_flag=True, help="A manifest's 5/6/2019 is May 6."),
    click.option("--date-format", metavar="FORMAT", help="A manifest's dates: '%d.%m.%Y', or excel (43621)."),
)
_DICOM = (
    click.option(
        "--reports",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Table of reports to join to the images of a dicom source.",
    ),
    click.option(
        "--admit",
        multiple=True,
        metavar="MODALITY",
        help="Admit another modality or body part besides chest CR and DX.",
    ),
)


def table_options(command: Command) -> Command:
    """Add the options on tables to a command, as one argument `options`."""
    return _decorated(command, _TABLES)


def source_options(command: Command) -> Command:
    """Add all options on a source to a command, as one argument `options`."""
    return _decorated(command, (*_DICOM, *_TABLES))


def _decorated(command: Command, options: tuple[Callable[[Command], Command], ...]) -> Command:
    @functools.wraps(command)
    def run(
        *arguments: Any,
        encoding: str | None,
        day_first: bool,
        month_first: bool,
        date_format: str | None,
        reports: Path | None = None,
        admit: tuple[str, ...] = (),
        **others: Any,
    ) -> Any:
        chosen = SourceOptions(
            reports, admit, _encoding(encoding), _dates(day_first, month_first, date_format)
        )
        return command(*arguments, options=chosen, **others)

    decorated: Command = run
    for option in reversed(options):
        decorated = option(decorated)
    return decorated


def _encoding(name: str | None) -> str | None:
    from corpus.tables.encodings import parse_encoding

    return None if name is None else parse_encoding(name)


def _dates(day_first: bool, month_first: bool, form: str | None) -> str | None:
    from corpus.tables.dates import parse_date_format

    if day_first + month_first + (form is not None) > 1:
        raise click.UsageError("give one of --day-first, --month-first and --date-format")
    if form is not None:
        return parse_date_format(form)
    return "day_first" if day_first else "month_first" if month_first else None
