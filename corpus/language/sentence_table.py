"""The table sentence × finding: the status of every finding in every different sentence of a corpus.

MedCLIP (Wang et al., EMNLP 2022) is trained on such an unpublished table; there an uncertain or missing label
is 0, here the four statuses stay four.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import polars as pl

from corpus.errors import CorpusError, UsageError
from corpus.files import quoted, write_whole
from corpus.findings import VOCABULARY, Status
from corpus.language.labeler import label_sentence
from corpus.language.sections import sentences
from corpus.progress import OnProgress, silent
from corpus.records import Study

SUFFIXES = (".parquet", ".csv", ".jsonl")
"""The supported extensions."""

_STATUS = pl.Enum([status.value for status in Status])


@dataclass(frozen=True, slots=True)
class SentenceTable:
    """The table, and its origin.

    `frame`: `sentence` (text), `studies` (number of reports with it) and a column for each finding of the
    vocabulary, each cell `present`, `absent`, `uncertain` or `unmentioned`; the most frequent sentence first.
    `reports`: number of reports read.
    `occurrences`: number of sentences in them.
    """

    frame: pl.DataFrame
    reports: int
    occurrences: int


def tabulate_sentences(studies: Iterable[Study], *, on_progress: OnProgress = silent) -> SentenceTable:
    """Label every different sentence of the studies' reports.

    Only sentences that describe the image are included (`corpus.language.sections.sentences`); two are the
    same where their text is. Labels are those of `corpus.language.labeler.label_sentence`, spread along the
    tree of findings.

    Args:
        studies: read once; those without a report are ignored.
        on_progress: called with `reports` and the number done.
    """
    study_counts: Counter[str] = Counter()
    languages: dict[str, str | None] = {}
    reports = occurrences = 0
    for study in studies:
        if study.report is None:
            continue
        listed = sentences(study.report)
        study_counts.update(set(listed))
        languages |= dict.fromkeys(listed, study.report.language)
        occurrences += len(listed)
        reports += 1
        on_progress("reports", reports)
    # Equally frequent ones in the order of their text, so that a corpus always gives the same table.
    ranked = sorted(study_counts.items(), key=lambda entry: (-entry[1], entry[0]))
    labels = [label_sentence(sentence, languages[sentence]) for sentence, _ in ranked]
    columns = [
        pl.Series("sentence", [sentence for sentence, _ in ranked], dtype=pl.String),
        pl.Series("studies", [count for _, count in ranked], dtype=pl.Int64),
    ]
    for name in VOCABULARY.names:
        values = [statuses.get(name, Status.UNMENTIONED).value for statuses in labels]
        columns.append(pl.Series(name, values, dtype=_STATUS))
    return SentenceTable(pl.DataFrame(columns), reports, occurrences)


def require_writable(path: Path) -> None:
    """Check that a table can be written to a path, before the work for it is done.

    Raises:
        UsageError: its extension is none of `SUFFIXES`.
        CorpusError: its folder does not exist.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"the table {quoted(path)} is of no kind that is written: {', '.join(SUFFIXES)}")
    if not path.absolute().parent.is_dir():
        raise CorpusError(f"the folder of {quoted(path)} is not there: make it first")


def write_table(frame: pl.DataFrame, path: Path, metadata: Mapping[str, str]) -> None:
    """Write a table atomically; an existing one is replaced.

    The file is readable by its owner only: sentences are the words of patients' reports.

    Args:
        frame: the rows.
        path: the file; its extension, one of `SUFFIXES`, determines the format.
        metadata: stored in the file where the format can (Parquet).

    Raises:
        UsageError, CorpusError: as `require_writable`, or the disk refuses.
    """
    require_writable(path)
    try:
        write_whole(path, lambda file: _write(frame, file, path.suffix.lower(), metadata))
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
