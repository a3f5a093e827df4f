"""Bars on stderr for jobs that count: one a stage, nothing where stderr is no terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

OnProgress = Callable[[str, int, int], None]
"""Called with (what is being done, items done, items in all)."""


@contextmanager
def counting_bars() -> Iterator[OnProgress]:
    """Give a callback that shows a bar for each thing that is being done; a new round gets a new bar."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as shown:
        running: tuple[str, TaskID] | None = None

        def advance(doing: str, done: int, total: int) -> None:
            nonlocal running
            if running is None or running[0] != doing or shown.tasks[running[1]].completed > done:
                running = (doing, shown.add_task(doing, total=total))
            shown.update(running[1], completed=done)

        yield advance
