"""Ground-truth tables of findings, and the scores of labels against them. For evaluation, never for training.

A table says yes or no. Its annotators wrote down what the report asserts; so a label counts as yes when it is
`present`, and as no when it is absent, uncertain or unmentioned.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from corpus.errors import CorpusError, UsageError
from corpus.files import quoted
from corpus.findings import NO_FINDING, SUPPORT_DEVICES, VOCABULARY, Status, Statuses
from corpus.tables.reader import nearest, read_table

_STATUS = {"1": Status.PRESENT, "0": Status.ABSENT, "true": Status.PRESENT, "false": Status.ABSENT}
_OPENI_FILE = "CXR"  # the Open-i gold table calls the report of uid 1000 `CXR1000`


@dataclass(frozen=True, slots=True)
class Truth:
    """A ground-truth table.

    `statuses`: study id → statuses of its findings.
    `findings`: the findings that have a column.
    `ignored`: columns that name no finding.
    `bad_rows`: number and reason of each row that is not used.
    """

    statuses: Mapping[str, Statuses]
    findings: tuple[str, ...]
    ignored: tuple[str, ...] = ()
    bad_rows: tuple[str, ...] = ()

    def names(self, study_ids: Iterable[str]) -> bool:
        """Whether the table has a row for any of these studies."""
        return any(study_id in self.statuses for study_id in study_ids)

    def of(self, study_id: str) -> Statuses:
        """Return the statuses of a study; empty where the table has no row for it."""
        return self.statuses.get(study_id, MappingProxyType({}))


def read_truth(path: Path) -> Truth:
    """Read a ground-truth table.

    Args:
        path: csv, parquet or jsonl with a column `study_id` (as in `openi:1000`), or `filename` as in the
            Open-i gold (`CXR1000` is `openi:1000`), and one 0/1 column a finding under any of its names;
            `normal` is `no_finding`. A blank cell is unmentioned.

    Returns:
        The table; statuses are spread along the tree of findings. A row that calls a study normal and yet
        names a finding (other than a device) is not normal.

    Raises:
        CorpusError: the file cannot be read as a table.
        UsageError: it has no id column, no column of a finding, two columns of one finding, or no usable row.
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
            earlier = next(name for name, f in findings.items() if f == finding)
            raise UsageError(
                f"the truth table {quoted(path)} has two columns of {finding}: {earlier!r}, {column!r}"
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
    """Return the study id of a row, empty where it has none."""
    name = str(value if value is not None else "").strip()
    if key == "filename" and name.startswith(_OPENI_FILE):
        return f"openi:{name.removeprefix(_OPENI_FILE)}"
    return name


def _cell(value: Any) -> str:
    """Return a cell in one spelling: `1`, `1.0`, `True` and ` 1 ` are the same, null is empty."""
    return str(value if value is not None else "").strip().lower().removesuffix(".0")


def _statuses(cells: Mapping[str, str]) -> Statuses:
    statuses = {finding: _STATUS[cell] for finding, cell in cells.items() if cell}
    shown = [f for f, s in statuses.items() if s is Status.PRESENT and f not in (NO_FINDING, SUPPORT_DEVICES)]
    if shown and NO_FINDING in statuses:
        statuses[NO_FINDING] = Status.ABSENT
    return VOCABULARY.spread(statuses)


def score_labels(labels: Mapping[str, Statuses], truth: Truth, *, at_least: int = 1) -> dict[str, Any]:
    """Score labels against a ground-truth table, over the studies that both name.

    Args:
        labels: study id → statuses. Ids that differ from the table's only by a leading `<source>:` match.
        truth: the table, see `read_truth`.
        at_least: number of positives in the whole table from which a finding enters the micro and macro
            averages. Parents and `no_finding` are listed, but enter no average: metrics count leaves.

    Returns:
        `studies` (number compared), `findings` (name → `tp`, `fp`, `fn`, `positives` in the compared studies,
        `precision`, `recall`, `f1`), `averaged` (the names in the averages), `micro` and `macro`
        (`precision`, `recall`, `f1`). A ratio with denominator 0 is 0.

    Raises:
        CorpusError: the table names none of the studies.
    """
    table = {
        study_id: {name: row[name] is Status.PRESENT for name in truth.findings if name in row}
        for study_id, row in truth.statuses.items()
    }
    bare = {study_id.partition(":")[2] or study_id: row for study_id, row in table.items()}
    compared = [
        (statuses, row)
        for study_id, statuses in labels.items()
        if (row := table.get(study_id, bare.get(study_id.partition(":")[2] or study_id))) is not None
    ]
    if not compared:
        raise CorpusError("the truth table names none of the labelled studies")
    named = [name for name in VOCABULARY.names if name in truth.findings]
    counts = {name: _count(name, compared) for name in named}
    averaged = [
        name
        for name in named
        if name in VOCABULARY.leaves and sum(row.get(name, False) for row in table.values()) >= at_least
    ]
    scores = {name: _ratios(*counts[name]) for name in named}
    return {
        "studies": len(compared),
        "findings": {
            name: {"tp": tp, "fp": fp, "fn": fn, "positives": tp + fn, **scores[name]}
            for name, (tp, fp, fn) in counts.items()
        },
        "averaged": averaged,
        "micro": _ratios(*(sum(counts[name][side] for name in averaged) for side in range(3))),
        "macro": {
            key: _mean(scores[name][key] for name in averaged) for key in ("precision", "recall", "f1")
        },
    }


def _count(name: str, compared: Iterable[tuple[Statuses, Mapping[str, bool]]]) -> tuple[int, int, int]:
    """Return true positives, false positives and false negatives of one finding."""
    tp = fp = fn = 0
    for statuses, row in compared:
        if name not in row:
            continue
        labelled = statuses.get(name) is Status.PRESENT
        tp += labelled and row[name]
        fp += labelled and not row[name]
        fn += row[name] and not labelled
    return tp, fp, fn


def _ratios(tp: int, fp: int, fn: int) -> dict[str, float]:
    """Return precision, recall and their harmonic mean."""
    return {
        "precision": tp / (tp + fp) if tp + fp else 0.0,
        "recall": tp / (tp + fn) if tp + fn else 0.0,
        "f1": 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 0.0,
    }


def _mean(values: Iterable[float]) -> float:
    scores = list(values)
    return sum(scores) / len(scores) if scores else 0.0
