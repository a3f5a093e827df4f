"""Where the file lies that a table names: by its name as written, or as another system writes it."""

import unicodedata
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath


@dataclass(frozen=True, slots=True)
class ListedPath:
    """A file that a table names.

    `name`: with `/` between its folders, for ids. `path`: where it lies, or should. `is_there`: whether
    something has this name (a loop of links has: it is refused when it is read). `missing`: why it is not
    there, as a sentence's end; meaningless where it is.
    """

    name: str
    path: Path
    is_there: bool
    missing: str = "the table lists it, the folder lacks it"


def find_listed(folder: Path, name: str) -> ListedPath:
    r"""Find a file below the folder of its table.

    The name as it is written comes first. Then it is tried with its accents apart from their letters (as
    macOS stores them), and with `\` between its folders, as Windows writes it.
    """
    windows = PureWindowsPath(name)
    spellings = [name, unicodedata.normalize("NFD", name)]
    if "\\" in name and not windows.anchor:
        spellings += [windows.as_posix(), unicodedata.normalize("NFD", windows.as_posix())]
    for spelling in spellings:
        path = folder / spelling
        if _is_there(path):
            return ListedPath(unicodedata.normalize("NFC", spelling), path, True)
    if "\\" not in name:
        return ListedPath(name, folder / name, False)
    path = folder / windows.as_posix()
    if windows.anchor:
        reason = "the table names a place on a Windows machine: write it relative to the table"
        return ListedPath(windows.as_posix(), path, False, reason)
    return ListedPath(windows.as_posix(), path, False)


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except (OSError, ValueError):
        return False
    return True
