"""The home folder of one index: its files, its key, and its locks."""

import errno
import hmac
import json
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from corpus.errors import HomeError, IndexInUse
from corpus.files import Lock, acquire_lock, write_whole
from corpus.redaction import redacted
from corpus.settings import settings
from indexer.key import COMMAND_SETTING, key_fingerprint, key_of_command
from indexer.key import KEY_BYTES as KEY_BYTES

KEY_FILE = ".key"
"""File in the home with the key, mode 0600."""
CACHE = "cache"
"""Folder in the home for files that can be recomputed at any time."""
_KEYED_DIGITS = 32  # of 64 hex: 128 bits, never equal by chance

RESERVE_BYTES = 256 << 20
"""Free bytes on the disk below which nothing more is written: the vector engine maps files of 32 MB ahead of
the data, and a full disk under such a map kills the process instead of raising an error."""


@redacted
@dataclass(frozen=True)
class Home:
    """A home folder that exists, with its secret key."""

    folder: Path
    key: bytes

    @classmethod
    def open(cls, folder: Path | None = None) -> "Home":
        """Open the home; create folder (mode 0700) and key (mode 0600) where they are missing.

        With the setting `SIMILARITY_KEY_COMMAND` the key is what that command gives; none is written.

        Args:
            folder: default is `settings().home_folder`.

        Raises:
            HomeError: it cannot be made, read or written; the command gives no key, or another than the one
                in the home.
        """
        folder = (folder or settings().home_folder).absolute()
        given = given_key()
        try:
            make_home(folder)
            if given is None:
                return cls(folder, _own_key(folder))
            own = read_key(folder)
        except OSError as error:
            raise home_error(folder, error) from error
        if own is not None and not hmac.compare_digest(own, given):
            raise _two_keys(folder, own, given)
        return cls(folder, given)

    @classmethod
    def find(cls, folder: Path | None = None) -> "Home | None":
        """Open the home where it exists; else return None and create nothing.

        A home is a folder with a key, or any folder where `SIMILARITY_KEY_COMMAND` gives the key.

        Raises:
            HomeError: it cannot be read or written, or is no folder.
        """
        folder = (folder or settings().home_folder).absolute()
        try:
            keyless = settings().key_command is None and not (folder / KEY_FILE).exists()
            nothing = not folder.exists() or (folder.is_dir() and keyless)
        except OSError as error:
            raise home_error(folder, error) from error
        return None if nothing else cls.open(folder)

    @property
    def key_fingerprint(self) -> str:
        """The 16 hex digits that identify this home's key and reveal nothing of it."""
        return key_fingerprint(self.key)

    @property
    def catalog_file(self) -> Path:
        """The SQLite file of the default catalog."""
        return self.folder / "catalog.sqlite"

    @property
    def vectors(self) -> Path:
        """The folder of the embedded vector store."""
        return self.folder / "vectors"

    @property
    def mark(self) -> Path:
        """The file beside the embedded vectors with the id of their index."""
        return self.vectors / ".index"

    def marked_index(self) -> UUID | None:
        """Return the id of the index that the embedded vectors are of; None where they have no mark."""
        with suppress(OSError, ValueError):
            return UUID(hex=self.mark.read_text().strip())
        return None

    def keyed(self, kind: str, value: str) -> str:
        """Return the keyed hash (32 hex) that replaces an id outside the catalog.

        HMAC-SHA256 with this home's key, so that the vectors alone reveal no id, not even by trial.
        Equal values of two kinds (study, subject, …) have different hashes.
        """
        message = f"{kind}\0{value}".encode()
        return hmac.digest(self.key, message, "sha256").hex()[:_KEYED_DIGITS]

    def point_id(self, item_id: str) -> UUID:
        """Return the id of an item's vector: its keyed hash as a UUID, the same in every version."""
        return UUID(hex=self.keyed("item", item_id))

    def sentence_id(self, text: str) -> UUID:
        """Return the id of the one vector of a sentence's text, in all reports."""
        return UUID(hex=self.keyed("sentence", text))

    def require_space(self, more: int = 0) -> None:
        """Raise before the disk is full.

        Raises:
            HomeError: fewer than `more` bytes and the reserve are free.
        """
        free = shutil.disk_usage(self.folder).free
        if free < RESERVE_BYTES + more:
            raise HomeError(
                f"the disk of {self.folder} is full: {free >> 20} MB free, "
                f"{(RESERVE_BYTES + more) >> 20} MB needed; what was indexed so far is safe. "
                "Make room and run the command again"
            )

    @contextmanager
    def lock(
        self,
        on_wait: Callable[[str], None] | None = None,
        name: str = "owner",
        unless: Callable[[], bool] | None = None,
    ) -> Iterator[bool]:
        """Own this home exclusively among all processes, for the length of a `with`; see `lock_folder`.

        Raises:
            HomeError: also where another key was imported into the home since it was opened: what is written
                with this one would belong to none.
        """
        with lock_folder(self.folder, on_wait, name, unless) as owned:
            self._require_key()
            yield owned

    def _require_key(self) -> None:
        try:
            own = (self.folder / KEY_FILE).read_bytes()
        except FileNotFoundError:  # it comes from a command
            return
        except OSError as error:
            raise home_error(self.folder, error) from error
        if not hmac.compare_digest(own, self.key):
            raise HomeError(
                f"another key was imported into the home {self.folder} while this command ran: run it again"
            )


