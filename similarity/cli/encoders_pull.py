"""`similarity encoders pull`, and what is published among `similarity encoders list`."""

import sys
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from trainer.models.resolve import FileProgress


@click.command("pull")
@click.argument("name")
@click.option("--offline", is_flag=True, help="Download nothing: say which file to put where, or take those.")
def pull_command(name: str, offline: bool) -> None:
    """Bring a published encoder or SAM file here: download, check, import; print its path.

    `similarity encoders list` names them; any open_clip model of the Hugging Face hub is named
    `hf-hub:OWNER/REPOSITORY`. Where a download broke off, the next goes on. Without a network (or with
    --offline, or SIMILARITY_OFFLINE=1) it says which files to fetch from where and where to put them; run
    again, it checks and imports those.
    """
    from trainer.models.resolve import pull

    with _Shown() as show:
        path = pull(name, offline=offline, on_progress=show)
    click.echo(path)


def known_rows() -> list[dict[str, Any]]:
    """What is published, a row each, as `encoders list --json` gives it under `known`."""
    from trainer.models.catalog import KNOWN
    from trainer.models.resolve import is_here

    return [
        {
            "name": known.name,
            "kind": known.kind,
            "what": known.what,
            "source": known.source,
            "licence": known.licence,
            "preprocessing": known.preprocessing,
            "bytes": known.size,
            "hash": "SHA-256" if known.weights.sha256 else "MD5" if known.weights.md5 else None,
            "here": is_here(known),
        }
        for known in KNOWN
    ]


def echo_known() -> None:
    """Print what is published, a line each: name, licence, here or not, which hash is published, what."""
    click.echo("published (similarity encoders pull NAME):")
    for row in known_rows():
        here = "here" if row["here"] else "not here"
        published = f"{row['hash']} published" if row["hash"] else "no published hash"
        click.echo(f"  {row['name']}\t{row['licence']}\t{here}\t{published}\t{row['what']}")


class _Shown:
    """Progress on stderr: a bar a file on a terminal, else a line each tenth."""

    def __enter__(self) -> "FileProgress":
        self._bars: Any = None
        self._tasks: dict[str, Any] = {}
        if not sys.stderr.isatty():
            from trainer.models.resolve import each_tenth

            return each_tenth(lambda line: click.echo(line, err=True))
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
        from rich.progress import Progress as Bars

        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            console=Console(stderr=True),
        )
        self._bars.start()
        return self._bar

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def _bar(self, name: str, here: int, total: int | None) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=total)
        self._bars.update(self._tasks[name], completed=here, total=total)
