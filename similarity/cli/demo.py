"""`similarity demo`: the command. Only click is imported until it runs."""

from pathlib import Path

import click


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
    from retrieval.demo.progress import Steps
    from retrieval.demo.run import STEPS, demonstrate

    page = demonstrate(plan, Steps(STEPS))
    click.echo(f"The page is ready; open it in a browser: {page.absolute()}", err=True)
    click.echo(page.absolute())
