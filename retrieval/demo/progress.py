"""The steps of a demonstration on stderr: a bar on a terminal, plain lines elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from corpus.progress import OnProgress

_LINE_INTERVAL = 5.0  # seconds between two plain lines of one step


class Steps:
    """Numbers the steps and records how long each took, in seconds."""

    def __init__(self, count: int) -> None:
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
