"""Authentication and authorisation of a request: bearer token, browser session, or a proxy's signature."""

import logging
from typing import Annotated, cast
from urllib.parse import urlsplit

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyCookie, HTTPAuthorizationCredentials, HTTPBearer

from corpus.settings import settings
from retrieval.service.access import Actor, Role, actor_of_proxy
from retrieval.service.problems import Refused
from retrieval.service.state import State

log = logging.getLogger(__name__)

COOKIE = "similarity_session"
_SIGNATURE = "x-similarity-signature"

_BEARER = HTTPBearer(
    auto_error=False, scheme_name="token", description="A token of `similarity token create`."
)
_SESSION = APIKeyCookie(
    name=COOKIE, auto_error=False, scheme_name="session", description="A signed-in browser."
)


def state_of(request: Request) -> State:
    """Return what the service has open."""
    return cast(State, request.app.state.service)


def request_id_of(request: Request) -> str:
    """Return the id of a request in log and audit."""
    return str(request.state.request_id)


class Requires:
    """A dependency: returns the actor of a request, who has at least this role.

    Raises:
        Refused: 401 without a valid credential, 403 where the role is too low or another site made a
            browser's request, 429 above the rate limit.
    """

    def __init__(self, role: Role) -> None:
        self._role = role

    def __call__(
        self,
        request: Request,
        bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)],
        cookie: Annotated[str | None, Security(_SESSION)],
    ) -> Actor:
        """Authenticate a request and check its role."""
        state = state_of(request)
        token = bearer.credentials if bearer else None
        actor = _actor(state, request, token, cookie)
        if actor is None:
            if not (bearer or cookie or _SIGNATURE in request.headers):
                raise _not_signed_in("Sign in first.")
            if bearer or _SIGNATURE in request.headers:  # not of a session: it has ended, it is no guess
                state.failures.take(request.client.host if request.client else "local")
            raise _not_signed_in("Sign in with a token that works: this one is wrong, expired or revoked.")
        request.state.actor = actor
        request.state.authenticate_again = lambda: _actor(state, request, token, cookie)
        state.limit.take(actor.token_id or actor.name)
        if not actor.role.covers(self._role):
            raise Refused(403, "not-allowed", f"This needs the role {self._role}; yours is {actor.role}.")
        return actor


def _not_signed_in(detail: str) -> Refused:
    return Refused(401, "not-signed-in", detail, {"WWW-Authenticate": "Bearer"})


def still_allowed(request: Request) -> bool:
    """Whether the credential of a request is still valid: for answers that take long."""
    signed = request.state.actor.via == "proxy"  # a signature is valid for its request, not for a time
    return signed or request.state.authenticate_again() is not None


def _actor(state: State, request: Request, bearer: str | None, cookie: str | None) -> Actor | None:
    if bearer is not None:
        return state.tokens.actor_of_token(bearer)
    secret = settings().proxy_secret
    if secret is not None and _SIGNATURE in request.headers:
        key = secret.get_secret_value().encode()
        # A proxy signs the path that it sends, or the one that it received.
        for path in {str(request.state.received_path), str(request.scope["path"])}:
            actor = actor_of_proxy(key, request.method, path, request.headers)
            if actor is not None:
                return actor
        return None
    if cookie is not None:
        require_same_origin(request)
        return state.tokens.actor_of_session(cookie)
    return None


def require_same_origin(request: Request) -> None:
    """Check that a browser's request to change something comes from our own page.

    The cookie is `SameSite=Strict`; this protects browsers that do not know that attribute.

    Raises:
        Refused: 403, the request comes from another site, or names no site.
    """
    if request.method in ("GET", "HEAD"):
        return
    site = request.headers.get("sec-fetch-site")
    host, origin = request.headers.get("host", ""), urlsplit(request.headers.get("origin", ""))
    same = (
        site == "same-origin"
        if site is not None
        else _without_default_port(origin.netloc) == _without_default_port(host) != ""
    )
    if not same:
        log.warning(
            "a browser's request was refused: its page is of %.100r, and it requests %.100r; "
            "behind a proxy, name the proxy in SIMILARITY_TRUSTED_PROXIES and let it send X-Forwarded-Host",
            origin.netloc,
            host,
        )
        raise Refused(403, "other-site", "This request comes from another web site: open the page itself.")


def _without_default_port(host: str) -> str:
    """Return a host without the default port of its scheme: browsers omit it, some proxies do not."""
    return host.lower().removesuffix(":80").removesuffix(":443")


Reader = Annotated[Actor, Depends(Requires(Role.READER))]
Indexer = Annotated[Actor, Depends(Requires(Role.INDEXER))]
Shared = Annotated[State, Depends(state_of)]
RequestId = Annotated[str, Depends(request_id_of)]
