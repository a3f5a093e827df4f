"""`similarity doctor`: the command. Only click is imported until it runs."""

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def doctor(as_json: bool) -> None:
    """Look at everything the program needs, and say what is wrong and what to do; exit with 1 on a fault."""
    import json

    from retrieval.doctor import examine

    checks = list(examine())
    well = all(check.state != "fault" for check in checks)
    if as_json:
        click.echo(json.dumps({"well": well, "checks": [check.as_json() for check in checks]}))
    else:
        for check in checks:
            advice = f": {check.advice}" if check.advice else ""
            click.echo(f"{check.state:<6}{check.name:<18}{check.told}{advice}")
    if not well:
        raise SystemExit(1)
