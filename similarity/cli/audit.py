"""`similarity audit`: who was shown which studies. Only click is imported until it runs."""

import click

from corpus.notices import one_line
from similarity.cli.console import print_json


@click.command()
@click.option("--study", metavar="STUDY_ID", help="Only requests that showed this study.")
@click.option("--actor", metavar="NAME", help="Only requests of this user.")
@click.option("--action", metavar="NAME", help="Only search, view, localize, draft, export, sign-in, …")
@click.option("--since", type=click.DateTime(), help="Only since this time, UTC.")
@click.option("-n", "limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="How many.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def audit(
    study: str | None, actor: str | None, action: str | None, since: object, limit: int, as_json: bool
) -> None:
    """List the requests to the service and the studies shown, newest first.

    Entries are only appended. An erased study appears as a keyed hash.
    """
    import json
    from datetime import UTC, datetime

    from indexer.catalog.audit import Audit
    from indexer.catalog.catalog import Catalog
    from indexer.home import Home

    home = Home.open()
    catalog = Catalog.open(home)
    try:
        entries = Audit(catalog).read(
            study_key=None if study is None else home.keyed("study", study),
            actor=actor,
            action=action,
            since=since.replace(tzinfo=UTC) if isinstance(since, datetime) else None,
            limit=limit,
        )
    finally:
        catalog.close()
    if as_json:
        print_json({"entries": [entry.as_json() for entry in entries]})
        return
    for entry in entries:
        shown = ", ".join(entry.studies[:3]) + (
            f" and {len(entry.studies) - 3} more" if len(entry.studies) > 3 else ""
        )
        detail = json.dumps(dict(entry.detail), ensure_ascii=False) if entry.detail else ""
        line = (
            f"{entry.at:%Y-%m-%d %H:%M:%S}  {entry.actor} ({entry.role})  {entry.action}  {detail}  {shown}"
        )
        click.echo(one_line(line).rstrip())
