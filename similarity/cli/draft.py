"""`similarity draft`: the command. Only click is imported until it runs."""

import click

EPILOG = """\b
Examples:
  similarity draft --image film.dcm
  similarity draft --image film.png --where "view in (pa, ap)" --json

Run `similarity index calibrate` before: it learns from the index's own films what the neighbours' votes are
worth. A draft is made of other people's sentences: it is raw material for a reader, never a report."""


@click.command(epilog=EPILOG)
@click.option("--image", metavar="FILE", required=True, help="A film: PNG, JPEG or DICOM.")
@click.option(
    "-k", "k", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many of each kind vote."
)
@click.option("--where", metavar="W", help="Only neighbours that meet this, e.g. 'sex=F and age>=60'.")
@click.option("--subject", metavar="ID", help="Whose film it is: that subject's own studies do not vote.")
@click.option("--no-localize", "blind", is_flag=True, help="Look for nothing in the film; ask every side.")
@click.option("--json", "as_json", is_flag=True, help="Print the draft as JSON.")
def draft(image: str, k: int, where: str | None, subject: str | None, blind: bool, as_json: bool) -> None:
    """Draft a report of a film from its nearest neighbours, with its evidence.

    Findings are voted by the neighbours; sentences come from their reports, without anything that this film
    cannot show. What stands in brackets with a question mark is for the reader to answer.
    """
    import json

    from indexer.index import Index

    with Index.open(on_wait=lambda note: click.echo(note, err=True)) as index:
        index.active_version  # noqa: B018  an empty index is told before the encoder is loaded
        from retrieval.draft.draft import draft as make_draft
        from retrieval.draft.draft import localizer

        shows = None if blind else localizer(index)
        made = make_draft(index, image, k=k, where=where, subject=subject, localizing=shows)
    if as_json:
        click.echo(json.dumps(made.as_json(), indent=2, ensure_ascii=False))
        return
    click.echo(made.text(), nl=False)
    if made.calibrated_by is None and made.neighbours:
        click.echo("votes are not calibrated: run `similarity index calibrate`", err=True)
