"""`similarity token`: access tokens of the service. Only click is imported until a command runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from similarity.cli.console import note, print_json
from similarity.cli.resources import open_catalog

if TYPE_CHECKING:
    from retrieval.service.access import Tokens


@click.group()
def token() -> None:
    """Create, list and revoke access tokens of the service."""


@token.command()
@click.option(
    "--role", type=click.Choice(["reader", "indexer", "admin"]), required=True, help="What it permits."
)
@click.option("--name", required=True, help="The user, as the audit records it.")
@click.option("--days", type=float, help="Days until it expires (default: never).")
def create(role: str, name: str, days: float | None) -> None:
    """Create a token. It is shown once; only its hash is stored."""
    from retrieval.service.access import Role

    with _tokens() as tokens:
        made, text = tokens.create(Role(role), name, days)
    click.echo(text)
    until = "until it is revoked" if made.expires is None else f"until {made.expires:%Y-%m-%d %H:%M} UTC"
    note(f"token {made.token_id} of {made.name} ({made.role}) is valid {until}")


@token.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def list_tokens(as_json: bool) -> None:
    """List the tokens, without their secrets."""
    from datetime import UTC, datetime

    with _tokens() as tokens:
        known = tokens.all()
    now = datetime.now(UTC)
    rows = [
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
        print_json({"tokens": rows})
        return
    for row in rows:
        state = "works" if row["works"] else "revoked" if row["revoked"] else "expired"
        click.echo(f"{row['token_id']}  {row['role']:<8}{state:<9}{row['created'][:10]}  {row['name']}")  # type: ignore[index]


@token.command()
@click.argument("token_id")
def revoke(token_id: str) -> None:
    """Revoke a token, and sign out the browsers that signed in with it."""
    with _tokens() as tokens:
        revoked = tokens.revoke(token_id)
    click.echo(f"token {revoked.token_id} of {revoked.name} is revoked")


@contextmanager
def _tokens() -> "Iterator[Tokens]":
    from retrieval.service.access import Tokens

    with open_catalog() as catalog:
        yield Tokens(catalog)
