"""Progress of `index add` on a terminal: to stderr, and only where somebody looks."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from indexer.pipeline import Added, Observer, Stage


@contextmanager
def progress() -> Iterator[Observer]:
    """An observer that shows how many studies are done; silent when stderr is no terminal."""
    console = Console(stderr=True)
    shown = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
    with shown:
        task = shown.add_task("reading")

        def observe(_stage: Stage, added: Added) -> None:
            vectors = ", ".join(f"{n} {kind}s" for kind, n in added.embedded.items())
            shown.update(task, description=f"{added.studies} studies done; embedded {vectors}")

        yield observe
