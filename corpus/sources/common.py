"""What the readers of sets share: listed files, ids that are unique in a study, reports worth keeping."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TypeVar

from corpus.demographics import PLAIN_FILM
from corpus.dicom.file import ADMITTED as DICOM_ADMITTED
from corpus.files import walk
from corpus.language.sections import says_something
from corpus.records import Problem, ProblemSink, Report
from corpus.redaction import redacted
from corpus.tables.reader import Table

ADMITTED = DICOM_ADMITTED | {PLAIN_FILM}
"""The modalities ingest lets in; `--admit` adds to them. A picture that names none is let in."""

_PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".dcm", ".dicom"})

Value = TypeVar("Value")


@redacted
@dataclass(frozen=True, slots=True)
class ListedFiles:
    """The pictures below a folder, by name, for sets whose tables list names without folders.

    The published archives unpack into one folder or into twelve: both are read.
    """

    places: Mapping[str, Path]

    @classmethod
    def below(cls, folder: Path) -> "ListedFiles":
        """Find every picture below `folder`; of two with one name the first in order of path is taken."""
        places: dict[str, Path] = {}
        for path in walk(folder):
            if path.suffix.lower() in _PICTURE_SUFFIXES:
                places.setdefault(path.name, path)
        return cls(places)

    def find(self, name: str) -> Path | None:
        """Return where the picture called `name` lies, or None."""
        return self.places.get(name)


def image_ids(study_id: str, paths: Sequence[Path | str]) -> list[str]:
    """Return `<study_id>#<file stem>` for each picture of a study, all different.

    Two files of one stem in a study (`a.png` and `a.jpg`, or one name in two folders) keep it apart by eight
    digits of a hash of their path, for all but the first in order of path.
    """
    stems: dict[str, list[str]] = defaultdict(list)
    for path in sorted({str(p) for p in paths}):
        stems[_stem(path)].append(path)
    ids: dict[str, str] = {}
    for stem, same in stems.items():
        for place, path in enumerate(same):
            digits = hashlib.sha256(path.encode(errors="surrogateescape")).hexdigest()[:8]
            ids[path] = f"{study_id}#{stem}" + (f"~{digits}" if place else "")
    return [ids[str(path)] for path in paths]


def _stem(path: str) -> str:
    """The name without a picture's extension: a DICOM file named by its UID has dots but no extension."""
    name = printable_utf8(Path(path).name)
    stem, dot, suffix = name.rpartition(".")
    known = dot and stem and (f".{suffix.lower()}" in _PICTURE_SUFFIXES or not suffix.isdigit())
    return stem if known else name


def printable_utf8(text: str) -> str:
    """Return the text with bytes that are no UTF-8 (file names can hold them) written as `\\udcff`."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def keep_worded(report: Report, on_problem: ProblemSink) -> Report | None:
    """Return the report, or None (recorded) where it says nothing of the film but `XXXX`."""
    if says_something(report.described):
        return report
    on_problem(
        Problem(report.item_id, "skipped", "the report has no words on the film (no findings, no impression)")
    )
    return None


def parsed(
    parse: Callable[[str | None], Value | None], written: str | None, item_id: str, on_problem: ProblemSink
) -> Value | None:
    """Parse one attribute; what cannot be is recorded as `<study_id>#<attribute>` and left out."""
    try:
        return parse(written)
    except ValueError as reason:
        on_problem(Problem(item_id, "skipped", f"{reason}: the study is kept without it"))
        return None


def report_bad_rows(table: Table, source: str, on_problem: ProblemSink) -> None:
    """Record each row that the table could not give, and each line that is not all of its encoding."""
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
    """Return what a table's cell says as text, empty for an empty one; 1000.0 is `1000`."""
    if value is None:
        return ""
    if isinstance(value, float):
        return "" if value != value else str(int(value)) if value.is_integer() else str(value)
    return value.isoformat() if isinstance(value, date) else str(value).strip()


def refuse_modality(modality: str | None, admit: Iterable[str]) -> str | None:
    """Return why a picture of this modality is not admitted, or None where it is."""
    if modality is None or modality in admit:
        return None
    return f"its modality is {modality}, not a radiograph's: --admit {modality} lets it in"
