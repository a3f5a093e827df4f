"""`similarity encoders`: list, fetch, import and inspect encoders."""

import json
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import click

from similarity.cli.console import note, print_json
from similarity.progress import progress_bars


@click.group()
def encoders() -> None:
    """List encoders, fetch or import published ones, and inspect them."""


@encoders.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def list_command(as_json: bool) -> None:
    """List the encoders under the home, the published models, and the architectures to train."""
    from trainer.models.architecture import find_architecture, list_architectures
    from trainer.models.registry import describe_encoder, encoder_folders

    known = [describe_encoder(folder) for folder in encoder_folders()]
    shapes = [find_architecture(name) for name in list_architectures()]
    if as_json:
        rows = [_summary(record) for record in known]
        table = [{"name": shape.name, "note": shape.note} for shape in shapes]
        print_json({"encoders": rows, "known": published_rows(), "architectures": table}, indent=2)
        return
    for record in known:
        click.echo(f"{record.get('name')}\t{str(record.get('fingerprint', ''))[:8]}\t{record['path']}")
    if not known:
        note("no encoder under the home; encoders of `similarity train` stay in their run folders")
    _print_published()
    click.echo("architectures:")
    for shape in shapes:
        click.echo(f"  {shape.name}\t{shape.note}")


@encoders.command("inspect")
@click.argument("encoder", metavar="NAME|DIR")
@click.option("--json", "as_json", is_flag=True, help="The whole record as JSON.")
def inspect_command(encoder: str, as_json: bool) -> None:
    """Verify that an encoder is complete and unedited, and print its record."""
    from trainer.models.resolve import resolve_encoder
    from trainer.runtime.encoder_folder import fingerprint, verify

    folder = resolve_encoder(encoder)
    record = verify(folder)
    record["fingerprint"] = fingerprint(folder, record["files"])
    if as_json:
        print_json({"path": str(folder), **record}, indent=2)
        return
    for key, value in _summary({"path": str(folder), **record}).items():
        click.echo(f"{key}\t{json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value}")
    for row in record.get("data", []):
        click.echo(
            f"trained on\t{row['source']}: {row['pictures']} images, {row['texts']} texts, "
            f"{row['subjects']} subjects"
        )


@encoders.command("pull")
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

    with _downloads() as on_progress:
        click.echo(pull(name, offline=offline, on_progress=on_progress))


@encoders.command("import")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--as", "name", required=True, metavar="NAME", help="What the encoder is called here.")
@click.option(
    "--kind", type=click.Choice(["openclip", "medclip"]), default="openclip", show_default=True,
    help="What FOLDER holds: open_clip's files, or MedCLIP's checkpoint.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Print how the keys fit; write nothing.")
def import_command(folder: Path, name: str, kind: str, dry_run: bool) -> None:
    """Import the published weights in FOLDER; a BERT text tower's config.json and words lie beside them.

    Code in a checkpoint is never run. A checkpoint with keys that do not fit is refused.
    """
    from corpus.errors import EncoderError, UsageError
    from trainer.models.importers import medclip, openclip

    if Path(name).name != name or name.startswith("."):
        raise UsageError(f"--as takes a plain name, not {name!r}")
    if not dry_run:
        click.echo((medclip if kind == "medclip" else openclip).import_folder(folder, name))
        return
    if kind == "medclip":
        report = medclip.read_checkpoint(medclip.find_checkpoint(folder), folder).report
    else:
        report = openclip.read_folder(folder).report
    click.echo("\n".join(report.lines()))
    if not report.fits:
        raise EncoderError(f"the checkpoint in {folder} does not fit; the list above says where")


@encoders.command("export")
@click.argument("encoder", metavar="NAME|DIR")
@click.option("--force", is_flag=True, help="Export the graphs also where they are complete.")
def export_command(encoder: str, force: bool) -> None:
    """Export the graphs of an encoder, with which it encodes without torch; print its path.

    `train`, `encoders import` and `encoders pull` export them, so this is for encoders of an earlier version
    and for damaged graphs. Each graph is compared with torch, and refused where a vector differs. The
    fingerprint stays: an index of the encoder remains as it is.
    """
    from trainer.models.graphs import add_graphs
    from trainer.models.resolve import resolve_encoder

    folder = resolve_encoder(encoder)
    if not add_graphs(folder, force=force):
        note("the graphs are complete; --force exports them anew")
    click.echo(folder)


def _downloads() -> AbstractContextManager[Any]:
    """Return progress of downloads: bars on a terminal, else a line at each tenth of a file."""
    if sys.stderr.isatty():
        return progress_bars(unit="bytes")
    from trainer.models.resolve import each_tenth

    return nullcontext(each_tenth(note))


def published_rows() -> list[dict[str, Any]]:
    """Return a row for each published model, as `encoders list --json` has them under `known`."""
    from trainer.models.catalog import PUBLISHED_MODELS
    from trainer.models.resolve import is_available

    return [
        {
            "name": model.name,
            "kind": model.kind,
            "what": model.what,
            "source": model.source,
            "licence": model.licence,
            "preprocessing": model.preprocessing,
            "bytes": model.size,
            "hash": "SHA-256" if model.weights.sha256 else "MD5" if model.weights.md5 else None,
            "here": is_available(model),
        }
        for model in PUBLISHED_MODELS
    ]


def _print_published() -> None:
    """Print what is published, a line each: name, licence, here or not, which hash is published, what."""
    click.echo("published (similarity encoders pull NAME):")
    for row in published_rows():
        here = "here" if row["here"] else "not here"
        published = f"{row['hash']} published" if row["hash"] else "no published hash"
        click.echo(f"  {row['name']}\t{row['licence']}\t{here}\t{published}\t{row['what']}")


def _summary(record: dict[str, Any]) -> dict[str, Any]:
    keys = ("name", "path", "architecture", "fingerprint", "plain_open_clip", "starts", "metrics")
    return {key: record[key] for key in keys if key in record}
