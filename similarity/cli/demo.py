"""`similarity demo`: the command and the progress of its steps. Only click is imported until it runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from corpus.progress import OnProgress

_LINE_INTERVAL = 5.0  # seconds between two plain lines of one step


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("demo"),
    show_default=True,
    help="Folder for everything: encoder, index, page.",
)
@click.option("--studies", type=int, default=1400, show_default=True, help="Phantoms to train on.")
@click.option(
    "--seed", type=int, default=7, show_default=True, help="Which phantoms; the same seed, the same page."
)
@click.option("--epochs", type=int, default=8, show_default=True, help="Passes over them in training.")
def demo(out: Path, studies: int, seed: int, epochs: int) -> None:
    """Show the whole mission on phantoms: similar cases, where, what corresponds, and a draft, on one page.

    Trains an encoder, indexes an archive, searches it, localizes, drafts and evaluates. Takes about three
    minutes on two cores, reads nothing and needs no server. The page's path is printed at the end.
    """
    from retrieval.demo.plan import Plan, prepare

    plan = Plan(out, studies, seed, epochs)
    prepare(out)
    click.echo("Loading the libraries takes some seconds.", err=True)
    from retrieval.demo.run import STEPS, demonstrate

    page = demonstrate(plan, StepsOnTerminal(STEPS))
    click.echo(f"The page is ready; open it in a browser: {page.absolute()}", err=True)
    click.echo(page.absolute())


class StepsOnTerminal:
    """The steps of a demonstration on stderr, numbered: a bar on a terminal, plain lines elsewhere."""

    def __init__(self, count: int) -> None:
        from rich.console import Console

        self.seconds: dict[str, float] = {}
        self._count = count
        self._console = Console(stderr=True, highlight=False)

    @contextmanager
    def step(self, name: str, title: str) -> Iterator[OnProgress]:
        """Show one step while it runs, and a line that stays when it is done."""
        heading = f"[{len(self.seconds) + 1}/{self._count}] {title}"
        began = time.monotonic()
        if self._console.is_terminal:
            with self._bar(heading) as advance:
                yield advance
        else:
            self._print(heading)
            yield self._lines()
        self.seconds[name] = time.monotonic() - began
        self._print(f"{heading} – done in {self.seconds[name]:.0f} s")

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, soft_wrap=True)

    @contextmanager
    def _bar(self, heading: str) -> Iterator[OnProgress]:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self._console, transient=True) as shown:
            task = shown.add_task(heading, total=None, note="")

            def advance(stage: str, done: int, total: int | None = None, note: str = "", /) -> None:
                shown.update(task, completed=done, total=total or None, note=f"{stage} {note}".rstrip())

            yield advance

    def _lines(self) -> OnProgress:
        last = time.monotonic()

        def advance(stage: str, done: int, total: int | None = None, note: str = "", /) -> None:
            nonlocal last
            if time.monotonic() - last >= _LINE_INTERVAL:
                last = time.monotonic()
                self._print(f"      {stage} {done}/{total}" if total else f"      {stage}")

        return advance
