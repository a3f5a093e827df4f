"""`similarity backup` and `similarity restore`. Only click is imported until one runs."""

from pathlib import Path

import click


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print what it holds as JSON.")
def backup(file: Path, as_json: bool) -> None:
    """Write everything of the index into FILE: catalog, vectors, key. Searches go on meanwhile.

    Encoders are folders of their own and are not in it. FILE holds every report and the key: keep it as you
    keep the originals.
    """
    from indexer.backup import back_up
    from indexer.index import Index

    with Index.open(read_only=False, on_wait=lambda line: click.echo(line, err=True)) as index:
        held = back_up(index, file.absolute())
    _tell(held.as_json(), as_json)


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print what it held as JSON.")
def restore(file: Path, as_json: bool) -> None:
    """Make SIMILARITY_HOME, which holds no index yet, of what `backup` wrote into FILE."""
    from corpus.settings import settings
    from indexer.backup import restore as bring_back

    held = bring_back(file, settings().home_folder)
    _tell(held.as_json(), as_json)


def _tell(held: dict[str, object], as_json: bool) -> None:
    import json

    if as_json:
        click.echo(json.dumps(held))
        return
    rows, vectors = (sum(counts.values()) for counts in (held["rows"], held["vectors"]))  # type: ignore[attr-defined]
    click.echo(f"{rows:,} rows and {vectors:,} vectors of {held['created']}")
