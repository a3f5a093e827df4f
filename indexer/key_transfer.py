"""Export and import of a home's key, so that all machines of an index have one key."""

import errno
import hmac
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from corpus.errors import ExportError, HomeError, UsageError
from corpus.files import UnreadableFile, quoted, read_bytes
from corpus.settings import settings
from indexer.catalog.catalog import Catalog
from indexer.catalog.database import database_url, make_engine, revision_of
from indexer.catalog.database_failures import DatabaseError
from indexer.catalog.identity import uses_key
from indexer.home import (
    KEY_FILE,
    Home,
    add_key,
    given_key,
    home_error,
    lock_folder,
    make_home,
    replace_key,
)
from indexer.key import (
    COMMAND_SETTING,
    KEY_BYTES,
    KEY_TEXT_BYTES,
    key_fingerprint,
    key_text,
    parse_key,
)
from indexer.servers import Servers

_EXCLUSIVE = os.O_WRONLY | os.O_CREAT | os.O_EXCL


@dataclass(frozen=True, slots=True)
class ImportedKey:
    """The outcome of an import.

    `folder`: of the home.
    `fingerprint`: of its key now.
    `outcome`: `new`, where it had no key; `replaced`, where it had another; `same`, where it had this one, in
    the home or by `SIMILARITY_KEY_COMMAND`.
    """

    folder: Path
    fingerprint: str
    outcome: Literal["new", "replaced", "same"]


def home_with_key(folder: Path | None = None) -> Home:
    """Open a home that has a key, or for which `SIMILARITY_KEY_COMMAND` gives one; nothing is created.

    Args:
        folder: default is `settings().home_folder`.

    Raises:
        HomeError: it has none, or cannot be read.
    """
    folder = (folder or settings().home_folder).absolute()
    home = Home.find(folder)
    if home is not None:
        return home
    given = given_key()
    if given is None:
        raise HomeError(
            f"the home {folder} has no key yet: `similarity key import` gives it that of another machine, "
            "`similarity index add` makes a new one"
        )
    return Home(folder, given)


def export_key(home: Home, file: Path) -> None:
    """Write the exported text of a home's key to a new file (mode 0600).

    Raises:
        UsageError: there is a file of that name.
        ExportError: the disk refuses it.
    """
    try:
        handle = os.open(file, _EXCLUSIVE, 0o600)
    except FileExistsError:
        raise UsageError(f"there is a file {quoted(file)} already: name a new one for the key") from None
    except OSError as error:
        raise _not_written(file, error) from None
    try:
        with os.fdopen(handle, "wb") as written:
            written.write(f"{key_text(home.key)}\n".encode())
            written.flush()
            os.fsync(written.fileno())
    except OSError as error:
        with suppress(OSError):
            file.unlink()
        raise _not_written(file, error) from None


def read_key_file(file: Path) -> bytes:
    """Return the key in a file that `export_key` wrote; `-` is the standard input.

    Raises:
        UsageError: the file cannot be read.
        HomeError: it holds no exported key, or a damaged one; nothing of it is repeated.
    """
    if str(file) == "-":
        return parse_key(sys.stdin.buffer.read(KEY_TEXT_BYTES), "the standard input")
    try:
        content = read_bytes(file, limit=KEY_TEXT_BYTES)
    except UnreadableFile as error:
        raise UsageError(f"the file {quoted(file)} {error}") from None
    return parse_key(content, f"the file {quoted(file)}")


def import_key(
    key: bytes, folder: Path | None = None, on_wait: Callable[[str], None] | None = None
) -> ImportedKey:
    """Give a home the key of another machine; home and key are created where there is none.

    Another key is replaced where nothing was made with it, when no other process uses the home.

    Args:
        key: of an index, as `read_key_file` returns it.
        folder: of the home; default is `settings().home_folder`.
        on_wait: gets one line when another process uses the home and this one waits.

    Raises:
        HomeError: something was made with the home's own key; `SIMILARITY_KEY_COMMAND` gives another; the
            home cannot be written.
        IndexInUse: another process uses the home, and did not end in time.
    """
    folder = (folder or settings().home_folder).absolute()
    fingerprint, given = key_fingerprint(key), given_key()
    if given is not None and not hmac.compare_digest(given, key):
        raise HomeError(
            f"{COMMAND_SETTING} gives the key with fingerprint {key_fingerprint(given)}, and the one to "
            f"import has fingerprint {fingerprint}: unset it, or change what it gives"
        )
    path = folder / KEY_FILE
    try:
        make_home(folder)
        if not path.exists():
            if given is not None:  # it is kept elsewhere, so that it does not lie in the home
                return ImportedKey(folder, fingerprint, "same")
            if add_key(folder, key):
                return ImportedKey(folder, fingerprint, "new")
        if hmac.compare_digest(path.read_bytes(), key):
            return ImportedKey(folder, fingerprint, "same")
        # In the order in which a command that writes takes them.
        with lock_folder(folder, on_wait, "writer"), lock_folder(folder, on_wait, "owner"):
            own = path.read_bytes()
            if hmac.compare_digest(own, key):
                return ImportedKey(folder, fingerprint, "same")
            if len(own) == KEY_BYTES:  # a damaged one made nothing that it could still find
                refuse_if_used(Home(folder, own))
            replace_key(folder, key)
    except OSError as error:
        raise home_error(folder, error) from error
    return ImportedKey(folder, fingerprint, "replaced")


def refuse_if_used(home: Home) -> None:
    """Refuse where something was made with a home's key: without it that belongs to no case.

    Raises:
        HomeError: its catalog has studies or cannot be read, it has embedded vectors, or the index on the
            database server of the settings was made with it.
        ServerUnavailable: that server does not answer, so that it cannot be known.
    """
    made = [
        *(["studies in its catalog"] if _is_filled(home, Servers()) else []),
        *(["vectors"] if home.vectors.is_dir() and any(map(_is_collection, home.vectors.iterdir())) else []),
    ]
    servers = Servers.named()
    if not made and servers.database_url is not None and _is_filled(home, servers):
        made = ["an index on the database server"]
    if made:
        raise HomeError(
            f"the home {home.folder} has another key (fingerprint {home.key_fingerprint}), and has "
            f"{' and '.join(made)} made with it: import into another SIMILARITY_HOME"
        )


def _is_collection(path: Path) -> bool:
    return not path.name.startswith(".")


def _is_filled(home: Home, servers: Servers) -> bool:
    """Return whether the catalog on these servers, without any that in the home, was filled with its key."""
    if servers.database_url is None and not home.catalog_file.exists():
        return False
    catalog = Catalog(make_engine(database_url(home, servers)))
    try:
        if revision_of(catalog.engine) is None:
            return False
        with catalog.engine.connect() as connection:
            return uses_key(connection, home)
    except DatabaseError as error:
        raise HomeError(
            f"{catalog.name} cannot be read ({type(error).__name__}), and may have studies "
            "that need the home's key: restore it, or import into another SIMILARITY_HOME"
        ) from error
    finally:
        catalog.close()


def _not_written(file: Path, error: OSError) -> ExportError:
    reason = "its folder is not there" if error.errno == errno.ENOENT else error.strerror or "unknown error"
    return ExportError(f"the key cannot be written to {quoted(file)}: {reason}")
