"""`similarity doctor`: the command. Only click is imported until it runs."""

import click

from similarity.cli.console import print_json


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def doctor(as_json: bool) -> None:
    """Check everything the program needs: what is wrong and what to do. Exit with 1 on a fault."""
    from retrieval.doctor import examine

    checks = list(examine())
    well = all(check.state != "fault" for check in checks)
    if as_json:
        print_json({"well": well, "checks": [check.as_json() for check in checks]})
    else:
        for check in checks:
            advice = f": {check.advice}" if check.advice else ""
            click.echo(f"{check.state:<6}{check.name:<17} {check.result}{advice}")
    if not well:
        raise SystemExit(1)
