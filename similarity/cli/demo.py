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
@click.option("--studies", type=int, default=700, show_default=True, help="Phantoms to learn from and index.")
@click.option(
    "--seed", type=int, default=7, show_default=True, help="Which phantoms; the same seed, the same page."
)
@click.option("--epochs", type=int, default=16, show_default=True, help="Passes over them in training.")
def demo(out: Path, studies: int, seed: int, epochs: int) -> None:
    """Train, index, search, localize, draft and evaluate on phantoms; write the results as a page.

    Takes minutes on two cores, reads no data and needs no server. Prints the path of the page.
    """
    from retrieval.demo.plan import Plan, prepare

    plan = Plan(out, studies, seed, epochs)
    prepare(out)
    click.echo("Loading the libraries takes some seconds.", err=True)
    from retrieval.demo.progress import Steps
    from retrieval.demo.run import demonstrate

    page = demonstrate(plan, Steps(4))
    click.echo(f"The page is ready; open it in a browser: {page.absolute()}", err=True)
    click.echo(page.absolute())
