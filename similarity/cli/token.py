"""`similarity token`: who may use the service. Only click is imported until a command runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from retrieval.service.access import Tokens


@click.group()
def token() -> None:
    """Make, list and revoke the tokens of the service."""


@token.command()
@click.option(
    "--role", type=click.Choice(["reader", "indexer", "admin"]), required=True, help="What it opens."
)
@click.option("--name", required=True, help="Whose it is: the audit calls them so.")
@click.option("--days", type=float, help="Let it expire after so many days.")
def create(role: str, name: str, days: float | None) -> None:
    """Make a token. It is shown this once; only its hash is kept."""
    from retrieval.service.access import Role

    with _tokens() as tokens:
        made, text = tokens.create(Role(role), name, days)
    click.echo(text)
    until = "until it is revoked" if made.expires is None else f"until {made.expires:%Y-%m-%d %H:%M} UTC"
    click.echo(f"token {made.token_id} of {made.name} ({made.role}) works {until}", err=True)


@token.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def list_tokens(as_json: bool) -> None:
    """List the tokens, without their secrets."""
    import json
    from datetime import UTC, datetime

    with _tokens() as tokens:
        known = tokens.all()
    now = datetime.now(UTC)
    told = [
        {
            "token_id": each.token_id,
            "name": each.name,
            "role": each.role.value,
            "created": each.created.isoformat(timespec="seconds"),
            "expires": each.expires and each.expires.isoformat(timespec="seconds"),
            "revoked": each.revoked and each.revoked.isoformat(timespec="seconds"),
            "works": each.works(now),
        }
        for each in known
    ]
    if as_json:
        click.echo(json.dumps({"tokens": told}, ensure_ascii=False))
        return
    for row in told:
        state = "works" if row["works"] else "revoked" if row["revoked"] else "expired"
        click.echo(f"{row['token_id']}  {row['role']:<8}{state:<9}{row['created'][:10]}  {row['name']}")  # type: ignore[index]


@token.command()
@click.argument("token_id")
def revoke(token_id: str) -> None:
    """Let a token open nothing from now on, nor the browsers signed in with it."""
    with _tokens() as tokens:
        revoked = tokens.revoke(token_id)
    click.echo(f"token {revoked.token_id} of {revoked.name} is revoked")


@contextmanager
def _tokens() -> "Iterator[Tokens]":
    from indexer.catalog.database import open_database
    from indexer.home import Home
    from retrieval.service.access import Tokens

    engine = open_database(Home.open())
    try:
        yield Tokens(engine)
    finally:
        engine.dispose()
