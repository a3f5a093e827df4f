"""Behind a reverse proxy: who asks, at which address and below which path, where a trusted proxy tells it.

`X-Forwarded-For`, `-Proto`, `-Host`, `-Port` and `-Prefix`, or else `Forwarded` (RFC 7239), count when the
connection comes from an address of `SIMILARITY_TRUSTED_PROXIES`; from anybody else they are ignored. A proxy
may take the path it serves below away, or leave it: both are understood.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from corpus.errors import UsageError

_ROOT = re.compile(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._~-]+)+")
_OWN = ("v1", "web")  # what our own addresses begin with
_HOST = re.compile(r"[A-Za-z0-9._~-]+(:\d{1,5})?|\[[0-9A-Fa-f:.]+\](:\d{1,5})?")
_PAIR = re.compile(r'\s*([A-Za-z]+)=("(?:[^"\\]|\\.)*"|[^\s;,"]+)\s*')
_X_FORWARDED = tuple(f"x-forwarded-{name}" for name in ("for", "proto", "host", "port", "prefix"))
_DEFAULT_PORTS = {"http": "80", "https": "443"}

Networks = Sequence[IPv4Network | IPv6Network]


def networks(text: str) -> Networks:
    """The addresses and networks of `SIMILARITY_TRUSTED_PROXIES`, separated by commas or blanks.

    Raises:
        UsageError: one is none.
    """
    found: list[IPv4Network | IPv6Network] = []
    for name in text.replace(",", " ").split():
        try:
            found.append(ip_network(name, strict=False))
        except ValueError:
            raise UsageError(
                f"SIMILARITY_TRUSTED_PROXIES: {name!r} is no address and no network, such as 10.1.2.3 or "
                "10.0.0.0/8"
            ) from None
    return found


def root_path(text: str) -> str:
    """The path that the page lies below, as `/a/b` or empty.

    Raises:
        UsageError: it is no path, or one of our own addresses begins like it.
    """
    path = f"/{text.strip().strip('/')}".rstrip("/")
    if path and not _may_be_root(path):
        raise UsageError(
            f"the root path {text!r} cannot be one: write letters, digits, - and _ as in /similarity, and "
            f"begin with none of {', '.join(f'/{name}' for name in _OWN)}"
        )
    return path


def _may_be_root(path: str) -> bool:
    """Whether the page can lie below a path: none of our own addresses begins like it."""
    return _ROOT.fullmatch(path) is not None and path.split("/")[1] not in _OWN


@dataclass(frozen=True, slots=True)
class _Hop:
    """What a proxy tells of the request that came to it; None where it tells nothing."""

    client: str | None = None
    scheme: str | None = None
    host: str | None = None
    prefix: str | None = None


class Proxies:
    """ASGI middleware around everything else."""

    def __init__(self, app: ASGIApp, trusted: Networks = (), root: str = "") -> None:
        """Believe these proxies; lie below `root` (see `root_path`) whatever a proxy says."""
        self._app, self._trusted, self._root = app, trusted, root

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on as it was before the proxies changed it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope = dict(scope)
        scope.setdefault("state", {})["received_path"] = scope["path"]
        client = scope.get("client")
        hop = self._told(Headers(scope=scope)) if client and self._trusts(client[0]) else _Hop()
        if hop.client:
            scope["client"] = hop.client, 0
        if hop.scheme:
            scope["scheme"] = hop.scheme
        if hop.host:
            headers = MutableHeaders(raw=list(scope["headers"]))
            headers["host"] = hop.host
            scope["headers"] = headers.raw
        root = self._root or hop.prefix or ""
        if root and scope["path"] == root:
            # The page's links are relative: it has to be read as a folder.
            await Response(status_code=307, headers={"Location": _beside(root)})(scope, receive, send)
            return
        if root:
            _below(scope, root)
        await self._app(scope, receive, _relative(scope, send))

    def _trusts(self, address: str) -> bool:
        try:
            parsed = ip_address(address)
        except ValueError:
            return False
        if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
        return any(parsed in network for network in self._trusted)

    def _told(self, headers: Headers) -> _Hop:
        """What the outermost trusted proxy tells. A proxy that sends `X-Forwarded-…` may pass a `Forwarded`
        on that its client made up: then that is not read."""
        if any(name in headers for name in _X_FORWARDED):
            return self._told_by_x(headers)
        hops = [dict(pairs) for pairs in _elements(headers.getlist("forwarded"))]
        if not hops:
            return _Hop()
        addresses = [_address(hop.get("for", "")) for hop in hops]
        outermost = hops[-self._hops(addresses)]
        return _Hop(
            _address(outermost.get("for", "")),
            _scheme(outermost.get("proto")),
            _host(outermost.get("host"), None, None),
            None,
        )

    def _told_by_x(self, headers: Headers) -> _Hop:
        def listed(name: str) -> list[str]:
            return [part.strip() for value in headers.getlist(name) for part in value.split(",")]

        addresses = [_address(part) for part in listed("x-forwarded-for")]
        hops = self._hops(addresses)

        def chosen(name: str) -> str | None:
            values = listed(name)
            return values[-min(hops, len(values))] if values else None

        scheme = _scheme(chosen("x-forwarded-proto"))
        prefix = (chosen("x-forwarded-prefix") or "").rstrip("/")
        return _Hop(
            addresses[-hops] if addresses else None,
            scheme,
            _host(chosen("x-forwarded-host"), chosen("x-forwarded-port"), scheme),
            prefix if _may_be_root(prefix) else None,
        )

    def _hops(self, addresses: Sequence[str | None]) -> int:
        """How many trusted proxies a request came through: ours, and those that it was told by."""
        hops = 1
        while hops < len(addresses) and self._trusts(addresses[-hops] or ""):
            hops += 1
        return hops


def _elements(values: Iterable[str]) -> list[list[tuple[str, str]]]:
    """The elements of `Forwarded`, one for each proxy, as pairs; none where it is malformed."""
    found: list[list[tuple[str, str]]] = []
    for value in values:
        at, element = 0, list[tuple[str, str]]()
        while pair := _PAIR.match(value, at):
            text = pair[2]
            if text.startswith('"'):
                text = re.sub(r"\\(.)", r"\1", text[1:-1])
            element.append((pair[1].lower(), text))
            at = pair.end()
            sign, at = value[at : at + 1], at + 1
            if sign != ";":
                found.append(element)
                element = []
            if sign not in (";", ","):
                break
        if at <= len(value):
            return []
    return found


def _address(text: str) -> str | None:
    """The address in `for=` or `X-Forwarded-For`, without port and brackets; None where it is hidden."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ip_address(text))
    except ValueError:
        return None


