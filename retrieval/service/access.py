"""Access to the service: tokens and their roles, browser sessions, users named by a trusted proxy."""

import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Literal

from corpus.errors import UsageError
from corpus.redaction import redacted
from indexer.catalog.database import Connected
from indexer.catalog.tokens import StoredToken, TokenStore

TOKEN_PREFIX = "sim_"
PROXY_SKEW_SECONDS = 60
"""Largest difference of a trusted proxy's clock from ours, and how long its signature is valid."""


class Role(StrEnum):
    """What a user may do: search; also index; also read the audit log."""

    READER = "reader"
    INDEXER = "indexer"
    ADMIN = "admin"

    def covers(self, needed: "Role") -> bool:
        """Whether this role includes another."""
        order = list(Role)
        return order.index(self) >= order.index(needed)


@dataclass(frozen=True, slots=True)
class Actor:
    """A user of the service. `name`: as the audit log records it. `via`: how the user was authenticated."""

    name: str
    role: Role
    via: Literal["token", "session", "proxy"]
    token_id: str | None = None


@redacted
@dataclass(frozen=True, slots=True)
class Token:
    """A token as it is listed: without its secret, which is shown once, when it is created."""

    token_id: str
    name: str
    role: Role
    created: datetime
    expires: datetime | None
    revoked: datetime | None

    def works(self, now: datetime) -> bool:
        """Return whether it is neither revoked nor expired."""
        return self.revoked is None and (self.expires is None or now < self.expires)


class Tokens:
    """The tokens and sessions of a catalog, for any thread. Nothing is cached: revocation is immediate."""

    def __init__(self, catalog: Connected) -> None:
        """Use this catalog's database."""
        self._stored = TokenStore(catalog)

    def create(self, role: Role, name: str, days: float | None = None) -> tuple[Token, str]:
        """Create a token; return it with its text, which is stored nowhere.

        Args:
            role: what its holder may do.
            name: of the holder, as the audit log records it.
            days: after how many days it expires; None for never.

        Raises:
            UsageError: the name is empty, or `days` out of range.
        """
        if not name.strip() or not name.isprintable():
            raise UsageError("a token needs the name of its holder, for the audit: --name")
        if days is not None and not 0 < days <= 36_500:
            raise UsageError(f"a token expires after 0 to 36500 days, not {days:g}")
        now = datetime.now(UTC)
        expires = None if days is None else now + timedelta(days=days)
        token = Token(secrets.token_hex(4), name.strip(), role, now, expires, None)
        secret = secrets.token_urlsafe(32)
        self._stored.add(StoredToken(token.token_id, token.name, role.value, _digest(secret), now, expires))
        return token, f"{TOKEN_PREFIX}{token.token_id}_{secret}"

    def all(self) -> list[Token]:
        """Return every token, oldest first."""
        return [_token(stored) for stored in self._stored.all()]

    def revoke(self, token_id: str) -> Token:
        """Revoke a token and end the sessions that it opened.

        Raises:
            UsageError: there is no such token.
        """
        revoked = self._stored.revoke(token_id, datetime.now(UTC))
        if revoked is None:
            raise UsageError(f"there is no token {token_id!r}: `similarity token list` names them")
        return _token(revoked)

    def actor_of_token(self, text: str) -> Actor | None:
        """Return the holder of a token; None where it is unknown, revoked or expired."""
        token_id, _, secret = text.removeprefix(TOKEN_PREFIX).partition("_")
        if not text.startswith(TOKEN_PREFIX) or not secret:
            return None
        stored = self._stored.find(token_id)
        if stored is None or not hmac.compare_digest(stored.digest, _digest(secret)):
            return None
        token = _token(stored)
        if not token.works(datetime.now(UTC)):
            return None
        return Actor(token.name, token.role, "token", token.token_id)

    def open_session(self, token_id: str, hours: float) -> str:
        """Sign a browser in for some hours; the returned cookie is stored nowhere."""
        cookie = secrets.token_urlsafe(32)
        now = datetime.now(UTC)
        self._stored.add_session(_digest(cookie), token_id, now, now + timedelta(hours=hours))
        return cookie

    def actor_of_session(self, cookie: str) -> Actor | None:
        """Return the holder of a session; None where it ended or its token no longer works."""
        now = datetime.now(UTC)
        stored = self._stored.token_of_session(_digest(cookie), now)
        if stored is None or not (token := _token(stored)).works(now):
            return None
        return Actor(token.name, token.role, "session", token.token_id)

    def close_session(self, cookie: str) -> None:
        """Sign a browser out."""
        self._stored.delete_session(_digest(cookie))


def actor_of_proxy(secret: bytes, method: str, path: str, headers: Mapping[str, str]) -> Actor | None:
    """Return the user that a trusted proxy names; None where it names none or its signature is wrong.

    The proxy sets `X-Similarity-User`, `-Role`, `-Time` (seconds since 1970) and `-Signature`: the hex
    HMAC-SHA256, with the shared secret, of method, path, user, role and time, joined by line feeds. It must
    remove these headers from the requests that reach it.
    """
    values = [headers.get(f"x-similarity-{name}", "") for name in ("user", "role", "time", "signature")]
    user, role, moment, signature = values
    if not all(values) or role not in list(Role) or not user.isprintable():
        return None
    message = "\n".join((method, path, user, role, moment)).encode()
    if not hmac.compare_digest(hmac.digest(secret, message, "sha256").hex().encode(), signature.encode()):
        return None
    if not moment.isdecimal() or abs(time.time() - int(moment)) > PROXY_SKEW_SECONDS:
        return None
    return Actor(user, Role(role), "proxy")


def _digest(secret: str) -> str:
    """Hash a secret. It has 256 random bits and cannot be guessed, so a fast hash is enough."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _token(stored: StoredToken) -> Token:
    return Token(
        stored.token_id, stored.name, Role(stored.role), stored.created, stored.expires, stored.revoked
    )
