"""Progress of a job on the index: on a terminal's stderr or in a notebook, and only where somebody looks."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from indexer.ingest.pipeline import Added, Observer, Stage


@contextmanager
def progress() -> Iterator[Observer]:
    """An observer that shows how many studies are done; silent when stderr is no terminal."""
    with _shown() as shown:
        task = shown.add_task("reading")

        def observe(_stage: Stage, added: Added) -> None:
            vectors = ", ".join(f"{n} {kind}s" for kind, n in added.embedded.items())
            shown.update(task, description=f"{added.studies} studies done; embedded {vectors}")

        yield observe


@contextmanager
def counting() -> Iterator[Callable[[str, int, int], None]]:
    """Take (step, how much is done, of how much) and show it; silent when stderr is no terminal."""
    with _shown() as shown:
        task = shown.add_task("reading")

        def observe(step: str, done: int, of: int) -> None:
            shown.update(task, description=f"{step}: {done} of {of}")

        yield observe


def _shown() -> Progress:
    console = Console(stderr=True)
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        console=console,
        disable=not (console.is_terminal or console.is_jupyter),
        transient=True,
    )
