"""Shared parts of the sources: listed files, item ids, required words of a report, and admission."""

import hashlib
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path, PureWindowsPath
from typing import Final, TypeVar

from corpus.demographics import PLAIN_RADIOGRAPHY
from corpus.dicom.file import ADMITTED as DICOM_ADMITTED
from corpus.files import walk
from corpus.language.sections import has_words
from corpus.records import ItemId, Problem, ProblemSink, Report
from corpus.redaction import redacted
from corpus.tables.reader import Table

ADMITTED = DICOM_ADMITTED | {PLAIN_RADIOGRAPHY}
"""Admitted modalities; `--admit` adds to them. An image without a modality is admitted."""

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".dcm", ".dicom"})

MISSING: Final = "the table lists it, the folder lacks it"
LISTED_TWICE: Final = "the table lists this image twice"

Value = TypeVar("Value")


@redacted
@dataclass(frozen=True, slots=True)
class ListedFiles:
    """The images below a folder by file name, for sets with tables that list names without folders.

    The published archives unpack into one folder or into twelve: both are read.
    `paths`: file name → path.
    """

    paths: Mapping[str, Path]

    @classmethod
    def below(cls, folder: Path) -> "ListedFiles":
        """Find every image below `folder`; of two with one name the first in order of path is taken."""
        paths: dict[str, Path] = {}
        for path in walk(folder):
            if path.suffix.lower() in IMAGE_SUFFIXES:
                paths.setdefault(path.name, path)
        return cls(paths)

    def find(self, name: str) -> Path | None:
        """Return the path of the image called `name`, or None."""
        return self.paths.get(name)


def image_ids(study_id: str, paths: Sequence[Path | str]) -> list[str]:
    """Return `<study_id>#<file stem>` for each image of a study, all different.

    Of files with one stem in a study (`a.png` and `a.jpg`, or one name in two folders) all but the first in
    order of path get eight hexadecimal digits of a hash of their path.
    """
    stems: dict[str, list[str]] = defaultdict(list)
    for path in sorted({str(p) for p in paths}):
        stems[_stem(path)].append(path)
    ids: dict[str, str] = {}
    for stem, same in stems.items():
        for number, path in enumerate(same):
            digits = hashlib.sha256(path.encode(errors="surrogateescape")).hexdigest()[:8]
            ids[path] = ItemId.image(study_id, f"{stem}~{digits}" if number else stem).text
    return [ids[str(path)] for path in paths]


def _stem(path: str) -> str:
    """Return the name without an image's extension.

    A DICOM file named by its UID has dots but no extension.
    """
    name = printable_utf8(Path(path).name)
    stem, dot, suffix = name.rpartition(".")
    known = dot and stem and (f".{suffix.lower()}" in IMAGE_SUFFIXES or not suffix.isdigit())
    return stem if known else name


def printable_utf8(text: str) -> str:
    r"""Return the text with bytes that are no UTF-8 (file names can have them) written as `\\udcff`."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def require_words(report: Report, on_problem: ProblemSink) -> Report | None:
    """Return the report, or None (recorded) where its description of the image has no word but `XXXX`."""
    if has_words(report.described):
        return report
    on_problem(
        Problem(
            report.item_id, "skipped", "the report does not describe the image: no findings, no impression"
        )
    )
    return None


def parsed(
    parse: Callable[[str | None], Value | None], written: str | None, item_id: str, on_problem: ProblemSink
) -> Value | None:
    """Return a parsed attribute; None (recorded as `<study_id>#<attribute>`) where it cannot be parsed."""
    try:
        return parse(written)
    except ValueError as reason:
        on_problem(Problem(item_id, "noted", f"{reason} and is not used"))
        return None


def report_bad_rows(table: Table, source: str, on_problem: ProblemSink) -> None:
    """Record each row that the table could not read, and each line with bytes beside its encoding."""
    for row in table.bad_rows:
        on_problem(
            Problem(
                f"{source}:{table.path.name}@row{row.number}",
                "failed",
                f"row {row.number} of {table.path.name!r} {row.reason}",
                str(table.path),
            )
        )
    for line in table.stray_lines:
        reason = (
            f"line {line} of {table.path.name!r} has bytes that do not fit its encoding: read as Windows-1252"
        )
        on_problem(Problem(f"{source}:{table.path.name}@line{line}", "skipped", reason, str(table.path)))


def cell(value: object) -> str:
    """Return the text of a table's cell, empty for an empty one; 1000.0 is `1000`."""
    if value is None:
        return ""
    if isinstance(value, float):
        return "" if value != value else str(int(value)) if value.is_integer() else str(value)
    return value.isoformat() if isinstance(value, date) else str(value).strip()


def refuse_modality(modality: str | None, admit: Iterable[str]) -> str | None:
    """Return why an image of this modality is not admitted, or None where it is."""
    if modality is None or modality in admit:
        return None
    return f"its modality is {modality}, not a radiograph's: --admit {modality} lets it in"


@dataclass(frozen=True, slots=True)
class ListedPath:
    """A file that a table names.

    `name`: with `/` between its folders, for ids.
    `path`: where it is, or should be.
    `is_there`: whether the name exists (also as a loop of links, which fails when it is read).
    `missing`: why it does not exist, as a sentence's end; meaningless where it does.
    """

    name: str
    path: Path
    is_there: bool
    missing: str = MISSING


def find_listed(folder: Path, name: str) -> ListedPath:
    r"""Find a file below the folder of its table.

    The name as it is written comes first. Then it is tried with decomposed accents (as macOS stores them),
    and with `\` between its folders, as Windows writes it.
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
        reason = "the table names a path on a Windows machine: write it relative to the table"
        return ListedPath(windows.as_posix(), path, False, reason)
    return ListedPath(windows.as_posix(), path, False)


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except (OSError, ValueError):
        return False
    return True