@contextmanager
def lock_folder(
    folder: Path,
    on_wait: Callable[[str], None] | None = None,
    name: str = "owner",
    unless: Callable[[], bool] | None = None,
) -> Iterator[bool]:
    """Own a home's folder exclusively among all processes, for the length of a `with`.

    Args:
        folder: of the home.
        on_wait: gets one line, once, when another process owns it and this one waits.
        name: which lock: `owner` of the vectors, `writer` of an index job, `catalog` of migrations.
        unless: called whenever another process owns it; True ends the wait.

    Yields:
        Whether the home is owned: always, but for `unless`.

    Raises:
        IndexInUse: the other did not end within `settings().lock_wait_seconds`.
        HomeError: the lock file cannot be written.
    """
    lock = _wait_for(folder, name, on_wait, unless)
    if lock is None:
        yield False
        return
    holder = _holder_file(folder, name)
    try:
        owner = {"pid": os.getpid(), "command": _command(), "since": datetime.now(UTC).isoformat()}
        try:
            write_private(holder, json.dumps(owner).encode())
        except OSError as error:
            raise home_error(folder, error) from error
        try:
            yield True
        finally:
            with suppress(OSError):
                holder.unlink()
    finally:
        lock.release()


def _wait_for(
    folder: Path, name: str, on_wait: Callable[[str], None] | None, unless: Callable[[], bool] | None
) -> Lock | None:
    seconds = settings().lock_wait_seconds
    deadline = time.monotonic() + seconds
    notified = False
    while True:
        try:
            lock = acquire_lock(folder / f".{name}.lock")
        except OSError as error:
            raise home_error(folder, error) from error
        if lock is not None:
            return lock
        if unless is not None and unless():
            return None
        owner = _owner(folder, name)
        if time.monotonic() >= deadline:
            raise IndexInUse(
                f"the index in {folder} is in use by {owner}; let it end, "
                "or wait longer with SIMILARITY_LOCK_WAIT_SECONDS"
            )
        if not notified and on_wait is not None:
            on_wait(f"waiting up to {seconds:g} s: the index is in use by {owner}")
        notified = True
        time.sleep(min(0.1, max(0.0, deadline - time.monotonic())))


