"""What the commands print: remarks on stderr, JSON, records, tables and progress. The only place that knows a
terminal; click alone is imported until something is shown."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import click

from corpus.notices import one_line

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import ProgressColumn
    from rich.table import Table

    from corpus.progress import OnProgress

Lines = Literal["none", "stages", "epochs"]
"""Lines of progress where stderr is no terminal: none, one when a stage ends, or also one an epoch."""


def note(line: str) -> None:
    """Print a remark for the user on stderr; stdout is data."""
    click.echo(line, err=True)


def print_json(value: Any, *, indent: int | None = None) -> None:
    """Print one JSON document on stdout."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=indent, allow_nan=False))


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


@contextmanager
def progress_bars(
    lines: Lines = "none", *, unit: Literal["items", "bytes"] = "items"
) -> Iterator[OnProgress]:
    """Show progress on stderr while the block runs: bars on a terminal or in a notebook, else lines.

    Args:
        lines: what is printed where stderr is no terminal.
        unit: what is counted.
    """
    from rich.console import Console

    console = Console(stderr=True)
    if not (console.is_terminal or console.is_jupyter):
        yield _lines(lines)
        return
    from rich.progress import Progress

    with Progress(*_columns(unit), console=console, transient=lines == "none") as bars:
        yield _Bars(bars)


def _columns(unit: str) -> list[ProgressColumn]:
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TransferSpeedColumn,
    )

    count: list[ProgressColumn] = (
        [DownloadColumn(), TransferSpeedColumn()] if unit == "bytes" else [MofNCompleteColumn()]
    )
    described = TextColumn("{task.description}", markup=False)
    remark = TextColumn("{task.fields[note]}", markup=False)
    return [described, BarColumn(), *count, TimeElapsedColumn(), remark]


class _Bars:
    """A bar for each stage; a stage that begins again gets a new bar, an epoch a line that stays."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._tasks: dict[str, Any] = {}

    def __call__(self, stage: str, done: int, total: int | None = None, note: str = "", /) -> None:
        if stage == "epoch":
            self._bars.console.print(_line(stage, done, total, note), markup=False, highlight=False)
            return
        task = self._tasks.get(stage)
        if task is None or self._bars.tasks[task].completed > done:
            task = self._tasks[stage] = self._bars.add_task(stage, total=total, note=note)
        self._bars.update(task, completed=done, total=total, note=note)


def _lines(lines: Lines) -> OnProgress:
    def report(stage: str, done: int, total: int | None = None, note: str = "", /) -> None:
        ended = done == total and not (lines == "epochs" and stage == "train")
        if lines != "none" and (ended or (lines == "epochs" and stage == "epoch")):
            click.echo(_line(stage, done, total, note), err=True)

    return report


def _line(stage: str, done: int, total: int | None, note: str) -> str:
    of = "" if total is None else f"/{total}"
    return f"{stage} {done}{of} {note}".rstrip()


def wide_console() -> Console:
    """Return a console on stdout that is 140 columns wide where stdout is no terminal."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 140, highlight=False)
