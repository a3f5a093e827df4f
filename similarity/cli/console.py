"""What the commands print: remarks on stderr, JSON, records and tables. Progress is in `similarity.progress`;
click alone is imported until something is shown."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from corpus.notices import one_line

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def note(line: str) -> None:
    """Print a remark for the user on stderr; stdout is data."""
    click.echo(line, err=True)


def print_json(value: Any, *, indent: int | None = None, allow_nan: bool = True) -> None:
    """Print one JSON document on stdout, in ASCII: any terminal shows it, and any file name can be in it.

    Args:
        value: what `json` can write.
        indent: spaces a level; None prints one line.
        allow_nan: print numbers that are not finite as NaN and Infinity; else they are a ValueError.
    """
    click.echo(json.dumps(value, indent=indent, allow_nan=allow_nan))


def print_record(record: dict[str, Any]) -> None:
    """Print a record a line a key, nested values on the line of their key."""
    for name, value in record.items():
        if isinstance(value, dict):
            parts = ", ".join(f"{key} {_short(entry)}" for key, entry in value.items())
            click.echo(f"{name}: {parts or 'none'}")
        elif isinstance(value, list):
            click.echo(f"{name}: " + ("; ".join(map(_short, value)) or "none"))
        else:
            click.echo(f"{name}: {_short(value)}")


def counted(number: int, one: str, several: str) -> str:
    """Return a number with its noun: `1 study`, `1,204 studies`."""
    return f"{number:,} {one if number == 1 else several}"


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_short(entry)}" for key, entry in value.items())
    return f"{value:.2f}" if isinstance(value, float) else one_line(str(value))


def plain_table(title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> Table:
    """Return a table without lines: the first column is left-aligned, the others right-aligned."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    for row in rows:
        table.add_row(*(Text(value) for value in row))
    return table


def ruled_table(title: str, *headings: str) -> Table:
    """Return an empty table with a rule below its headings."""
    from rich import box
    from rich.table import Table

    return Table(*headings, title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)


def show_number(value: float | list[float] | None) -> str:
    """Return a number with three decimals, an interval with two, `–` where there is none."""
    if value is None:
        return "–"
    if isinstance(value, list):
        return f"{value[0]:.2f} … {value[1]:.2f}"
    return f"{value:.3f}"


def wide_console() -> Console:
    """Return a console on stdout that is 140 columns wide where stdout is no terminal."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 140, highlight=False)
