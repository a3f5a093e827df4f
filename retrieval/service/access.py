"""Who may ask: tokens and their roles, the sessions of browsers, users named by a trusted proxy."""

import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Literal

import sqlalchemy as sa

from corpus.errors import UsageError
from corpus.redaction import redacted
from indexer.catalog.models import SessionRow, TokenRow

TOKEN_PREFIX = "sim_"
PROXY_SKEW_SECONDS = 60
"""How far the clock of a trusted proxy may be from ours, and for how long its signature holds."""


class Role(StrEnum):
    """What somebody may do: look; also index; also see who looked."""

    READER = "reader"
    INDEXER = "indexer"
    ADMIN = "admin"

    def covers(self, needed: "Role") -> bool:
        """Whether this role includes another."""
        order = list(Role)
        return order.index(self) >= order.index(needed)


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks. `name` is what the audit calls them; `via` tells how they proved it."""

    name: str
    role: Role
    via: Literal["token", "session", "proxy"]
    token_id: str | None = None


@redacted
@dataclass(frozen=True, slots=True)
class Token:
    """A token as it is listed: all but the secret, which is shown once, when it is made."""

    token_id: str
    name: str
    role: Role
    created: datetime
    expires: datetime | None
    revoked: datetime | None

    def works(self, now: datetime) -> bool:
        """Whether it still opens anything."""
        return self.revoked is None and (self.expires is None or now < self.expires)


class Tokens:
    """The tokens and sessions of a catalog, for any thread. Nothing is cached: revoked is revoked."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def create(self, role: Role, name: str, days: float | None = None) -> tuple[Token, str]:
        """Make a token; its text is returned once and kept nowhere.

        Args:
            role: what it opens.
            name: whose it is, as the audit will call them.
            days: after how many days it expires; None for never.

        Raises:
            UsageError: the name is empty, or no time is left.
        """
        if not name.strip() or not name.isprintable():
            raise UsageError("a token needs the name of its holder, for the audit: --name")
        if days is not None and not 0 < days <= 36_500:
            raise UsageError(f"a token expires after 0 to 36500 days, not {days:g}")
        now = datetime.now(UTC)
        expires = None if days is None else now + timedelta(days=days)
        token = Token(secrets.token_hex(4), name.strip(), role, now, expires, None)
        secret = secrets.token_urlsafe(32)
        with self._engine.begin() as connection:
            connection.execute(
                sa.insert(TokenRow).values(
                    token_id=token.token_id,
                    name=token.name,
                    role=role.value,
                    digest=_digest(secret),
                    created=now,
                    expires=expires,
                )
            )
        return token, f"{TOKEN_PREFIX}{token.token_id}_{secret}"

    def all(self) -> list[Token]:
        """Every token, oldest first."""
        with self._engine.connect() as connection:
            rows = connection.execute(sa.select(*_TOKEN).order_by(TokenRow.created)).all()
        return [_token(row) for row in rows]

    def revoke(self, token_id: str) -> Token:
        """Let a token open nothing from now on, nor the sessions that it opened.

        Raises:
            UsageError: there is no such token.
        """
        with self._engine.begin() as connection:
            connection.execute(
                sa.update(TokenRow)
                .where(TokenRow.token_id == token_id, TokenRow.revoked.is_(None))
                .values(revoked=datetime.now(UTC))
            )
            connection.execute(sa.delete(SessionRow).where(SessionRow.token_id == token_id))
            row = connection.execute(sa.select(*_TOKEN).where(TokenRow.token_id == token_id)).first()
        if row is None:
            raise UsageError(f"there is no token {token_id!r}: `similarity token list` names them")
        return _token(row)

    def actor_of_token(self, text: str) -> Actor | None:
        """Whose token this is, or None where it opens nothing (any more)."""
        token_id, _, secret = text.removeprefix(TOKEN_PREFIX).partition("_")
        if not text.startswith(TOKEN_PREFIX) or not secret:
            return None
        with self._engine.connect() as connection:
            row = connection.execute(
                sa.select(*_TOKEN, TokenRow.digest).where(TokenRow.token_id == token_id)
            ).first()
        if row is None or not hmac.compare_digest(row.digest, _digest(secret)):
            return None
        token = _token(row)
        if not token.works(datetime.now(UTC)):
            return None
        return Actor(token.name, token.role, "token", token.token_id)

    def open_session(self, token_id: str, hours: float) -> str:
        """Sign a browser in for some hours; the returned cookie is kept nowhere."""
        cookie = secrets.token_urlsafe(32)
        now = datetime.now(UTC)
        with self._engine.begin() as connection:
            connection.execute(sa.delete(SessionRow).where(SessionRow.expires < now))
            connection.execute(
                sa.insert(SessionRow).values(
                    digest=_digest(cookie),
                    token_id=token_id,
                    created=now,
                    expires=now + timedelta(hours=hours),
                )
            )
        return cookie

    def actor_of_session(self, cookie: str) -> Actor | None:
        """Whose session this is, or None where it has ended or its token no longer works."""
        now = datetime.now(UTC)
        with self._engine.connect() as connection:
            row = connection.execute(
                sa.select(*_TOKEN)
                .join(SessionRow, SessionRow.token_id == TokenRow.token_id)
                .where(SessionRow.digest == _digest(cookie), SessionRow.expires > now)
            ).first()
        if row is None or not (token := _token(row)).works(now):
            return None
        return Actor(token.name, token.role, "session", token.token_id)

    def close_session(self, cookie: str) -> None:
        """Sign a browser out."""
        with self._engine.begin() as connection:
            connection.execute(sa.delete(SessionRow).where(SessionRow.digest == _digest(cookie)))


def actor_of_proxy(secret: bytes, method: str, path: str, headers: Mapping[str, str]) -> Actor | None:
    """The user that a trusted proxy names, or None where it names none or its signature is not good.

    The proxy sets `X-Similarity-User`, `-Role`, `-Time` (seconds since 1970) and `-Signature`: the hex
    HMAC-SHA256, with the shared secret, of method, path, user, role and time, joined by line feeds. It must
    take away these headers from what comes to it.
    """
    told = [headers.get(f"x-similarity-{name}", "") for name in ("user", "role", "time", "signature")]
    user, role, moment, signature = told
    if not all(told) or role not in list(Role) or not user.isprintable():
        return None
    message = "\n".join((method, path, user, role, moment)).encode()
    if not hmac.compare_digest(hmac.digest(secret, message, "sha256").hex().encode(), signature.encode()):
        return None
    if not moment.isdecimal() or abs(time.time() - int(moment)) > PROXY_SKEW_SECONDS:
        return None
    return Actor(user, Role(role), "proxy")


_TOKEN = (
    TokenRow.token_id,
    TokenRow.name,
    TokenRow.role,
    TokenRow.created,
    TokenRow.expires,
    TokenRow.revoked,
)


def _digest(secret: str) -> str:
    """Hash of a secret of 256 random bits: nothing to guess, so nothing slow is needed."""
    return hashlib.sha256(secret.encode()).hexdigest()


def in_utc(moment: datetime) -> datetime:
    """A moment as the databases return it, with its zone: SQLite forgets that it is UTC."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _token(row: Any) -> Token:
    expires, revoked = (None if m is None else in_utc(m) for m in (row.expires, row.revoked))
    return Token(row.token_id, row.name, Role(row.role), in_utc(row.created), expires, revoked)
