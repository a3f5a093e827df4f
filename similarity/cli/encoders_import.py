"""`similarity encoders import`: make an encoder of a checkpoint that someone published."""

from pathlib import Path

import click


@click.command("import")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--as", "name", required=True, metavar="NAME", help="What the encoder is called here.")
@click.option(
    "--kind", type=click.Choice(["openclip", "medclip"]), default="openclip", show_default=True,
    help="What FOLDER holds: open_clip's files, or MedCLIP's checkpoint.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Say how the keys fit; write nothing.")
def import_command(folder: Path, name: str, kind: str, dry_run: bool) -> None:
    """Import the published weights in FOLDER; a BERT text tower's config.json and words lie beside them.

    Code in a checkpoint is never run, and one whose keys do not all find their place is refused.
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
