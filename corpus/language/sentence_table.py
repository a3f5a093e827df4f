"""The table sentence × finding: what every different sentence of a corpus says of every finding.

MedCLIP (Wang et al., EMNLP 2022) learns from such a table, which it did not publish; there a label that is
uncertain or missing is 0, here the four statuses stay four.
"""

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import polars as pl

from corpus.errors import CorpusError, UsageError
from corpus.files import quoted
from corpus.findings import VOCABULARY, Status
from corpus.language.labeler import label_sentence
from corpus.language.sections import sentences
from corpus.records import Study

SUFFIXES = (".parquet", ".csv", ".jsonl")
"""The kinds of table that are written."""

_STATUS = pl.Enum([status.value for status in Status])


@dataclass(frozen=True, slots=True)
class SentenceTable:
    """The table, and what it was made from.

    `frame`: `sentence` (text), `studies` (in how many reports it stands) and a column for each finding of the
    vocabulary, each cell `present`, `absent`, `uncertain` or `unmentioned`; the most frequent sentence first.
    `reports`: how many were read. `occurrences`: how often any sentence stands in them.
    """

    frame: pl.DataFrame
    reports: int
    occurrences: int


def tabulate_sentences(
    studies: Iterable[Study], *, on_step: Callable[[str, int], None] | None = None
) -> SentenceTable:
    """Label every different sentence of the studies' reports.

    Only sentences that speak of the film are taken (`corpus.language.sections.sentences`). Two are the same
    where their text is. Labels are those of `corpus.language.labeler.label_sentence`, spread along the tree
    of findings.

    Args:
        studies: read once; those without a report count for nothing.
        on_step: called with `reports` and how many of them are done.
    """
    holding: Counter[str] = Counter()
    languages: dict[str, str | None] = {}
    reports = occurrences = 0
    for study in studies:
        if study.report is None:
            continue
        told = sentences(study.report)
        holding.update(set(told))
        languages |= dict.fromkeys(told, study.report.language)
        occurrences += len(told)
        reports += 1
        if on_step is not None:
            on_step("reports", reports)
    # Equally frequent ones in the order of their text: the same table from the same corpus, always.
    ranked = sorted(holding.items(), key=lambda entry: (-entry[1], entry[0]))
    labels = [label_sentence(sentence, languages[sentence]) for sentence, _ in ranked]
    columns = [
        pl.Series("sentence", [sentence for sentence, _ in ranked], dtype=pl.String),
        pl.Series("studies", [count for _, count in ranked], dtype=pl.Int64),
    ]
    for name in VOCABULARY.names:
        words = [said.get(name, Status.UNMENTIONED).value for said in labels]
        columns.append(pl.Series(name, words, dtype=_STATUS))
    return SentenceTable(pl.DataFrame(columns), reports, occurrences)


def require_writable(path: Path) -> None:
    """Check that a table can be written there, before the work for it is done.

    Raises:
        UsageError: its extension is none of `SUFFIXES`.
        CorpusError: its folder is not there.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"the table {quoted(path)} is of no kind that is written: {', '.join(SUFFIXES)}")
    if not path.absolute().parent.is_dir():
        raise CorpusError(f"the folder of {quoted(path)} is not there: make it first")


def write_table(frame: pl.DataFrame, path: Path, metadata: Mapping[str, str]) -> None:
    """Write a table whole or not at all; one that was there before is replaced.

    It is readable by its owner alone: sentences are the words of patients' reports.

    Args:
        frame: the rows.
        path: where to; its extension, one of `SUFFIXES`, says how.
        metadata: kept in the file where its kind can (Parquet).

    Raises:
        UsageError, CorpusError: as `require_writable`, or the disk refuses.
    """
    require_writable(path)
    try:
        handle, name = tempfile.mkstemp(dir=path.absolute().parent, prefix=f".{path.stem}-")
        aside = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                _write(frame, file, path.suffix.lower(), metadata)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        raise CorpusError(
            f"the table {quoted(path)} cannot be written ({error.strerror or error}): "
            "free space there, or name another place"
        ) from error


def _write(frame: pl.DataFrame, file: IO[bytes], suffix: str, metadata: Mapping[str, str]) -> None:
    if suffix == ".parquet":
        frame.write_parquet(file, metadata=dict(metadata))
    elif suffix == ".csv":
        frame.write_csv(file)
    else:
        frame.write_ndjson(file)
