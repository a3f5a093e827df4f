"""Download one file: complete and verified or not at all; an interrupted download resumes.

The bytes go into `<target>.part`, which is resumed with an HTTP range request (RFC 9110, section 14), hashed,
flushed to the disk and renamed. `<target>.part.of` holds the version of the file that the part belongs to
(the server's ETag or date), so that parts of two versions are never joined. Messages and logs show a URL
without its user, password and query.
"""

import errno
import hashlib
import http.client
import logging
import os
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from corpus.errors import EncoderError, HomeError
from corpus.files import Lock, acquire_lock
from corpus.progress import OnProgress, silent
from corpus.settings import settings

logger = logging.getLogger(__name__)

TRIES = 5
WAIT_SECONDS = 1.0
TIMEOUT_SECONDS = 60.0

_CHUNK = 1 << 20
_PAGE_STARTS = (b"<!doctype html", b"<html")
_AGAIN_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})


class Unreachable(EncoderError):
    """The server cannot be reached from here, or does not give the file; it may be fetched elsewhere."""


class _TryAgainError(Exception):
    """This attempt failed, the next may succeed."""


class _NothingLeftError(Exception):
    """The server has no bytes after the part; `total` is its length of the file."""

    def __init__(self, total: int | None) -> None:
        super().__init__(total)
        self.total = total


def download(
    url: str,
    target: Path,
    *,
    sha256: str | None = None,
    md5: str | None = None,
    size: int | None = None,
    on_progress: OnProgress = silent,
) -> Path:
    """Download a file by HTTP, unless it is there already and verified.

    Args:
        url: http or https.
        target: path of the file; its folder is created.
        sha256: its SHA-256 or the first hex digits of it.
        md5: the same of its MD5, where only that is published.
        size: its bytes.
        on_progress: called after each chunk with the name of the file, its bytes received so far, and its
            bytes in all (None where unknown).

    Returns:
        `target`.

    Raises:
        Unreachable: no network, no such file, no permission, or a server that fails repeatedly. The part
            received so far stays, and the next call resumes it.
        EncoderError: the download is another file (a web page, a wrong hash: then it is deleted), the
            existing file is another one, or another process is downloading it.
        HomeError: the disk is full, or the folder cannot be written.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise EncoderError(f"{shown(url)} is no http address")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with alone(target):
            if target.exists():
                check(target, sha256=sha256, md5=md5, size=size)
                return target
            part = target.with_name(f"{target.name}.part")
            _fetch(url, part, bool(sha256 or md5), on_progress)
            try:
                check(part, sha256=sha256, md5=md5, size=size)
            except EncoderError:
                _forget(part)
                raise
            _settle(part, target)
            return target
    except OSError as error:
        raise _disk_error(target, error) from error


def check(path: Path, *, sha256: str | None = None, md5: str | None = None, size: int | None = None) -> str:
    """Compare a file with its published hashes and size; return its SHA-256 as 64 hex digits.

    Raises:
        EncoderError: it is another file.
    """
    name = path.name.removesuffix(".part")
    here = path.stat().st_size
    if size is not None and here != size:
        raise EncoderError(
            f"{name} is not the published file: it has {here} bytes, not {size}; delete it and fetch it again"
        )
    found = _digest(path, "sha256")
    wanted = (("SHA-256", sha256, found), ("MD5", md5, _digest(path, "md5") if md5 else ""))
    for kind, published, is_here in wanted:
        if published and not is_here.startswith(published.lower()):
            raise EncoderError(
                f"{name} is not the published file: its {kind} begins with {is_here[:12]}, not "
                f"{published[:12]}; delete it and fetch it again"
            )
    return found


@contextmanager
def alone(target: Path) -> Iterator[None]:
    """Hold the lock of a file or folder that is being made; wait for another process that holds it.

    Raises:
        EncoderError: another process still holds it after `SIMILARITY_LOCK_WAIT_SECONDS`.
        HomeError: the parent folder cannot be written.
    """
    path = target.with_name(f".{target.name}.lock")
    deadline = time.monotonic() + settings().lock_wait_seconds
    logged = False
    while (lock := _try_lock(path)) is None:
        if time.monotonic() >= deadline:
            raise EncoderError(
                f"another process is bringing {target.name} here; run it again when that has finished"
            )
        if not logged:
            logger.info("another process is bringing %s here; waiting for it", target.name)
            logged = True
        time.sleep(0.1)
    try:
        yield
    finally:
        with suppress(OSError):  # before the release: a waiting process sees that the name is another file's
            path.unlink()
        lock.release()


def shown(url: str) -> str:
    """A URL for messages: without user, password, query and fragment."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _fetch(url: str, part: Path, hashed: bool, on_progress: OnProgress) -> None:
    """Download the rest of the file. `hashed`: a hash will reveal parts of two versions."""
    failures, furthest = 0, _length(part)
    while True:
        try:
            _attempt(url, part, hashed, on_progress)
            return
        except _NothingLeftError as nothing_left:
            if nothing_left.total == _length(part):
                return
            _forget(part)  # longer than the file, so another's
            failures += 1
            if failures >= TRIES:
                raise Unreachable(f"{shown(url)} cannot be fetched: the server answers 416") from None
        except _TryAgainError as error:
            # Only attempts without any new bytes count as failures in a row.
            failures = 1 if _length(part) > furthest else failures + 1
            furthest = max(furthest, _length(part))
            if failures >= TRIES:
                raise Unreachable(f"{shown(url)} cannot be fetched: {error}") from None
            wait = WAIT_SECONDS * 2 ** (failures - 1)
            logger.info("%s: %s; trying again in %g s", shown(url), error, wait)
            time.sleep(wait)


