"""`similarity key`: the key that all machines of an index share. Only click is imported until one runs."""

import re
from pathlib import Path

import click

from similarity.cli.console import note, print_json

_FILE = click.Path(path_type=Path, allow_dash=True)


class _Group(click.Group):
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if any(re.search(r"similarity-key-\d+:", word) for word in args):
            raise click.UsageError(
                "a key is among the words of the command, where every user of the machine can read it: "
                "write it to a file, or to the standard input of `similarity key import -`"
            )
        return super().parse_args(ctx, args)


@click.group(cls=_Group)
def key() -> None:
    """Export, import and compare the key of an index, which all its machines share.

    The key makes the ids of the vectors from those of the cases. It is a secret like the reports themselves.
    """


@key.command()
@click.argument("file", type=_FILE)
def export(file: Path) -> None:
    """Write the key to FILE, a new one that its owner alone may read; - is the standard output."""
    from indexer.key import key_text
    from indexer.key_transfer import export_key, home_with_key

    home = home_with_key()
    if str(file) == "-":
        click.echo(key_text(home.key))
    else:
        export_key(home, file)
    note(f"the key of {home.folder} has fingerprint {home.key_fingerprint}")


@key.command("import")
@click.argument("file", type=_FILE)
def import_(file: Path) -> None:
    """Give the home the key in FILE, which `key export` wrote; - is the standard input.

    The home is created where there is none. A key that the home has already is replaced only where nothing
    was made with it.
    """
    from indexer.key_transfer import import_key, read_key_file

    imported = import_key(read_key_file(file), on_wait=note)
    has = {"new": "has now", "replaced": "has now, in place of another,", "same": "had already"}
    note(
        f"the home {imported.folder} {has[imported.outcome]} the key with fingerprint {imported.fingerprint}"
    )


@key.command()
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def fingerprint(as_json: bool) -> None:
    """Print 16 hex digits that are equal on two machines if, and only if, they have the same key."""
    from indexer.key_transfer import home_with_key

    home = home_with_key()
    if as_json:
        print_json({"fingerprint": home.key_fingerprint, "home": str(home.folder)})
    else:
        click.echo(home.key_fingerprint)
