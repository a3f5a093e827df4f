"""Reverse proxies: the client, host, scheme and path prefix of a request, as a trusted proxy forwards them.

`X-Forwarded-For`, `-Proto`, `-Host`, `-Port` and `-Prefix`, or else `Forwarded` (RFC 7239), are read when the
connection comes from an address of `SIMILARITY_TRUSTED_PROXIES`; from other addresses they are ignored. A
proxy may strip the prefix from the path or leave it: both work.
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
_OWN_PREFIXES = ("v1", "web")  # first parts of the service's own paths
_HOST = re.compile(r"[A-Za-z0-9._~-]+(:\d{1,5})?|\[[0-9A-Fa-f:.]+\](:\d{1,5})?")
_PAIR = re.compile(r'\s*([A-Za-z]+)=("(?:[^"\\]|\\.)*"|[^\s;,"]+)\s*')
_X_FORWARDED = tuple(f"x-forwarded-{name}" for name in ("for", "proto", "host", "port", "prefix"))
_DEFAULT_PORTS = {"http": "80", "https": "443"}

Networks = Sequence[IPv4Network | IPv6Network]


def networks(text: str) -> Networks:
    """Parse `SIMILARITY_TRUSTED_PROXIES`: addresses and networks, separated by commas or blanks.

    Raises:
        UsageError: one is neither an address nor a network.
    """
    found: list[IPv4Network | IPv6Network] = []
    for name in text.replace(",", " ").split():
        try:
            found.append(ip_network(name, strict=False))
        except ValueError:
            raise UsageError(
                f"SIMILARITY_TRUSTED_PROXIES: {name!r} is neither an address nor a network, such as "
                "10.1.2.3 or 10.0.0.0/8"
            ) from None
    return found


def root_path(text: str) -> str:
    """Parse the path below which the page is served; returns `/a/b` or the empty string.

    Raises:
        UsageError: it is malformed, or begins like a path of the service itself.
    """
    path = f"/{text.strip().strip('/')}".rstrip("/")
    if path and not _may_be_root(path):
        raise UsageError(
            f"the root path {text!r} cannot be used: write letters, digits, - and _ as in /similarity, and "
            f"begin with none of {', '.join(f'/{name}' for name in _OWN_PREFIXES)}"
        )
    return path


def _may_be_root(path: str) -> bool:
    """Whether the page can be served below a path: no path of the service begins like it."""
    return _ROOT.fullmatch(path) is not None and path.split("/")[1] not in _OWN_PREFIXES


@dataclass(frozen=True, slots=True)
class _Hop:
    """What a proxy forwards of the request that it received; None where it forwards nothing."""

    client: str | None = None
    scheme: str | None = None
    host: str | None = None
    prefix: str | None = None


class ProxyMiddleware:
    """ASGI middleware around the whole application: restores a request as it was before the proxies."""

    def __init__(self, app: ASGIApp, trusted: Networks = (), root: str = "") -> None:
        """Trust these proxies; serve below `root` (see `root_path`) whatever a proxy forwards."""
        self._app, self._trusted, self._root = app, trusted, root

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on as its client sent it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope = dict(scope)
        scope.setdefault("state", {})["received_path"] = scope["path"]
        client = scope.get("client")
        hop = self._forwarded(Headers(scope=scope)) if client and self._trusts(client[0]) else _Hop()
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
            # The page's links are relative: its address has to end with a slash.
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

    def _forwarded(self, headers: Headers) -> _Hop:
        """Return what the outermost trusted proxy forwards.

        A proxy that sends `X-Forwarded-…` may pass on a `Forwarded` that its client forged: it is not read.
        """
        if any(name in headers for name in _X_FORWARDED):
            return self._x_forwarded(headers)
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

    def _x_forwarded(self, headers: Headers) -> _Hop:
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
        """Return how many trusted proxies a request came through: the last one, and those before it."""
        hops = 1
        while hops < len(addresses) and self._trusts(addresses[-hops] or ""):
            hops += 1
        return hops


def _elements(values: Iterable[str]) -> list[list[tuple[str, str]]]:
    """Return the elements of `Forwarded`, one for each proxy, as pairs; none where it is malformed."""
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
    """Return the address in `for=` or `X-Forwarded-For` without port and brackets; None where hidden."""
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
    """Place a request below a prefix, whether or not the proxy stripped it."""
    if not scope["path"].startswith(f"{root}/"):
        scope["raw_path"] = root.encode() + (scope.get("raw_path") or scope["path"].encode())
        scope["path"] = root + scope["path"]
    scope["root_path"] = root


def _beside(path: str, folder: bool = True) -> str:
    """Return the last part of a path relative to itself: with a slash, or from below without it."""
    name = path.rstrip("/").rpartition("/")[2]
    return f"{name}/" if folder else f"../{name}"


def _relative(scope: Scope, send: Send) -> Send:
    """Make redirects between an address with and without its last slash relative.

    They are then right below any prefix, behind any host, over http and https.
    """

    async def answer(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == 307:
            headers = MutableHeaders(scope=message)
            target = urlsplit(headers.get("location", ""))
            if target.path.rstrip("/") == scope["path"].rstrip("/") and target.path.strip("/"):
                query = f"?{target.query}" if target.query else ""
                headers["location"] = _beside(target.path, target.path.endswith("/")) + query
        await send(message)

    return answer
