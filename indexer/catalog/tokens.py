"""Tokens of the service and the browser sessions that they opened: hashes of secrets, never secrets."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from corpus.redaction import redacted
from indexer.catalog.database import Connected, in_utc
from indexer.catalog.models import SessionRow, TokenRow


@redacted
@dataclass(frozen=True, slots=True)
class StoredToken:
    """A row of the tokens. `digest`: SHA-256 of the secret (64 hex). Moments are in UTC."""

    token_id: str
    name: str
    role: str
    digest: str
    created: datetime
    expires: datetime | None = None
    revoked: datetime | None = None


class TokenStore:
    """Tokens and sessions of a catalog. Threads may share it; nothing is cached."""

    def __init__(self, catalog: Connected) -> None:
        """Use this catalog's database."""
        self._engine = catalog.engine

    def add(self, token: StoredToken) -> None:
        """Add a token."""
        with self._engine.begin() as connection:
            connection.execute(
                sa.insert(TokenRow).values(
                    token_id=token.token_id,
                    name=token.name,
                    role=token.role,
                    digest=token.digest,
                    created=token.created,
                    expires=token.expires,
                )
            )

    def all(self) -> list[StoredToken]:
        """Return every token, oldest first."""
        with self._engine.connect() as connection:
            rows = connection.execute(sa.select(*_TOKEN).order_by(TokenRow.created)).all()
        return [_token(row) for row in rows]

    def find(self, token_id: str) -> StoredToken | None:
        """Return a token, or None."""
        with self._engine.connect() as connection:
            row = connection.execute(sa.select(*_TOKEN).where(TokenRow.token_id == token_id)).first()
        return None if row is None else _token(row)

    def has_unrevoked(self) -> bool:
        """Return whether any token was not revoked."""
        with self._engine.connect() as connection:
            return bool(connection.scalar(sa.select(sa.exists().where(TokenRow.revoked.is_(None)))))

    def revoke(self, token_id: str, moment: datetime) -> StoredToken | None:
        """Revoke a token and delete its sessions; return it, or None."""
        with self._engine.begin() as connection:
            connection.execute(
                sa.update(TokenRow)
                .where(TokenRow.token_id == token_id, TokenRow.revoked.is_(None))
                .values(revoked=moment)
            )
            connection.execute(sa.delete(SessionRow).where(SessionRow.token_id == token_id))
            row = connection.execute(sa.select(*_TOKEN).where(TokenRow.token_id == token_id)).first()
        return None if row is None else _token(row)

    def add_session(self, digest: str, token_id: str, created: datetime, expires: datetime) -> None:
        """Add a session by the SHA-256 of its cookie, and delete those that expired."""
        with self._engine.begin() as connection:
            connection.execute(sa.delete(SessionRow).where(SessionRow.expires < created))
            values = {"digest": digest, "token_id": token_id, "created": created, "expires": expires}
            connection.execute(sa.insert(SessionRow).values(**values))

    def token_of_session(self, digest: str, now: datetime) -> StoredToken | None:
        """Return the token that opened a session; None where the session ended or does not exist."""
        with self._engine.connect() as connection:
            row = connection.execute(
                sa.select(*_TOKEN)
                .join(SessionRow, SessionRow.token_id == TokenRow.token_id)
                .where(SessionRow.digest == digest, SessionRow.expires > now)
            ).first()
        return None if row is None else _token(row)

    def delete_session(self, digest: str) -> None:
        """Delete a session, if it exists."""
        with self._engine.begin() as connection:
            connection.execute(sa.delete(SessionRow).where(SessionRow.digest == digest))


_TOKEN = (
    TokenRow.token_id,
    TokenRow.name,
    TokenRow.role,
    TokenRow.digest,
    TokenRow.created,
    TokenRow.expires,
    TokenRow.revoked,
)


def _token(row: Any) -> StoredToken:
    expires, revoked = (None if m is None else in_utc(m) for m in (row.expires, row.revoked))
    return StoredToken(row.token_id, row.name, row.role, row.digest, in_utc(row.created), expires, revoked)
