"""`similarity backup` and `similarity restore`. Only click is imported until one runs."""

from pathlib import Path
from typing import Any

import click

from similarity.cli.console import note, print_json


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print its contents as JSON.")
def backup(file: Path, as_json: bool) -> None:
    """Write the whole index into FILE: catalog, vectors, key. Searches go on meanwhile.

    Encoders are folders of their own and are not included. FILE contains every report and the key: protect it
    as you protect the originals.
    """
    from indexer.backup import back_up
    from indexer.index import Index

    with Index.open(read_only=False, on_wait=note) as index:
        contents = back_up(index, file.absolute())
    _print_contents(contents.as_json(), as_json)


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--copy",
    is_flag=True,
    help="Restore a copy with an identity of its own, which can stand beside the original on one server.",
)
@click.option("--json", "as_json", is_flag=True, help="Print its contents as JSON.")
def restore(file: Path, copy: bool, as_json: bool) -> None:
    """Restore the index that `backup` wrote into FILE to SIMILARITY_HOME, where no index is yet.

    Where SIMILARITY_DATABASE_URL and SIMILARITY_QDRANT_URL name servers, it is restored onto those. Nothing
    is written over.
    """
    from corpus.settings import settings
    from indexer.backup import restore as bring_back

    contents = bring_back(file, settings().home_folder, copy=copy)
    _print_contents(contents.as_json(), as_json)


def _print_contents(contents: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(contents)
        return
    rows, vectors = (sum(contents[name].values()) for name in ("rows", "vectors"))
    click.echo(f"{rows:,} rows and {vectors:,} vectors of {contents['created']}")
