"""Progress of a job on stderr: bars on a terminal or in a notebook, else lines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import click

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import ProgressColumn

    from corpus.progress import OnProgress
    from indexer.ingest.added import Added, Observer, Stage

Lines = Literal["none", "stages", "epochs"]
"""Lines of progress where stderr is no terminal: none, one when a stage ends, or also one an epoch."""


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


def added_progress(on_progress: OnProgress) -> Observer:
    """Return an observer of `index add` that reports the counts of the run."""

    def observe(_stage: Stage, added: Added) -> None:
        vectors = ", ".join(f"{n} {kind}s" for kind, n in added.embedded.items())
        on_progress("studies", added.studies, None, f"embedded {vectors}" if vectors else "")

    return observe


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