def make_home(folder: Path) -> None:
    """Create a home's folder where it is missing, and close it to others (mode 0700).

    Raises:
        OSError: it cannot be made.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_mode & 0o077:
        folder.chmod(0o700)


def given_key() -> bytes | None:
    """Return the key that `SIMILARITY_KEY_COMMAND` gives; None where it is not set.

    Raises:
        HomeError: the command gives no key.
    """
    command = settings().key_command
    return None if command is None else key_of_command(command.get_secret_value())


def read_key(folder: Path) -> bytes | None:
    """Return the key that lies in a home, and close its file to others; None where there is none.

    Raises:
        OSError: it cannot be read.
        HomeError: it is damaged.
    """
    path = folder / KEY_FILE
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        return None
    if len(key) != KEY_BYTES:
        raise HomeError(
            f"{path} is damaged ({len(key)} bytes, not {KEY_BYTES}): restore it from a backup, or with "
            "`similarity key import`; without it the vectors cannot be assigned to their cases"
        )
    if path.stat().st_mode & 0o077:
        path.chmod(0o600)
    return key


def add_key(folder: Path, key: bytes) -> bool:
    """Write the key of a home that has none; where another process was first, its key stays.

    Returns:
        Whether it was written.

    Raises:
        OSError: it cannot be written.
    """
    # Written aside and linked into place: a link is atomic, and fails where another process was first.
    handle, aside = tempfile.mkstemp(dir=folder, prefix=f"{KEY_FILE}-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(key)
            file.flush()
            os.fsync(file.fileno())
        os.link(aside, folder / KEY_FILE)
    except FileExistsError:
        return False
    finally:
        Path(aside).unlink()
    return True


def replace_key(folder: Path, key: bytes) -> None:
    """Write the key of a home over the one that it has; a reader sees the one or the other.

    Raises:
        OSError: it cannot be written.
    """
    write_whole(folder / KEY_FILE, key)


def _own_key(folder: Path) -> bytes:
    """Return the key that lies in a home; created once, also by two processes at a time."""
    key = read_key(folder)
    if key is None:
        add_key(folder, secrets.token_bytes(KEY_BYTES))
        key = read_key(folder)
    if key is None:
        raise FileNotFoundError(errno.ENOENT, "its key was removed while it was opened")
    return key


def _two_keys(folder: Path, own: bytes, given: bytes) -> HomeError:
    return HomeError(
        f"the home {folder} has the key with fingerprint {key_fingerprint(own)}, and {COMMAND_SETTING} gives "
        f"one with fingerprint {key_fingerprint(given)}: `similarity key import FILE` brings it here "
        "where nothing was made with its own; else unset the setting, or name another home with "
        "SIMILARITY_HOME"
    )


def home_error(folder: Path, error: OSError) -> HomeError:
    """Return the error to raise for a failed call on the home, its message in one line."""
    reasons = {
        errno.ENOSPC: "the disk is full; make room and run the command again",
        errno.EDQUOT: "the disk quota is used up; make room and run the command again",
        errno.EFBIG: "a file may not grow further; raise the file size limit and run the command again",
        errno.EROFS: "the disk is read-only; name another home with SIMILARITY_HOME",
        errno.EACCES: "this user may not write there; name another home with SIMILARITY_HOME",
        errno.EPERM: "this user may not write there; name another home with SIMILARITY_HOME",
        errno.ENOTDIR: "a part of that path is a file; name another home with SIMILARITY_HOME",
        errno.EEXIST: "there is a file of that name; name another home with SIMILARITY_HOME",
    }
    reason = reasons.get(error.errno or 0, error.strerror or str(error))
    return HomeError(f"the home {folder} cannot be used: {reason}")


def _command() -> str:
    """Return the command of this process without its arguments: they may name a subject."""
    words = [Path(sys.argv[0]).name, *(w for w in sys.argv[1:3] if w.isalpha())]
    return " ".join(words)


def _holder_file(folder: Path, name: str) -> Path:
    """Return the file that names the holder of a lock: a locked file cannot be read on every system."""
    return folder / f".{name}.holder"


def write_private(path: Path, content: bytes) -> None:
    """Write a small file with mode 0600."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)


def _owner(folder: Path, name: str) -> str:
    # The lock's own file is where versions before this one wrote.
    for path in (_holder_file(folder, name), folder / f".{name}.lock"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            owner = json.loads(path.read_bytes()[:4096])
            since = datetime.fromisoformat(owner["since"]).astimezone().strftime("%Y-%m-%d %H:%M:%S")
            return f"process {int(owner['pid'])} ({owner['command']}) since {since}"
    return "another process"
