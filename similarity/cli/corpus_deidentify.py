"""`similarity corpus deidentify`: what would be taken out of a source's reports, for a person to review."""

import click

from corpus.printable import one_line
from similarity.cli.source_options import SourceOptions, source_options


@click.command()
@click.argument("source")
@source_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def deidentify(source: str, options: SourceOptions, as_json: bool) -> None:
    """List what is taken out of SOURCE's reports before they are indexed: kind, text, and what is around it.

    The listing holds what it takes out: keep it as you keep the reports. Rules find names by a title, a label
    or a degree beside them; look through reports whose names stand alone.
    """
    import json

    from corpus.language.deidentify import taken
    from corpus.records import Problem

    problems: list[Problem] = []
    opened = options.open(source)
    read = touched = 0
    found = []
    for study in opened.studies(problems.append):
        read += study.report is not None
        spans = list(taken(study))
        touched += bool(spans)
        found += spans
    if as_json:
        spans_json = [span.as_json() for span in found]
        click.echo(
            json.dumps({"source": opened.name, "reports": read, "touched": touched, "taken": spans_json})
        )
        return
    for span in found:
        around = f"{span.before}[{span.text}]{span.after}"
        click.echo(f"{span.kind:<11}{one_line(span.report_id)}  {one_line(around)}")
    click.echo(f"{len(found):,} taken out of {touched:,} of {read:,} reports", err=True)
