"""Where the demonstration is: a live bar on a terminal, plain lines elsewhere. All of it to stderr."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

Tick = Callable[[int, int, str], None]
"""Told how much of a step is done, of how much, and a word about it."""

_PLAIN_EVERY = 5.0  # seconds between two lines of one step


class Steps:
    """Numbers the steps and keeps how long each took, in seconds."""

    def __init__(self, count: int) -> None:
        self.seconds: dict[str, float] = {}
        self._count = count
        self._console = Console(stderr=True, highlight=False)

    @contextmanager
    def step(self, name: str, title: str) -> Iterator[Tick]:
        """Show one step while it runs, and a line that stays when it is done."""
        heading = f"[{len(self.seconds) + 1}/{self._count}] {title}"
        began = time.monotonic()
        if self._console.is_terminal:
            with self._bar(heading) as tick:
                yield tick
        else:
            self._say(heading)
            yield self._lines()
        self.seconds[name] = time.monotonic() - began
        self._say(f"{heading} – done in {self.seconds[name]:.0f} s")

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, soft_wrap=True)

    @contextmanager
    def _bar(self, heading: str) -> Iterator[Tick]:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self._console, transient=True) as shown:
            task = shown.add_task(heading, total=None, note="")

            def tick(done: int, total: int, note: str) -> None:
                shown.update(task, completed=done, total=total or None, note=note)

            yield tick

    def _lines(self) -> Tick:
        last = time.monotonic()

        def tick(done: int, total: int, note: str) -> None:
            nonlocal last
            if time.monotonic() - last >= _PLAIN_EVERY:
                last = time.monotonic()
                self._say(f"      {note} {done}/{total}" if total else f"      {note}")

        return tick
