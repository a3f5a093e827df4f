"""`similarity encoders`: which encoders there are, and what they are."""

import json
from typing import Any

import click

from similarity.cli.encoders_import import import_command
from similarity.cli.encoders_pull import echo_known, known_rows, pull_command


@click.group()
def encoders() -> None:
    """List encoders and look into them."""


encoders.add_command(pull_command)
encoders.add_command(import_command)


@encoders.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def list_command(as_json: bool) -> None:
    """Name the encoders under the home, what is published, and the shapes that can be trained."""
    from trainer.models.registry import (
        describe_encoder,
        encoder_folders,
        find_architecture,
        list_architectures,
    )

    known = [describe_encoder(folder) for folder in encoder_folders()]
    shapes = [find_architecture(name) for name in list_architectures()]
    if as_json:
        rows = [_summary(record) for record in known]
        table = [{"name": shape.name, "note": shape.note} for shape in shapes]
        click.echo(json.dumps({"encoders": rows, "known": known_rows(), "architectures": table}, indent=2))
        return
    for record in known:
        click.echo(f"{record.get('name')}\t{str(record.get('fingerprint', ''))[:8]}\t{record['path']}")
    if not known:
        click.echo("no encoder yet; `similarity train` makes one", err=True)
    echo_known()
    click.echo("architectures:")
    for shape in shapes:
        click.echo(f"  {shape.name}\t{shape.note}")


@encoders.command("inspect")
@click.argument("encoder", metavar="NAME|DIR")
@click.option("--json", "as_json", is_flag=True, help="The whole record as JSON.")
def inspect_command(encoder: str, as_json: bool) -> None:
    """Check that an encoder is whole and unedited, and say what it is."""
    from trainer.models.registry import find_encoder
    from trainer.runtime.encoder_folder import fingerprint, verify

    folder = find_encoder(encoder)
    record = verify(folder)
    record["fingerprint"] = fingerprint(folder, record["files"])
    if as_json:
        click.echo(json.dumps({"path": str(folder), **record}, indent=2, ensure_ascii=False))
        return
    for key, value in _summary({"path": str(folder), **record}).items():
        click.echo(f"{key}\t{json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value}")
    for row in record.get("data", []):
        click.echo(
            f"trained on\t{row['source']}: {row['pictures']} pictures, {row['texts']} texts, "
            f"{row['subjects']} subjects"
        )


def _summary(record: dict[str, Any]) -> dict[str, Any]:
    keys = ("name", "path", "architecture", "fingerprint", "plain_open_clip", "starts", "metrics")
    return {key: record[key] for key in keys if key in record}
