"""Who asks a route, and whether they may: bearer token, browser session, or a proxy's signed word."""

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
    name=COOKIE, auto_error=False, scheme_name="session", description="A browser that was signed in."
)


def state_of(request: Request) -> State:
    """What the service holds open."""
    return cast(State, request.app.state.service)


def request_id_of(request: Request) -> str:
    """The id under which log and audit know this request."""
    return str(request.state.request_id)


class Requires:
    """A dependency: the actor, who has at least this role.

    Raises:
        Refused: 401 where nobody is named or the token no longer works, 403 where the role does not reach or
            a browser was sent here by another site, 429 where they ask too often.
    """

    def __init__(self, role: Role) -> None:
        self._role = role

    def __call__(
        self,
        request: Request,
        bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)],
        cookie: Annotated[str | None, Security(_SESSION)],
    ) -> Actor:
        """Find out who asks."""
        state = state_of(request)
        shown = bearer.credentials if bearer else None
        actor = _actor(state, request, shown, cookie)
        if actor is None:
            if not (bearer or cookie or _SIGNATURE in request.headers):
                raise _not_signed_in("Sign in first.")
            if bearer or _SIGNATURE in request.headers:  # no one guesses a session: it has ended
                state.failures.take(request.client.host if request.client else "local")
            raise _not_signed_in("Sign in with a token that works: this one is wrong, expired or revoked.")
        request.state.actor = actor
        request.state.ask_again = lambda: _actor(state, request, shown, cookie)
        state.limit.take(actor.token_id or actor.name)
        if not actor.role.covers(self._role):
            raise Refused(403, "not-allowed", f"This needs the role {self._role}; yours is {actor.role}.")
        return actor


def _not_signed_in(detail: str) -> Refused:
    return Refused(401, "not-signed-in", detail, {"WWW-Authenticate": "Bearer"})


def still_allowed(request: Request) -> bool:
    """Whether what opened a request would still open it: for answers that go on for long."""
    proven = request.state.actor.via == "proxy"  # a signature holds for its request, not for a clock
    return proven or request.state.ask_again() is not None


def _actor(state: State, request: Request, bearer: str | None, cookie: str | None) -> Actor | None:
    if bearer is not None:
        return state.tokens.actor_of_token(bearer)
    secret = settings().proxy_secret
    if secret is not None and _SIGNATURE in request.headers:
        key = secret.get_secret_value().encode()
        # A proxy signs the path that it sends, or the one that it was asked for.
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
    """Let a browser change something only from our own page.

    The cookie is `SameSite=Strict`; this stands behind it, for browsers that do not know that.

    Raises:
        Refused: the request comes from another site, or does not say where from.
    """
    if request.method in ("GET", "HEAD"):
        return
    site = request.headers.get("sec-fetch-site")
    host, origin = request.headers.get("host", ""), urlsplit(request.headers.get("origin", ""))
    same = site == "same-origin" if site is not None else _plain(origin.netloc) == _plain(host) != ""
    if not same:
        log.warning(
            "a browser's request was refused: its page is of %.100r, and it asks for %.100r; "
            "behind a proxy, name the proxy in SIMILARITY_TRUSTED_PROXIES and let it send X-Forwarded-Host",
            origin.netloc,
            host,
        )
        raise Refused(403, "other-site", "This was asked by another web site: open the page itself.")


def _plain(host: str) -> str:
    """A host without the port that its scheme has by default: browsers leave it out, some proxies do not."""
    return host.lower().removesuffix(":80").removesuffix(":443")


Reader = Annotated[Actor, Depends(Requires(Role.READER))]
Indexer = Annotated[Actor, Depends(Requires(Role.INDEXER))]
Admin = Annotated[Actor, Depends(Requires(Role.ADMIN))]
Shared = Annotated[State, Depends(state_of)]
RequestId = Annotated[str, Depends(request_id_of)]
