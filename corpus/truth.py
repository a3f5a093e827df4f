"""Truth tables: what people say each study shows, to score against and never to learn from."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from corpus.errors import UsageError
from corpus.files import quoted
from corpus.findings import NO_FINDING, SUPPORT_DEVICES, VOCABULARY, Status, Statuses
from corpus.tables.reader import nearest, read_table

_STATUS = {"1": Status.PRESENT, "0": Status.ABSENT, "true": Status.PRESENT, "false": Status.ABSENT}
_OPENI_FILE = "CXR"  # the Open-i gold names the report of uid 1000 `CXR1000`


@dataclass(frozen=True, slots=True)
class Truth:
    """A truth table, read.

    `statuses`: study id → what it shows. `findings`: the findings it has a column for. `ignored`: columns
    that name no finding. `bad_rows`: rows set aside, each with its number and reason.
    """

    statuses: Mapping[str, Statuses]
    findings: tuple[str, ...]
    ignored: tuple[str, ...] = ()
    bad_rows: tuple[str, ...] = ()

    def names(self, study_ids: Iterable[str]) -> bool:
        """Whether the table has a row for any of these studies."""
        return any(study_id in self.statuses for study_id in study_ids)

    def of(self, study_id: str) -> Statuses:
        """What the table says of a study; nothing where it has no row for it."""
        return self.statuses.get(study_id, MappingProxyType({}))


def read_truth(path: Path) -> Truth:
    """Read a truth table.

    Args:
        path: csv, parquet or jsonl with a column `study_id` (as in `openi:1000`), or `filename` as in the
            Open-i gold (`CXR1000` is `openi:1000`), and one 0/1 column a finding under any of its names;
            `normal` is `no_finding`. A blank cell says nothing.

    Returns:
        The table; statuses are spread along the tree of findings. A row that calls a study normal and
        yet names a finding (other than a device) is not normal.

    Raises:
        CorpusError: the file cannot be read as a table.
        UsageError: it has neither id column, no column of a finding, two columns of one finding, or no row
            that can be used.
    """
    table = read_table(path)
    columns = table.frame.columns
    key = next((name for name in ("study_id", "filename") if name in columns), None)
    if key is None:
        raise UsageError(
            f"the truth table {quoted(path)} has no column 'study_id'{nearest('study_id', columns)} "
            "and no 'filename': add one that names the studies"
        )
    findings = _find_columns(path, [name for name in columns if name != key])
    statuses: dict[str, Statuses] = {}
    bad = [f"row {row.number} {row.reason}" for row in table.bad_rows]
    for number, row in enumerate(table.frame.iter_rows(named=True), 1):
        study_id = _study_id(key, row[key])
        unreadable = [c for c in findings if _cell(row[c]) not in (*_STATUS, "")]
        if not study_id:
            bad.append(f"row {number} has no {key}")
        elif study_id in statuses:
            bad.append(f"row {number} repeats {study_id}: the first row counts")
        elif unreadable:
            column = unreadable[0]
            bad.append(f"row {number} ({study_id}) holds {row[column]!r} in {column!r}: 0 or 1 is read")
        else:
            statuses[study_id] = _statuses({f: _cell(row[c]) for c, f in findings.items()})
    if not statuses:
        raise UsageError(
            f"the truth table {quoted(path)} has no row that can be used" + (f": {bad[0]}" if bad else "")
        )
    ignored = tuple(name for name in columns if name != key and name not in findings)
    return Truth(MappingProxyType(statuses), tuple(findings.values()), ignored, tuple(bad))


def _find_columns(path: Path, columns: Iterable[str]) -> dict[str, str]:
    """Return column → finding for those that name one, each finding once."""
    findings: dict[str, str] = {}
    for column in columns:
        finding = VOCABULARY.find(column)
        if finding in findings.values():
            twin = next(name for name, f in findings.items() if f == finding)
            raise UsageError(
                f"the truth table {quoted(path)} has two columns of {finding}: {twin!r}, {column!r}"
            )
        if finding is not None:
            findings[column] = finding
    if not findings:
        raise UsageError(
            f"no column of the truth table {quoted(path)} names a finding; known are "
            f"{', '.join(VOCABULARY.names)}"
        )
    return findings


def _study_id(key: str, value: Any) -> str:
    """Return the study a row speaks of, or nothing."""
    name = str(value if value is not None else "").strip()
    if key == "filename" and name.startswith(_OPENI_FILE):
        return f"openi:{name.removeprefix(_OPENI_FILE)}"
    return name


def _cell(value: Any) -> str:
    """Return a cell in one spelling: `1`, `1.0`, `True` and ` 1 ` are the same, null is empty."""
    return str(value if value is not None else "").strip().lower().removesuffix(".0")


def _statuses(cells: Mapping[str, str]) -> Statuses:
    told = {finding: _STATUS[cell] for finding, cell in cells.items() if cell}
    shown = [f for f, s in told.items() if s is Status.PRESENT and f not in (NO_FINDING, SUPPORT_DEVICES)]
    if shown and NO_FINDING in told:
        told[NO_FINDING] = Status.ABSENT
    return VOCABULARY.spread(told)
