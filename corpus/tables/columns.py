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
        "pid", "person_id",
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
"""Further names of each known column, in words; case and separators do not count."""

_SHORT = 5  # letters; in shorter names one different letter makes another word


def normalise_name(name: str) -> str:
    """Return a column's name without case, separators and typed accents: `Subject_ID` is `subjectid`."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", name).casefold())


_KNOWN = {normalise_name(alias): name for name, others in ALIASES.items() for alias in (name, *others)}


@dataclass(frozen=True, slots=True)
class _Matched:
    """The columns of a table.

    `columns`: known name → column.
    `others`: columns without a known name.
    """

    columns: Mapping[str, str]
    others: Sequence[str]


def name_columns(table: Table, known: Sequence[str], on_notice: NoticeSink) -> Table:
    """Return the table with its columns under their known names, and report the renamed ones.

    A column with the known name itself takes precedence; an alias beside it keeps its name.

    Args:
        table: as it was read.
        known: the known names for this table, of `ALIASES`.
        on_notice: receives each column that is read under another name, and each that nearly has a known one.

    Raises:
        CorpusError: two columns match one known name; the message names both.
    """
    matched = _match(table, known)
    for name, column in matched.columns.items():
        if name != column:
            text = f"the column {column!r} is read as {name}"
            on_notice(Notice("column", table.path.name, text))
    for column in matched.others:
        alias = _KNOWN.get(normalise_name(column))
        if alias in known:
            text = f"the column {column!r} is another name of {alias}, which the table has: it stays as it is"
            on_notice(Notice("column", table.path.name, text))
        elif similar := _nearly_named(column, [name for name in known if name not in matched.columns]):
            text = f"the column {column!r} is not read as {similar}: if it is meant, name it so"
            on_notice(Notice("column", table.path.name, text))
    renamed = {column: name for name, column in matched.columns.items() if name != column}
    own_names = {name: column for column, name in renamed.items()}
    return replace(table, frame=table.frame.rename(renamed), own_names=own_names)


def _match(table: Table, known: Sequence[str]) -> _Matched:
    candidates: dict[str, list[str]] = defaultdict(list)
    for column in table.frame.columns:
        name = _KNOWN.get(normalise_name(column))
        if name is not None and name in known:
            candidates[name].append(column)
    columns = {name: _choose(table.path, name, found) for name, found in candidates.items()}
    used = set(columns.values())
    return _Matched(columns, [column for column in table.frame.columns if column not in used])


def _choose(path: Path, name: str, found: Sequence[str]) -> str:
    """Return the column of a known name: the only candidate, or the one with that very name."""
    same = [column for column in found if normalise_name(column) == normalise_name(name)]
    candidates = same or found
    if len(candidates) > 1:
        one, other = candidates[:2]
        raise CorpusError(
            f"the table {quoted(path)} has two columns for {name}: {one!r} and {other!r}; rename "
            "the one that is not meant"
        )
    return candidates[0]


def _nearly_named(column: str, names: Sequence[str]) -> str | None:
    """Return the known name that a column nearly has, by itself or by an alias."""
    normalised = normalise_name(column)
    for spelling, name in _KNOWN.items():
        if name in names and (
            (_is_one_edit(normalised, spelling) and len(spelling) >= _SHORT) or normalised == f"{spelling}s"
        ):
            return name
    return None


def _is_one_edit(one: str, other: str) -> bool:
    """Return whether one insertion, deletion, substitution or transposition makes one of the other."""
    while one and other and one[0] == other[0]:
        one, other = one[1:], other[1:]
    while one and other and one[-1] == other[-1]:
        one, other = one[:-1], other[:-1]
    return max(len(one), len(other)) == 1 or (len(one) == 2 and one == other[::-1])
