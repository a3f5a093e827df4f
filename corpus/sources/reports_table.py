"""Reports that come in a table beside the films: read, and joined to studies without ever guessing."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corpus.errors import CorpusError
from corpus.files import UnreadableFile, quoted
from corpus.records import ItemState, Problem, ProblemSink, Report
from corpus.reports import parse_report
from corpus.sources.parts import cell, keep_worded, report_bad_rows
from corpus.tables import nearest, read_table, read_text


@dataclass(frozen=True, slots=True)
class WrittenReport:
    """One row: whose report it is said to be (empty where not said), and its text."""

    accession: str
    study_uid: str
    subject_id: str
    text: str


@dataclass(frozen=True, slots=True)
class Films:
    """What a report is joined to: the ids of a study that has pictures (empty where not known)."""

    study_id: str
    accession: str
    study_uid: str
    subject_id: str


def read_reports(path: Path, source: str, on_problem: ProblemSink) -> list[WrittenReport]:
    """Read a table with `report` or `report_file`, and `accession`, `study_uid`, `subject_id` where known.

    Raises:
        CorpusError: the table cannot be read, has no text, or nothing to join on.
    """
    table = read_table(path)
    known = table.frame.columns
    if not {"report", "report_file"} & set(known):
        raise CorpusError(
            f"the table {quoted(path)} has no column 'report' or 'report_file'{nearest('report', known)}"
        )
    if not {"accession", "study_uid"} & set(known):
        raise CorpusError(
            f"the table {quoted(path)} has no column 'accession' or 'study_uid' to join on"
            + nearest("accession", known)
        )
    report_bad_rows(table, source, on_problem)
    reports = []
    for number, row in enumerate(table.frame.iter_rows(named=True), 1):
        name = cell(row.get("study_uid")) or cell(row.get("accession"))
        item_id = f"{source}:{name or f'{path.name}@row{number}'}#report"
        if not name:
            on_problem(Problem(item_id, "failed", "the row has neither accession nor study_uid to join on"))
            continue
        text = report_text(row, path.parent, item_id, on_problem)
        if text:
            accession, subject = cell(row.get("accession")), cell(row.get("subject_id"))
            reports.append(WrittenReport(accession, cell(row.get("study_uid")), subject, text))
    return reports


def report_text(row: Mapping[str, Any], folder: Path, item_id: str, on_problem: ProblemSink) -> str:
    """Return a row's report: its `report`, else the text of its `report_file`; empty where it has none."""
    text = cell(row.get("report"))
    named = cell(row.get("report_file"))
    if text or not named:
        return text
    try:
        return read_text(folder / named)
    except UnreadableFile as reason:
        state: ItemState = "missing" if str(reason) == "is not there" else "failed"
        on_problem(Problem(item_id, state, f"the report file {quoted(named)} {reason}", str(folder / named)))
        return ""


def one_report(study_id: str, texts: Iterable[str], on_problem: ProblemSink) -> Report | None:
    """Make a study's report of the first text; a second, different one is recorded and left out."""
    different = list(dict.fromkeys(text.strip() for text in texts if text.strip()))
    for number, _ in enumerate(different[1:], 2):
        reason = "the study has another report already: the first of the table is kept"
        on_problem(Problem(f"{study_id}#report~{number}", "failed", reason))
    return keep_worded(parse_report(study_id, different[0]), on_problem) if different else None


def join(
    films: Iterable[Films], reports: Iterable[WrittenReport], on_problem: ProblemSink
) -> tuple[dict[str, list[str]], list[WrittenReport]]:
    """Join reports to films on accession, then on study UID.

    An accession that belongs to two subjects joins nothing, and a report is never joined to films of another
    subject than its own: both are recorded as failed.

    Returns:
        The texts of each study id, and the reports that no film claims.
    """
    films, reports = list(films), list(reports)
    subjects: dict[str, set[str]] = defaultdict(set)
    for accession, subject in (
        *((study.accession, study.subject_id) for study in films),
        *((report.accession, report.subject_id) for report in reports),
    ):
        if accession and subject:
            subjects[accession].add(subject)
    by_accession: dict[str, list[Films]] = defaultdict(list)
    by_study_uid: dict[str, list[Films]] = defaultdict(list)
    for study in films:
        by_accession[study.accession].append(study)
        by_study_uid[study.study_uid].append(study)

    joined: dict[str, list[str]] = defaultdict(list)
    single: list[WrittenReport] = []
    for report in reports:
        claimed = by_accession.get(report.accession, []) if report.accession else []
        claimed = claimed or (by_study_uid.get(report.study_uid, []) if report.study_uid else [])
        if len(subjects.get(report.accession, ())) > 1:
            reason = "its accession belongs to more than one subject: the report is joined to none"
            for item in [study.study_id for study in claimed] or [f"dicom:{report.accession}"]:
                on_problem(Problem(f"{item}#report", "failed", reason))
            continue
        if not claimed:
            single.append(report)
        # Films of one accession can be two studies: a report that names one of them is only that one's.
        named = [study for study in claimed if study.study_uid == report.study_uid]
        for study in named or claimed:
            if report.subject_id and study.subject_id and report.subject_id != study.subject_id:
                reason = "the report names another subject than the films: it is not joined"
                on_problem(Problem(f"{study.study_id}#report", "failed", reason))
            else:
                joined[study.study_id].append(report.text)
    return joined, single
