"""Reports in a table beside the images: reading them, and joining them to studies without guessing."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corpus.errors import CorpusError
from corpus.files import UnreadableFile, quoted
from corpus.language.sections import parse_report
from corpus.notices import Notice, NoticeSink
from corpus.records import ItemId, ItemState, Problem, ProblemSink, Report
from corpus.redaction import redacted
from corpus.sources.common import cell, find_listed, report_bad_rows, require_words
from corpus.tables import DEFAULT, TableOptions
from corpus.tables.columns import name_columns
from corpus.tables.reader import nearest, read_table, read_text
from corpus.tables.spreadsheet_damage import find_damaged_number, is_rounded

_COLUMNS = ("report", "report_file", "accession", "study_uid", "subject_id")
_EXAMPLES = 5


@redacted
@dataclass(frozen=True, slots=True)
class WrittenReport:
    """One row of the table: the ids it gives for its report (empty where absent), and the text."""

    accession: str
    study_uid: str
    subject_id: str
    text: str


@redacted
@dataclass(frozen=True, slots=True)
class ImagedStudy:
    """A study with images that a report can be joined to, by its ids (empty where unknown)."""

    study_id: str
    accession: str
    study_uid: str
    subject_id: str


def read_reports(
    path: Path, source: str, on_problem: ProblemSink, options: TableOptions = DEFAULT
) -> list[WrittenReport]:
    """Read a table with `report` or `report_file`, and at least one of `accession` and `study_uid`.

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
        item_id = ItemId.report(f"{source}:{name or f'{path.name}@row{number}'}").text
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
    """Return a report of the first text; a second, different one is recorded and left out."""
    different = list(dict.fromkeys(text.strip() for text in texts if text.strip()))
    for number, _ in enumerate(different[1:], 2):
        reason = "the study has another report already: the first of the table is kept"
        on_problem(Problem(f"{study_id}#report~{number}", "failed", reason))
    return require_words(parse_report(study_id, different[0]), on_problem) if different else None


def join(
    imaged: Iterable[ImagedStudy], reports: Iterable[WrittenReport], on_problem: ProblemSink
) -> tuple[dict[str, list[WrittenReport]], list[WrittenReport]]:
    """Join reports to images on accession, then on study UID.

    An accession of two subjects joins nothing, and a report is never joined to images of another subject:
    both are recorded as failed.

    Returns:
        The reports of each study id, and the reports without images.
    """
    imaged, reports = list(imaged), list(reports)
    subjects: dict[str, set[str]] = defaultdict(set)
    for accession, subject in (
        *((study.accession, study.subject_id) for study in imaged),
        *((report.accession, report.subject_id) for report in reports),
    ):
        if accession and subject:
            subjects[accession].add(subject)
    by_accession: dict[str, list[ImagedStudy]] = defaultdict(list)
    by_study_uid: dict[str, list[ImagedStudy]] = defaultdict(list)
    for study in imaged:
        by_accession[study.accession].append(study)
        by_study_uid[study.study_uid].append(study)

    joined: dict[str, list[WrittenReport]] = defaultdict(list)
    single: list[WrittenReport] = []
    for report in reports:
        matching = by_accession.get(report.accession, []) if report.accession else []
        matching = matching or (by_study_uid.get(report.study_uid, []) if report.study_uid else [])
        if len(subjects.get(report.accession, ())) > 1:
            reason = "its accession belongs to more than one subject: the report is joined to none"
            for item in [study.study_id for study in matching] or [f"dicom:{report.accession}"]:
                on_problem(Problem(ItemId.report(item).text, "failed", reason))
            continue
        if not matching and is_rounded(report.accession) and not report.study_uid:
            reason = "a spreadsheet rounded its accession, so that it names no study: export it as text"
            on_problem(Problem(ItemId.report(f"dicom:{report.accession}").text, "failed", reason))
        elif not matching:
            single.append(report)
        # Images of one accession can be two studies: a report that names one of them is only that one's.
        named = [study for study in matching if study.study_uid == report.study_uid]
        for study in named or matching:
            if report.subject_id and study.subject_id and report.subject_id != study.subject_id:
                reason = "the report names another subject than the images: it is not joined"
                on_problem(Problem(ItemId.report(study.study_id).text, "failed", reason))
            else:
                joined[study.study_id].append(report)
    return joined, single


def report_unjoined(
    table: Path, imaged: Iterable[ImagedStudy], reports: Sequence[WrittenReport], on_notice: NoticeSink
) -> None:
    """Notify which reports join no images, or that a number was most likely damaged by a spreadsheet.

    Nothing is joined here: an example shows a number of the table beside the one that it most likely was.
    Accessions that a spreadsheet rounded are recorded by `join`.
    """
    imaged = list(imaged)
    accessions = {study.accession for study in imaged if study.accession}
    uids = {study.study_uid for study in imaged if study.study_uid}
    lost = [r for r in reports if r.accession not in accessions and r.study_uid not in uids]
    if not imaged or not lost:
        return
    damaged = find_damaged_number((report.accession for report in lost), accessions)
    damaged = damaged or find_damaged_number((report.study_uid for report in lost), uids)
    if damaged is None and len(lost) < len(reports):
        single = [r for r in lost if r.study_uid or not is_rounded(r.accession)]
        if single:
            on_notice(_some_unjoined(table, single, len(reports)))
        return
    joined_count = "none" if len(lost) == len(reports) else f"only {len(reports) - len(lost):,}"
    text = f"{joined_count} of its {len(reports):,} reports joined to images by accession or study UID"
    if damaged is None:
        on_notice(Notice("join", table.name, f"{text}: compare the numbers of both"))
        return
    text += f": {damaged.cause}; export the column as text"
    example = f"{damaged.written} in the table, {damaged.meant} in the images"
    on_notice(Notice("join", table.name, text, (example,)))


def _some_unjoined(table: Path, single: Sequence[WrittenReport], total: int) -> Notice:
    several = len(single) > 1
    outcome = (
        "join no image and are indexed as studies without an image: compare their accession numbers"
        if several
        else "joins no image and is indexed as a study without an image: compare its accession number"
    )
    numbers = dict.fromkeys(report.accession or report.study_uid for report in single)
    examples = [number for number in numbers if number][:_EXAMPLES]
    if len(examples) < len(single):
        examples.append("…")
    text = f"{len(single):,} of its {total:,} reports {outcome} or study UID{'s' * several}"
    return Notice("join", table.name, text, tuple(examples))
