"""Which servers an index is on, and their URLs, checked before anything is sent.

No message repeats a user, a password or a key, nor any part of a URL that may be one of them.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

from corpus.errors import HomeError
from corpus.settings import settings

DATABASE_SETTING = "SIMILARITY_DATABASE_URL"
QDRANT_SETTING = "SIMILARITY_QDRANT_URL"

QDRANT_PORT = 6333
HTTPS_PORT = 443
POSTGRES_PORT = 5432

QDRANT_EXAMPLE = "write http://host:6333 or https://host, and a comma between the nodes of a cluster"
POSTGRES_EXAMPLE = "write postgresql://user:password@host:5432/database"

_VARIABLE = re.compile(r"\$\{(\w+)[^}]*\}|\$([A-Za-z_]\w*)|%(?![0-9A-Fa-f]{2})([A-Za-z_]\w*)%")
_BRACED = re.compile(r"\$\{\w+[^}]*\}")
_HOST_AND_PORT = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[^:\[\]\s]*)(?P<port>:.*)?")


@dataclass(frozen=True, slots=True)
class Servers:
    """The servers of catalog and vectors. None: in the home.

    `database_url`: of Postgres. `qdrant_url`, `qdrant_api_key`: of Qdrant; of a cluster the URLs of its
    nodes, separated by commas, and their one key. None of them is ever shown.
    """

    database_url: SecretStr | None = None
    qdrant_url: SecretStr | None = None
    qdrant_api_key: SecretStr | None = None

    @classmethod
    def named(
        cls,
        database_url: str | None = None,
        qdrant_url: str | None = None,
        qdrant_api_key: str | None = None,
    ) -> "Servers":
        """Return the servers that are named, and of each other one what the settings have."""
        known = settings()
        return cls(
            known.database_url if database_url is None else SecretStr(database_url),
            known.qdrant_url if qdrant_url is None else SecretStr(qdrant_url),
            known.qdrant_api_key if qdrant_api_key is None else SecretStr(qdrant_api_key),
        )


@dataclass(frozen=True, slots=True)
class QdrantAddress:
    """A Qdrant server. `url`: scheme, host, port and path, no user; `login`: user and password of a proxy in
    front of it, for HTTP basic authentication."""

    url: str
    host: str
    port: int
    login: tuple[str, str] | None = field(default=None, repr=False)


def qdrant_addresses(text: str) -> tuple[QdrantAddress, ...]:
    """Parse the URL of a Qdrant server, or those of the nodes of a cluster, separated by commas.

    Raises:
        HomeError: one of them is not a URL; the message says what is wrong and does not repeat it.
    """
    parts = [part for part in text.split(",") if part.strip()] or [""]
    return tuple(dict.fromkeys(map(qdrant_address, parts)))


def qdrant_name(addresses: Sequence[QdrantAddress]) -> str:
    """Return how messages name a server or a cluster: by its URLs, without a login."""
    return f"Qdrant at {', '.join(address.url for address in addresses)}"


def qdrant_address(text: str) -> QdrantAddress:
    """Parse the URL of a Qdrant server; without a scheme it is http.

    Raises:
        HomeError: it is not one; the message says what is wrong and does not repeat the URL.
    """
    text = text.strip()
    _check(text, QDRANT_SETTING, QDRANT_EXAMPLE)
    scheme, mark, rest = text.partition("://")
    if not mark:
        scheme, rest = "http", text
    scheme = scheme.lower()
    if scheme not in ("http", "https"):
        raise HomeError(f"{QDRANT_SETTING} does not begin with http:// or https://: {QDRANT_EXAMPLE}")
    default = HTTPS_PORT if scheme == "https" else QDRANT_PORT
    host, port = _host_and_port(rest, QDRANT_SETTING, QDRANT_EXAMPLE)
    if not host:
        raise HomeError(f"{QDRANT_SETTING} names no host: {QDRANT_EXAMPLE}")
    parts = urlsplit(f"{scheme}://{rest}")
    if parts.query or parts.fragment:
        raise HomeError(
            f"{QDRANT_SETTING} ends in ?… or #…, which Qdrant does not take: {QDRANT_EXAMPLE}, and give the "
            "key in SIMILARITY_QDRANT_API_KEY"
        )
    path = parts.path.rstrip("/")
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    login = (user, password) if user or password else None
    port = port or default
    return QdrantAddress(f"{scheme}://{host}:{port}{path}", host, port, login)


def check_postgres_url(text: str) -> str:
    """Return the URL of a database as SQLAlchemy reads it; `postgres://` is read as `postgresql://`.

    Raises:
        HomeError: it is not one; the message says what is wrong and does not repeat the URL.
    """
    text = text.strip()
    _check(text, DATABASE_SETTING, POSTGRES_EXAMPLE)
    scheme, mark, rest = text.partition("://")
    backend = scheme.lower().partition("+")[0]
    if not mark:
        raise HomeError(f"{DATABASE_SETTING} is no database URL; {POSTGRES_EXAMPLE}")
    if backend in ("postgres", "postgresql"):
        _host_and_port(rest, DATABASE_SETTING, POSTGRES_EXAMPLE)
        # The driver that is installed, whichever the URL names: others spell the scheme the same.
        return f"postgresql+psycopg://{rest}"
    if backend != "sqlite":
        named = f"names {backend}" if re.fullmatch(r"[a-z0-9]+", backend) else "is no database URL"
        raise HomeError(f"{DATABASE_SETTING} {named}; use postgresql: {POSTGRES_EXAMPLE}")
    return text


def _check(text: str, setting: str, example: str) -> None:
    """Refuse an empty URL, a variable that was not expanded, and a password that is not escaped."""
    if not text:
        raise HomeError(f"{setting} is set, and empty: {example}, or unset it to keep everything in the home")
    rest = text.partition("://")[2] or text
    before, _, after = rest.rpartition("@")
    user, _, password = before.partition(":")
    if _BRACED.search(password):
        raise HomeError(
            f"the password in {setting} is a variable that was not expanded: set it, and quote the URL with "
            "\"…\" rather than '…'"
        )
    if variable := _VARIABLE.search(f"{text[: len(text) - len(rest)]}{user} {after}"):
        name = next(part for part in variable.groups() if part)
        raise HomeError(
            f'the variable {name} in {setting} was not expanded: set it, and quote the URL with "…" '
            "rather than '…'"
        )
    head = re.split(r"[/?#]", rest, maxsplit=1)[0]
    early = before and "@" not in head and not re.search(r"\?.*=", before)
    if "@" in before or early:
        raise HomeError(
            f"the user or password in {setting} holds a sign of its own meaning in a URL: write @ as %40, "
            "/ as %2F, : as %3A, ? as %3F, # as %23"
        )


def _host_and_port(rest: str, setting: str, example: str) -> tuple[str, int | None]:
    """Return host and port of what follows the scheme; None where no port is named.

    Raises:
        HomeError: the port is not a number of 1 to 65535, or the host not a name.
    """
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")[2]
    found = _HOST_AND_PORT.fullmatch(authority)
    if found is None:
        raise HomeError(f"the host in {setting} is no name and no address: {example}")
    if found["port"] is None:
        return found["host"], None
    digits = found["port"][1:]
    if not digits:
        raise HomeError(f"{setting} has a colon and no port behind the host: {example}")
    if not digits.isascii() or not digits.isdecimal() or not 1 <= int(digits) <= 65535:
        raise HomeError(f"the port in {setting} is no number of 1 to 65535: {example}")
    return found["host"], int(digits)
