"""Leafing through an answer: a cursor says where the next page begins and what it is a page of.

Nothing is kept between pages. The question comes again with the cursor, which is signed with the home's key
and holds a hash of the question and the version it was answered by: another question, or an index that was
switched meanwhile, is told instead of mixed.
"""

import base64
import hashlib
import hmac
import json

from indexer.home import Home
from retrieval.service.problems import Refused


def cursor_of(home: Home, question: str, fingerprint: str, offset: int) -> str:
    """The cursor of the page that begins after `offset` studies."""
    body = json.dumps([offset, _hash(question), fingerprint[:16]]).encode()
    return base64.urlsafe_b64encode(_sign(home, body) + body).decode().rstrip("=")


def offset_of(home: Home, question: str, fingerprint: str, cursor: str) -> int:
    """Where the page of a cursor begins.

    Raises:
        Refused: the cursor is not of this service or not of this question; or the index was switched.
    """
    try:
        signed = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    except ValueError:
        signed = b""
    body = signed[16:]
    if not hmac.compare_digest(signed[:16], _sign(home, body)):
        raise Refused(422, "wrong-cursor", "This is no cursor of ours: search again from the first page.")
    offset, asked, version = json.loads(body)
    if asked != _hash(question):
        raise Refused(
            422, "wrong-cursor", "The cursor is of another search: search again from the first page."
        )
    if version != fingerprint[:16]:
        raise Refused(
            409, "index-switched", "The index was switched to another encoder meanwhile: search again."
        )
    return int(offset)


def _sign(home: Home, body: bytes) -> bytes:
    return hmac.digest(home.key, b"cursor\0" + body, "sha256")[:16]


def _hash(question: str) -> str:
    return hashlib.sha256(question.encode()).hexdigest()[:16]