def _scheme(text: str | None) -> str | None:
    scheme = (text or "").lower()
    return scheme if scheme in _DEFAULT_PORTS else None


def _host(text: str | None, port: str | None, scheme: str | None) -> str | None:
    if not text or not _HOST.fullmatch(text):
        return None
    named = text.rpartition("]")[2].count(":") == 1
    if named or not port or not port.isdecimal() or port in (_DEFAULT_PORTS.get(scheme or ""), "80", "443"):
        return text
    return f"{text}:{port}"


def _below(scope: Scope, root: str) -> None:
    """Let a request lie below a path, whether or not the proxy left that in its address."""
    if not scope["path"].startswith(f"{root}/"):
        scope["raw_path"] = root.encode() + (scope.get("raw_path") or scope["path"].encode())
        scope["path"] = root + scope["path"]
    scope["root_path"] = root


def _beside(path: str, folder: bool = True) -> str:
    """The last part of a path as seen from itself: with a slash, or from below without it."""
    name = path.rstrip("/").rpartition("/")[2]
    return f"{name}/" if folder else f"../{name}"


def _relative(scope: Scope, send: Send) -> Send:
    """Redirect from an address to itself with or without its last slash by a relative reference: right below
    any path, behind any host, over http and https."""

    async def answer(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == 307:
            headers = MutableHeaders(scope=message)
            target = urlsplit(headers.get("location", ""))
            if target.path.rstrip("/") == scope["path"].rstrip("/") and target.path.strip("/"):
                query = f"?{target.query}" if target.query else ""
                headers["location"] = _beside(target.path, target.path.endswith("/")) + query
        await send(message)

    return answer
