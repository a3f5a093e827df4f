"""Columns of a table by any of their usual names: `Subject_ID`, `patient_id` and `PatientID` are one."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from corpus.errors import CorpusError
from corpus.files import quoted
from corpus.notices import Notice, NoticeSink
from corpus.tables.reader import Table

ALIASES: Mapping[str, tuple[str, ...]] = {
    "study_id": ("study", "exam id", "examination id", "case id"),
    "subject_id": (
        "subject", "subject number", "subject no", "patient", "patient id", "patient number", "patient no",
        "patient nr", "patient identifier", "pat id", "mrn", "medical record number", "participant id",
        "pid", "person id",
    ),
    "image": (
        "image path", "image file", "image file name", "image name", "file", "file name", "file path", "path",
        "img", "img path", "dicom path", "dicom file",
    ),
    "report": ("report text", "radiology report", "text"),
    "report_file": ("report path", "report file name", "report file path", "text file"),
    "view": ("view position", "projection"),
    "modality": (),
    "date": (
        "study date", "exam date", "examination date", "study date time", "date of study", "date of exam",
    ),
    "age": (
        "patient age", "patient's age", "subject age", "age years", "age in years", "age at study",
        "age at exam",
    ),
    "sex": ("patient sex", "patient's sex", "subject sex", "gender", "patient gender"),
    "study_uid": ("study instance uid",),
    "accession": ("accession number", "accession no", "accession id", "acc number", "acc no"),
    "diagnosis": (),
    "present": ("present findings", "findings present"),
    "absent": ("absent findings", "findings absent"),
    "uncertain": ("uncertain findings", "findings uncertain"),
}  # fmt: skip
"""The other names of each known column, in words: case and what separates the words do not count."""

_SHORT = 5  # letters below which one letter makes another word


def fold(name: str) -> str:
    """Return a column's name without case, separators and accents of typing: `Subject_ID` is `subjectid`."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", name).casefold())


_KNOWN = {fold(alias): name for name, others in ALIASES.items() for alias in (name, *others)}


@dataclass(frozen=True, slots=True)
class _Matched:
    """The column of a table that is read as each known one, and those that are read as none."""

    columns: Mapping[str, str]
    others: Sequence[str]


def name_columns(table: Table, known: Sequence[str], on_notice: NoticeSink) -> Table:
    """Return the table with its columns under their known names; what was renamed is told.

    A column that has the known name itself is that column; another by an alias beside it stays what it is.

    Args:
        table: as it was read.
        known: the names that mean something in it, of `ALIASES`.
        on_notice: told of each column that is read under another name, and of each that is nearly one.

    Raises:
        CorpusError: two columns could be one known column; the message names both.
    """
    matched = _match(table, known)
    for name, column in matched.columns.items():
        if name != column:
            text = f"the column {column!r} is read as {name}"
            on_notice(Notice("column", table.path.name, text))
    for column in matched.others:
        alias = _KNOWN.get(fold(column))
        if alias in known:
            text = f"the column {column!r} is another name of {alias}, which the table has: it stays as it is"
            on_notice(Notice("column", table.path.name, text))
        elif near := _near(column, [name for name in known if name not in matched.columns]):
            text = f"the column {column!r} is not read as {near}: if it is meant, name it so"
            on_notice(Notice("column", table.path.name, text))
    renamed = {column: name for name, column in matched.columns.items() if name != column}
    own_names = {name: column for column, name in renamed.items()}
    return replace(table, frame=table.frame.rename(renamed), own_names=own_names)


def _match(table: Table, known: Sequence[str]) -> _Matched:
    candidates: dict[str, list[str]] = defaultdict(list)
    for column in table.frame.columns:
        name = _KNOWN.get(fold(column))
        if name is not None and name in known:
            candidates[name].append(column)
    columns = {name: _choose(table.path, name, found) for name, found in candidates.items()}
    taken = set(columns.values())
    return _Matched(columns, [column for column in table.frame.columns if column not in taken])


def _choose(path: Path, name: str, found: Sequence[str]) -> str:
    """The one column that is the known one: the only one, or the one of that very name."""
    same = [column for column in found if fold(column) == fold(name)]
    candidates = same or found
    if len(candidates) > 1:
        one, other = candidates[:2]
        raise CorpusError(
            f"the table {quoted(path)} has two columns for {name}: {one!r} and {other!r}; rename "
            "the one that is not meant"
        )
    return candidates[0]


def _near(column: str, names: Sequence[str]) -> str | None:
    """The known name that a column's is nearly, by itself or by an alias."""
    folded = fold(column)
    for spelling, name in _KNOWN.items():
        if name in names and (
            (_is_one_edit(folded, spelling) and len(spelling) >= _SHORT) or folded == f"{spelling}s"
        ):
            return name
    return None


def _is_one_edit(one: str, other: str) -> bool:
    """Whether one letter lost, added, exchanged or swapped with its neighbour makes one of the other."""
    while one and other and one[0] == other[0]:
        one, other = one[1:], other[1:]
    while one and other and one[-1] == other[-1]:
        one, other = one[:-1], other[:-1]
    return max(len(one), len(other)) == 1 or (len(one) == 2 and one == other[::-1])