def _attempt(url: str, part: Path, hashed: bool, on_progress: OnProgress) -> None:
    have = _length(part)
    version = _read_version(part)
    if have and not (version or hashed):  # no version and no hash: the rest may be of another file
        _forget(part)
        have = 0
    headers = {"User-Agent": "similarity", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    if have and version:
        headers["If-Range"] = version
    with _open(url, headers) as answer:
        resumed = answer.status == http.client.PARTIAL_CONTENT
        if resumed and _range_start(answer) != have:
            _forget(part)
            raise _TryAgainError("the server sent another part than was asked for")
        offset = have if resumed else 0
        left = _int(answer.headers.get("Content-Length"))
        total = None if left is None else offset + left
        first = _read(answer, left)
        if not resumed:
            _refuse_page(url, answer, first)
            _forget(part)  # only now: a proxy's page must not cost the part received so far
            _remember_version(part, answer)
        _require_room(part, left)
        _receive(answer, first, part, offset, total, on_progress)


@contextmanager
def _open(url: str, headers: dict[str, str]) -> Iterator[Any]:
    """Send the request; yield the response."""
    # Python's messages contain the URL with its user and password: none of them is passed on.
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            total = _int(error.headers.get("Content-Range", "").rpartition("/")[2])
            raise _NothingLeftError(total) from None
        if error.code in _AGAIN_STATUSES:
            raise _TryAgainError(f"the server answers {error.code}") from None
        raise Unreachable(_refusal(url, error.code)) from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise Unreachable(
                f"{shown(url)} cannot be fetched: the server's certificate is not trusted here"
            ) from None
        raise _TryAgainError(f"no connection ({_cause(error.reason)})") from None
    except (http.client.InvalidURL, ValueError):
        raise EncoderError(f"{shown(url)} is no usable address") from None
    except (http.client.HTTPException, OSError) as error:
        raise _TryAgainError(f"no connection ({_cause(error)})") from None
    with answer:
        if urlsplit(url).scheme == "https" and urlsplit(answer.url).scheme != "https":
            raise EncoderError(f"{shown(url)} leads to an address without encryption; nothing was fetched")
        yield answer


def _refusal(url: str, code: int) -> str:
    if code in (404, 410):
        return f"{shown(url)} is not there any more ({code}); look for the file where it moved to"
    if code in (401, 403, 407):
        return f"{shown(url)} is not given to us ({code}); fetch it by hand with your own account"
    return f"{shown(url)} cannot be fetched: the server answers {code}"


def _receive(
    answer: Any, first: bytes, part: Path, offset: int, total: int | None, on_progress: OnProgress
) -> None:
    name = part.name.removesuffix(".part")
    with part.open("r+b" if offset else "wb") as file:
        file.seek(offset)
        here, chunk = offset, first
        try:
            while chunk:
                file.write(chunk)
                here += len(chunk)
                on_progress(name, here, total)
                chunk = _read(answer, None if total is None else total - here)
        finally:
            file.flush()
            os.fsync(file.fileno())
    if total is not None and here != total:
        raise _TryAgainError(f"the connection broke after {here} of {total} bytes")


def _read(answer: Any, left: int | None) -> bytes:
    """The next bytes; none at the end, without waiting for it where the length is known."""
    if left == 0:
        return b""
    try:
        chunk: bytes = answer.read1(_CHUNK if left is None else min(left, _CHUNK))
    except (http.client.HTTPException, OSError) as error:
        raise _TryAgainError(f"the connection broke ({_cause(error)})") from None
    return chunk


def _refuse_page(url: str, answer: Any, first: bytes) -> None:
    page = first.lstrip()[:64].lower().startswith(_PAGE_STARTS)
    if page or answer.headers.get_content_type() == "text/html":
        raise EncoderError(
            f"{shown(url)} gave a web page in place of the file: a login, a proxy's notice, or a page that "
            f"says it has moved; open the address in a browser"
        )


def _range_start(answer: Any) -> int | None:
    """`bytes 100-199/200` → 100."""
    return _int(answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0])


def _remember_version(part: Path, answer: Any) -> None:
    """Store the strong validator of the file (RFC 9110, section 13.1.5)."""
    tag = answer.headers.get("ETag", "")
    version = tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified", "")
    _version_file(part).write_text(version, encoding="utf-8")


def _read_version(part: Path) -> str:
    try:
        return _version_file(part).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""


def _version_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.of")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _version_file(part).unlink(missing_ok=True)


def _settle(part: Path, target: Path) -> None:
    """Rename the part to the target durably: the name survives a power failure."""
    part.replace(target)
    _forget(part)
    if os.name == "nt":
        return  # a folder cannot be opened there
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _require_room(part: Path, wanted: int | None) -> None:
    free = shutil.disk_usage(part.parent).free
    if wanted is not None and wanted > free:
        raise OSError(errno.ENOSPC, f"{wanted} bytes are to come and {free} are free")


def _disk_error(target: Path, error: OSError) -> HomeError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return HomeError(
            f"the disk that holds {target.parent} is full; make room and run it again: what has come of "
            f"{target.name} is kept"
        )
    return HomeError(f"{target} cannot be written: {error.strerror or type(error).__name__}")


def _try_lock(path: Path) -> Lock | None:
    try:
        return acquire_lock(path)
    except OSError as error:
        raise _disk_error(path, error) from error


def _digest(path: Path, kind: str) -> str:
    with path.open("rb") as file:
        # MD5 is compared only where the publisher gives no SHA-256.
        return hashlib.file_digest(file, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()


def _length(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _int(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None


def _cause(reason: object) -> str:
    """A cause of failure, without addresses."""
    if isinstance(reason, TimeoutError):
        return "no answer in time"
    if isinstance(reason, OSError):
        return reason.strerror or type(reason).__name__
    return type(reason).__name__
