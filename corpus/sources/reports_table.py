"""Reports that come in a table beside the films: read, and joined to studies without ever guessing."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corpus.errors import CorpusError
from corpus.files import UnreadableFile, quoted
from corpus.language.sections import parse_report
from corpus.notices import Notice, NoticeSink
from corpus.records import ItemState, Problem, ProblemSink, Report
from corpus.redaction import redacted
from corpus.sources.common import cell, keep_worded, report_bad_rows
from corpus.sources.listed_paths import find_listed
from corpus.tables.columns import name_columns
from corpus.tables.options import DEFAULT, TableOptions
from corpus.tables.reader import nearest, read_table, read_text
from corpus.tables.spreadsheet_damage import find_twin, is_rounded

_COLUMNS = ("report", "report_file", "accession", "study_uid", "subject_id")


@redacted
@dataclass(frozen=True, slots=True)
class WrittenReport:
    """One row: whose report it is said to be (empty where not said), and its text."""

    accession: str
    study_uid: str
    subject_id: str
    text: str


@redacted
@dataclass(frozen=True, slots=True)
class Films:
    """What a report is joined to: the ids of a study that has pictures (empty where not known)."""

    study_id: str
    accession: str
    study_uid: str
    subject_id: str


def read_reports(
    path: Path, source: str, on_problem: ProblemSink, options: TableOptions = DEFAULT
) -> list[WrittenReport]:
    """Read a table with `report` or `report_file`, and `accession`, `study_uid`, `subject_id` where known.

    Raises:
        CorpusError: the table cannot be read, has no text, or nothing to join on.
    """
    table = name_columns(read_table(path, options=options), _COLUMNS, options.on_notice)
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
        text = report_text(row, path.parent, item_id, on_problem, options)
        if text:
            accession, subject = cell(row.get("accession")), cell(row.get("subject_id"))
            reports.append(WrittenReport(accession, cell(row.get("study_uid")), subject, text))
    return reports


def report_text(
    row: Mapping[str, Any],
    folder: Path,
    item_id: str,
    on_problem: ProblemSink,
    options: TableOptions = DEFAULT,
) -> str:
    """Return a row's report: its `report`, else the text of its `report_file`; empty where it has none."""
    text = cell(row.get("report"))
    named = cell(row.get("report_file"))
    if text or not named:
        return text
    file = find_listed(folder, named)
    try:
        return read_text(file.path, options)
    except UnreadableFile as reason:
        state: ItemState = "missing" if str(reason) == "is not there" else "failed"
        why = f"the report file {quoted(file.name)} {reason}"
        on_problem(Problem(item_id, state, why, str(file.path)))
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
) -> tuple[dict[str, list[WrittenReport]], list[WrittenReport]]:
    """Join reports to films on accession, then on study UID.

    An accession that belongs to two subjects joins nothing, and a report is never joined to films of another
    subject than its own: both are recorded as failed.

    Returns:
        The reports of each study id, and the reports that no film claims.
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

    joined: dict[str, list[WrittenReport]] = defaultdict(list)
    single: list[WrittenReport] = []
    for report in reports:
        claimed = by_accession.get(report.accession, []) if report.accession else []
        claimed = claimed or (by_study_uid.get(report.study_uid, []) if report.study_uid else [])
        if len(subjects.get(report.accession, ())) > 1:
            reason = "its accession belongs to more than one subject: the report is joined to none"
            for item in [study.study_id for study in claimed] or [f"dicom:{report.accession}"]:
                on_problem(Problem(f"{item}#report", "failed", reason))
            continue
        if not claimed and is_rounded(report.accession) and not report.study_uid:
            reason = "a spreadsheet rounded its accession, so that it names no study: export it as text"
            on_problem(Problem(f"dicom:{report.accession}#report", "failed", reason))
        elif not claimed:
            single.append(report)
        # Films of one accession can be two studies: a report that names one of them is only that one's.
        named = [study for study in claimed if study.study_uid == report.study_uid]
        for study in named or claimed:
            if report.subject_id and study.subject_id and report.subject_id != study.subject_id:
                reason = "the report names another subject than the films: it is not joined"
                on_problem(Problem(f"{study.study_id}#report", "failed", reason))
            else:
                joined[study.study_id].append(report)
    return joined, single


def tell_unjoined(
    table: Path, films: Iterable[Films], reports: Sequence[WrittenReport], on_notice: NoticeSink
) -> None:
    """Tell where no report joins any films, and where a number was most likely spoiled on its way.

    Nothing is joined by this: an example shows a number of the table beside the one it most likely was.
    """
    films = list(films)
    accessions = {study.accession for study in films if study.accession}
    uids = {study.study_uid for study in films if study.study_uid}
    lost = [r for r in reports if r.accession not in accessions and r.study_uid not in uids]
    if not films or not lost:
        return
    twin = find_twin((report.accession for report in lost), accessions)
    twin = twin or find_twin((report.study_uid for report in lost), uids)
    if twin is None and len(lost) < len(reports):
        return
    how_many = "none" if len(lost) == len(reports) else f"only {len(reports) - len(lost):,}"
    text = f"{how_many} of its {len(reports):,} reports joined to images by accession or study UID"
    if twin is None:
        on_notice(Notice("join", table.name, f"{text}: compare the numbers of both"))
        return
    text += f": {twin.cause}; export the column as text"
    example = f"{twin.written} in the table, {twin.meant} in the images"
    on_notice(Notice("join", table.name, text, (example,)))
