"""Failures of calls to a Qdrant server, a sentence each: the client's own messages fill a screen."""

import json
import re
import socket
import ssl
from collections.abc import Collection, Iterator
from urllib.request import getproxies

import httpx
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from corpus.errors import IndexingError, MissingCollection, ServerUnavailable, SimilarityError
from corpus.notices import one_line
from indexer.servers import QDRANT_SETTING

KEY_SETTING = "SIMILARITY_QDRANT_API_KEY"
_LONGEST = 200  # characters of the server's own words
_AWAY = (429, 500, 502, 503, 504)
_GATEWAY = (502, 503, 504)
_PASSING = (429, *_GATEWAY)


def explain(error: Exception, name: str) -> SimilarityError | None:
    """Return our error for a client's error; None where the error is not of a server.

    Args:
        error: what the call raised.
        name: of the server, for messages.
    """
    if isinstance(error, UnexpectedResponse):
        return _of_status(error, name)
    if isinstance(error, ResourceExhaustedResponse):
        return _unavailable(f"{name} is overloaded (429)", away=True)
    if isinstance(error, ResponseHandlingException):
        return _of_transport(error.source, name)
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError | AssertionError):
        return _no_qdrant(name)
    return None


def no_collection(collection: str, server: str, others: Collection[str]) -> MissingCollection:
    """Return the error for a collection that is not there.

    Args:
        collection: its name.
        server: the server's name, for the message.
        others: the index's other collections there. Where it has none, the server may be another than the
            one that was filled.
    """
    if others:
        return MissingCollection(
            f"there is no collection {collection} on {server}: run `similarity index add` again"
        )
    return MissingCollection(
        f"{server} holds no vectors of this index (there is no collection {collection}): look at "
        f"{QDRANT_SETTING}, restore a backup, or run `similarity index add` again"
    )


def timed_out(error: Exception) -> bool:
    """Return whether a call failed by its time limit."""
    return isinstance(error, ResponseHandlingException) and isinstance(error.source, httpx.TimeoutException)


def passing(error: Exception) -> bool:
    """Return whether a request that got no answer may get one on another node, or soon."""
    failed = explain(error, "")
    return isinstance(failed, ServerUnavailable) and failed.away


def passing_status(status: int) -> bool:
    """Return whether an answer says that another node, or the same one soon, may answer otherwise."""
    return status in _PASSING


def _of_status(error: UnexpectedResponse, name: str) -> SimilarityError:
    status, words = error.status_code or 0, _words(error.content)
    look = f"look at {QDRANT_SETTING}"
    if status in (401, 403):
        return _unavailable(f"{name} refuses the key ({status}): look at {KEY_SETTING}")
    if status == 407:
        return _unavailable(f"a proxy before {name} wants a login (407){_proxy_advice()}")
    if words is None and status == 400 and b"HTTPS" in error.content:
        return _unavailable(f"{name} speaks TLS: write https:// in {QDRANT_SETTING}")
    if words is None and status in _GATEWAY:
        problem = f"a proxy answers for {name}, which it cannot reach itself ({status})"
        return _unavailable(f"{problem}: start Qdrant, or {look}{_proxy_advice()}", away=True)
    if words is None:
        return _unavailable(
            f"what answers as {name} is no Qdrant (status {status}): {look}{_proxy_advice()}",
            away=status in _AWAY,
        )
    if status in _AWAY:
        return _unavailable(f"{name} cannot answer now ({status}): {words}", away=True)
    return IndexingError(f"{name} refuses the request ({status}): {words}")


def _of_transport(error: Exception, name: str) -> ServerUnavailable:
    look = f"look at {QDRANT_SETTING}"
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            why = one_line(cause.verify_message or "it cannot be verified")[:_LONGEST]
            return _unavailable(
                f"the certificate of {name} is not trusted ({why}): name its authority in SSL_CERT_FILE"
            )
        if isinstance(cause, ssl.SSLError) and "WRONG_VERSION" in str(cause):
            return _unavailable(f"{name} speaks no TLS: write http:// in {QDRANT_SETTING}")
        if isinstance(cause, ssl.SSLError):
            return _unavailable(f"there is no TLS connection with {name}: {look}")
        if isinstance(cause, socket.gaierror):
            return _unavailable(f"the host of {name} is not known: {look}", away=True)
    if isinstance(error, httpx.ProxyError):
        return _unavailable(f"a proxy does not let {name} be reached{_proxy_advice()}", away=True)
    if isinstance(error, httpx.TimeoutException):
        return _unavailable(
            f"{name} does not answer in time: see that it runs and is not overloaded, or {look}", away=True
        )
    if isinstance(error, httpx.RemoteProtocolError | httpx.ReadError):
        return _unavailable(
            f"{name} hangs up, or speaks no HTTP: if it runs, write https:// where it has a certificate, and "
            f"the port of REST (6333), not of gRPC (6334), in {QDRANT_SETTING}",
            away=True,
        )
    if isinstance(error, httpx.TransportError):
        why = _reason(error)
        return _unavailable(f"{name} does not answer ({why}): start it, or {look}", away=True)
    return _no_qdrant(name)


def _no_qdrant(name: str) -> ServerUnavailable:
    return _unavailable(f"what answers as {name} is no Qdrant: look at {QDRANT_SETTING}{_proxy_advice()}")


def _unavailable(message: str, *, away: bool = False) -> ServerUnavailable:
    return ServerUnavailable(message, "Qdrant", away=away)


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _reason(error: BaseException) -> str:
    """Return why a connection failed, in the system's words."""
    for cause in _causes(error):
        if isinstance(cause, OSError) and cause.strerror:
            return one_line(re.sub(r"^\[.*?\]\s*", "", cause.strerror)).lower()[:_LONGEST]
    words = re.sub(r"^\[Errno -?\d+\]\s*", "", str(error)).strip()
    return one_line(words).lower()[:_LONGEST] or "the connection broke"


def _words(content: bytes) -> str | None:
    """Return Qdrant's message of a failure; None where the answer is not Qdrant's."""
    try:
        answer = json.loads(content)
    except ValueError:
        return None
    status = answer.get("status") if isinstance(answer, dict) else None
    words = status.get("error") if isinstance(status, dict) else None
    return one_line(words)[:_LONGEST] if isinstance(words, str) else None


def _proxy_advice() -> str:
    """Return advice on the proxy of this process, where the environment names one."""
    named = {kind for kind in getproxies() if kind in ("http", "https", "all")}
    return "; HTTP_PROXY is set: add the host to NO_PROXY" if named else ""
