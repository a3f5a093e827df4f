"""Files, read and written whole and safely: no pipe, no device, no loop, no half-written file; file locks.

Names come from tables and folders of third parties, so nothing is opened before it is known to be a regular
file, and messages carry a name only in its escaped form.
"""

import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from filelock import BaseFileLock, FileLock, Timeout

# Without O_NONBLOCK the opening of a pipe waits for a writer for ever. Windows has none of these flags.
_OPEN_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)

_WRITE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)

READABLE = 0o666
"""The mode of a written file that others may read where the umask lets them."""

_CHANGED = "changed while it was read: try again when its writer has finished"

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


class UnreadableFile(OSError):
    """A file cannot be read; the text is a clause that follows the file's name: `is empty`."""


def quoted(path: str | Path) -> str:
    """Return the name of a file for a message: without its folder, escaped, in quotes."""
    return repr(Path(path).name or str(path))


@contextmanager
def open_regular(path: str | Path) -> Iterator[BinaryIO]:
    """Open a regular file for reading; links to one are followed.

    Raises:
        UnreadableFile: it is not there, not a regular file, not permitted, a loop of links, or empty; also
            where the reading itself fails, or the file changed between opening and closing.
    """
    try:
        # Checked by name first: opening a device can have effects, even without reading from it.
        _require_regular(Path(path).stat())
        with os.fdopen(os.open(path, _OPEN_FLAGS), "rb", buffering=1 << 16) as file:
            before = os.fstat(file.fileno())
            _require_regular(before)
            if before.st_size == 0:
                raise UnreadableFile("is empty: copy it again from where it came")
            yield file
            after = os.fstat(file.fileno())
    except ValueError as error:  # a zero byte in the name
        raise UnreadableFile("has a name that no file can have") from error
    except OSError as error:
        raise _explained(error) from error
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise UnreadableFile(_CHANGED)


def read_bytes(path: str | Path, *, limit: int | None = None, head: int | None = None) -> bytes:
    """Read a regular file from its first byte to its last.

    Args:
        path: the file; links to regular files are followed.
        limit: bytes that it may have at most; a larger file is refused before it is read.
        head: read only the first `head` bytes (fewer where the file is shorter), whatever its size.

    Raises:
        UnreadableFile: as `open_regular`, or it is larger than `limit`.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if limit is not None and head is None and size > limit:
            raise UnreadableFile(f"has {size:,} bytes, more than the {limit:,} that are read")
        content = file.read(size if head is None else head)
        if head is None and len(content) != size:
            raise UnreadableFile(_CHANGED)
    return content


def write_whole(path: Path, content: bytes | Callable[[BinaryIO], object], *, mode: int = 0o600) -> Path:
    """Write a file atomically: a reader sees the old or the new one, a full disk leaves the old.

    Args:
        path: the file; its folder is created if missing, an existing file is replaced.
        content: all of it, or a function that writes it to the open file (for what should not lie in memory
            twice).
        mode: permissions of the file, less the umask; by default its owner's only.

    Returns:
        The path.

    Raises:
        OSError: the disk refuses it; like any error of `content`, it leaves no partial file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{secrets.token_hex(8)}.writing")
    try:
        with os.fdopen(os.open(aside, _WRITE_FLAGS, mode), "wb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        with suppress(OSError):
            aside.unlink()
        raise
    return path


def _require_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "no regular file")
        raise UnreadableFile(f"is {kind}, not a file")


def _explained(error: OSError) -> UnreadableFile:
    if isinstance(error, UnreadableFile):
        return error
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR:
            return UnreadableFile("is not there")
        case errno.EACCES | errno.EPERM:
            return UnreadableFile("may not be read by this user: change its permissions")
        case errno.ELOOP:
            return UnreadableFile("is a loop of links: it leads to no file")
        case _:
            return UnreadableFile(f"cannot be read ({error.strerror or 'unknown error'})")


def walk(folder: Path) -> Iterator[Path]:
    """Yield every entry below `folder` that is not itself a folder, sorted, each folder once.

    Links to folders are followed, and a folder that was already visited (by device and inode) is not entered
    again, so a link to a parent ends. Links that lead nowhere are yielded: reading them raises.
    """
    seen: set[tuple[int, int]] = set()

    def below(parent: Path) -> Iterator[Path]:
        status = parent.stat()
        identity = (status.st_dev, status.st_ino)
        if identity in seen:
            return
        seen.add(identity)
        with os.scandir(parent) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        for entry in entries:
            try:
                is_folder = entry.is_dir()
            except OSError:
                is_folder = False
            if is_folder:
                yield from below(Path(entry.path))
            else:
                yield Path(entry.path)

    yield from below(folder)


Lock = BaseFileLock
"""A lock that is taken: `release` frees it."""


def acquire_lock(path: Path) -> Lock | None:
    """Take the lock of a file, which is created (mode 0600), without waiting.

    One process of a machine has it. The lock is the operating system's (`flock` on Linux and macOS): it ends
    with its process, however that ends. Where a system or a file system has no locks, the file itself is the
    lock.

    Returns:
        None where another lock exists, of this or of another process.

    Raises:
        OSError: the file cannot be made or written.
    """
    lock = FileLock(path, timeout=0, mode=0o600, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        return None
    return lock
