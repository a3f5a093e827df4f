"""A lock that one process of a machine holds at a time, on Linux, macOS and Windows.

The lock is the operating system's, on a file (`flock` on Linux and macOS, as versions before this one took
it): it goes with the process that holds it, however that ends. Where a system or a file system has none, the
file itself is the lock.
"""

from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

Lock = BaseFileLock
"""A lock that is held: `release` lets go of it."""


def take(path: Path) -> Lock | None:
    """Take the lock of a file, which is made (mode 0600), without waiting.

    Returns:
        None where it is held, by another process or by this one.

    Raises:
        OSError: the file cannot be made or written.
    """
    lock = FileLock(path, timeout=0, mode=0o600, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        return None
    return lock
