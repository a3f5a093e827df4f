"""`similarity draft`: the command. Only click is imported until it runs."""

import click

from similarity.cli.console import note, print_json
from similarity.cli.resources import open_index

EPILOG = """\b
Examples:
  similarity draft --image image.dcm
  similarity draft --image image.png --where "view in (pa, ap)" --json

Run `similarity index calibrate` before: it fits the weights of the neighbours' votes on the index.
A draft is made of sentences of other patients' reports: raw material for a reader, never a report."""


@click.command(epilog=EPILOG)
@click.option("--image", metavar="FILE", required=True, help="An image: PNG, JPEG or DICOM.")
@click.option(
    "-k",
    "k",
    type=click.IntRange(1, 1000),
    default=20,
    show_default=True,
    help="Neighbours of each kind that vote.",
)
@click.option("--where", metavar="W", help="Only neighbours that meet this, e.g. 'sex=F and age>=60'.")
@click.option("--subject", metavar="ID", help="Subject of the image: its own studies do not vote.")
@click.option("--no-localize", "blind", is_flag=True, help="Do not localize; ask the reader for every side.")
@click.option("--json", "as_json", is_flag=True, help="Print the draft as JSON.")
def draft(image: str, k: int, where: str | None, subject: str | None, blind: bool, as_json: bool) -> None:
    """Draft a report of an image from its nearest neighbours, with its evidence.

    The neighbours vote on findings; sentences come from their reports, without what this image cannot show.
    A question in brackets is for the reader to answer.
    """
    with open_index() as index:
        from retrieval.draft.draft import draft as make_draft
        from retrieval.draft.draft import localizer

        shows = None if blind else localizer(index)
        made = make_draft(index, image, k=k, where=where, subject=subject, phrase_localizer=shows)
    if as_json:
        print_json(made.as_json(), indent=2)
        return
    click.echo(made.text(), nl=False)
    if made.calibrated_by is None and made.neighbours:
        note("votes are not calibrated: run `similarity index calibrate`")
