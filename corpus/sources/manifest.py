"""A manifest: a user's table with one row an image or a report (CSV, Parquet or JSON lines)."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from corpus.demographics import parse_age, parse_modality, parse_sex, parse_view
from corpus.dicom.file import Undecodable, is_dicom
from corpus.dicom.header import read_header
from corpus.errors import CorpusError
from corpus.files import UnreadableFile, quoted, read_bytes
from corpus.findings import VOCABULARY, Status, Statuses
from corpus.notices import Notice, NoticeSink
from corpus.records import AttributeValue, ImageRef, ItemId, Problem, ProblemSink, Sex, Study
from corpus.sources.common import (
    LISTED_TWICE,
    cell,
    find_listed,
    image_ids,
    parsed,
    refuse_modality,
    report_bad_rows,
)
from corpus.sources.dicom import refuse_header
from corpus.sources.reports_table import one_report, report_text
from corpus.subjects import Patient, Subject, assign_subjects, is_placeholder, matched_id
from corpus.tables import DEFAULT, TableOptions
from corpus.tables.columns import name_columns, normalise_name
from corpus.tables.dates import order_of_column, parse_date
from corpus.tables.reader import Table, nearest, read_table, require_columns
from corpus.tables.spreadsheet_damage import is_rounded

NAME = "manifest"

COLUMNS = (
    "study_id", "subject_id", "image", "report", "report_file", "view", "modality", "date", "age", "sex",
    "study_uid", "accession", "diagnosis", "present", "absent", "uncertain",
)  # fmt: skip
"""The columns with a meaning; all others become attributes. Only `study_id` and an item are required."""

_ITEMS = ("image", "report", "report_file")
_SECTIONS = ("findings", "impression")  # columns of other tables that are not read as reports
_STATUSES = (Status.PRESENT, Status.ABSENT, Status.UNCERTAIN)

_Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ManifestSource:
    """Studies are `manifest:<study_id>`, subjects `manifest:<subject_id>`, without one the study itself."""

    table: Path
    admit: frozenset[str]
    options: TableOptions = DEFAULT

    @property
    def name(self) -> str:
        """The kind of source."""
        return NAME

    def read(self) -> Table:
        """Read the table, its columns under the names of `COLUMNS`, and send notices on the reading.

        Raises:
            CorpusError: it cannot be read, has two columns for one of `COLUMNS`, lacks `study_id` or all of
                image, report and report_file, or has ambiguous dates.
        """
        return self._read(self.options)

    def _read(self, options: TableOptions) -> Table:
        table = name_columns(read_table(self.table, options=options), COLUMNS, options.on_notice)
        require_columns(table, ("study_id",))
        known = table.frame.columns
        self._notify_section_columns(table, options.on_notice)
        if not set(_ITEMS) & set(known):
            raise CorpusError(
                f"the table {quoted(self.table)} has no column 'image', 'report' or 'report_file'"
                f"{nearest('image', known) or nearest('report', known)}; it has {table.shown_columns()}"
            )
        self._date_form(table)
        self._notify_missing_subjects(table, options.on_notice)
        return table

    def _date_form(self, table: Table) -> str | None:
        """Return the format of the dates: the option, or what their column determines."""
        if self.options.dates is not None or "date" not in table.frame.columns:
            return self.options.dates
        try:
            return order_of_column(cell(value) for value in table.frame["date"].unique(maintain_order=True))
        except ValueError as reason:
            raise CorpusError(
                f"the dates of the table {quoted(self.table)} are ambiguous: {reason}; "
                "say --day-first, --month-first or --date-format"
            ) from reason

    def _notify_missing_subjects(self, table: Table, on_notice: NoticeSink) -> None:
        """Notify of the consequence of a table without subjects."""
        known = table.frame.columns
        if "subject_id" not in known and table.frame["study_id"].n_unique() > 1:
            text = (
                "no column names the subject: each study counts as a subject of its own, and studies of one "
                "patient may be on both sides of a split (add a column subject_id)"
            )
            on_notice(Notice("subject", self.table.name, text))

    def _notify_section_columns(self, table: Table, on_notice: NoticeSink) -> None:
        """Notify of reports in separate section columns."""
        known = table.frame.columns
        sections = [name for name in known if normalise_name(name) in _SECTIONS]
        if sections and not {"report", "report_file"} & set(known):
            text = f"the column {sections[0]!r} is not read as a report: name one column report"
            on_notice(Notice("column", self.table.name, text))

    def studies(self, on_problem: ProblemSink) -> Iterator[Study]:
        """Yield the studies in the order of their first rows."""
        table = self._read(replace(self.options, on_notice=lambda _: None))  # sent at the opening
        report_bad_rows(table, NAME, on_problem)
        dates = self._date_form(table)
        attributes = _attribute_columns(table)
        studies: dict[str, list[_Row]] = {}
        for number, row in enumerate(table.frame.iter_rows(named=True), 1):
            name = cell(row["study_id"])
            rounded = next((c for c in ("study_id", "subject_id") if is_rounded(cell(row.get(c)))), None)
            if rounded is not None:  # different ids become equal: the subject is unknown
                reason = f"row {number} has a {rounded} that a spreadsheet rounded: export it as text"
                on_problem(Problem(f"{NAME}:row{number}", "failed", reason))
            elif name:
                studies.setdefault(f"{NAME}:{name}", []).append(row | {"": number})
            else:
                on_problem(Problem(f"{NAME}:row{number}", "failed", f"row {number} has no study_id"))
        shared = _shared_accessions(studies)
        subjects = _subjects(studies)
        for study_id, rows in studies.items():
            study = self._study(study_id, rows, shared, attributes, dates, on_problem)
            if study is not None:
                subject = subjects[study_id]
                if subject.warning is not None and any(cell(row.get("subject_id")) for row in rows):
                    on_problem(Problem(f"{study_id}#subject", "noted", subject.warning))
                yield replace(study, subject_id=subject.subject_id, shared_key=subject.shared_key)

    def _study(
        self,
        study_id: str,
        rows: Sequence[_Row],
        shared: frozenset[str],
        attributes: Mapping[str, Mapping[int, AttributeValue]],
        dates: str | None,
        on_problem: ProblemSink,
    ) -> Study | None:
        if len({cell(row.get("subject_id")) for row in rows} - {""}) > 1:
            reason = "the rows of this study name more than one subject: the study is left out"
            on_problem(Problem(study_id, "failed", reason))
            return None
        images = tuple(self._images(study_id, rows, on_problem))
        texts = [
            report_text(row, self.table.parent, ItemId.report(study_id).text, on_problem, self.options)
            for row in rows
        ]
        report = one_report(study_id, texts, on_problem)
        if not images and report is None:
            if not any(cell(row.get(item)) for row in rows for item in _ITEMS):
                on_problem(Problem(study_id, "failed", "its rows have neither an image nor a report"))
            return None

        def one(column: str) -> str | None:
            return _agreed(study_id, rows, column, on_problem)

        accession = one("accession")
        if accession is not None and is_rounded(accession):
            reason = "a spreadsheet rounded its accession, which is not used: export it as text"
            on_problem(Problem(f"{study_id}#accession", "noted", reason))
            accession = None
        if accession in shared:
            reason = "its accession belongs to more than one subject and is not used"
            on_problem(Problem(f"{study_id}#accession", "failed", reason))
            accession = None
        return Study(
            study_id=study_id,
            subject_id=study_id,
            source=NAME,
            images=images,
            report=report,
            findings=_findings(study_id, rows, on_problem),
            diagnosis=one("diagnosis"),
            age=parsed(parse_age, one("age"), f"{study_id}#age", on_problem),
            sex=parsed(parse_sex, one("sex"), f"{study_id}#sex", on_problem),
            date=parsed(lambda day: parse_date(day, dates), one("date"), f"{study_id}#date", on_problem),
            accession=accession,
            study_uid=one("study_uid"),
            attributes={
                column: value
                for column, values in attributes.items()
                if (value := next((values[r[""]] for r in rows if r[""] in values), None)) is not None
            },
        )

    def _images(self, study_id: str, rows: Sequence[_Row], on_problem: ProblemSink) -> Iterator[ImageRef]:
        folder = self.table.parent.absolute()
        listed = [(find_listed(folder, name), row) for row in rows if (name := cell(row.get("image")))]
        seen: set[str] = set()
        for item_id, (file, row) in zip(
            image_ids(study_id, [file.name for file, _ in listed]), listed, strict=True
        ):
            path = str(file.path)
            modality = parse_modality(cell(row.get("modality")))
            if item_id in seen:
                reason = LISTED_TWICE
                on_problem(Problem(f"{item_id}@row{row['']}", "skipped", reason, path))
                continue
            seen.add(item_id)
            if not file.is_there:
                on_problem(Problem(item_id, "missing", file.missing, path))
                continue
            refused = refuse_modality(modality, self.admit) or _refused_by_header(file.path, self.admit)
            if refused is not None:
                on_problem(Problem(item_id, "skipped", refused, path))
                continue
            yield ImageRef(item_id, path, parse_view(cell(row.get("view"))), modality)


def _subjects(studies: Mapping[str, Sequence[_Row]]) -> dict[str, Subject]:
    """Return the subject of each study: `manifest:<subject_id>`; one id with two sexes is two subjects.

    Placeholders identify nothing, except the 0 of a table that counts its subjects from 0.
    """
    named = {
        study_id: next((name for row in rows if (name := cell(row.get("subject_id")))), "")
        for study_id, rows in studies.items()
    }
    counted = "1" in named.values()
    return assign_subjects(
        {
            study_id: Patient(
                f"{NAME}:{matched_id(name)}" if not is_placeholder(name) or (counted and name == "0") else "",
                _sex(studies[study_id]),
            )
            for study_id, name in named.items()
        }
    )


def _sex(rows: Sequence[_Row]) -> Sex | None:
    written = next((text for row in rows if (text := cell(row.get("sex")))), None)
    try:
        return parse_sex(written)
    except ValueError:
        return None


def _refused_by_header(path: Path, admit: frozenset[str]) -> str | None:
    """Return why a DICOM file's header refuses it, else None; other files have no header."""
    try:
        return refuse_header(read_header(path), admit) if is_dicom(read_bytes(path, head=132)) else None
    except (UnreadableFile, Undecodable):
        return None  # reading the pixels reports the error


def _shared_accessions(studies: Mapping[str, Sequence[_Row]]) -> frozenset[str]:
    """Return the accessions of more than one subject."""
    subjects: dict[str, set[str]] = defaultdict(set)
    for study_id, rows in studies.items():
        for row in rows:
            subjects[cell(row.get("accession"))].add(cell(row.get("subject_id")) or study_id)
    return frozenset(accession for accession, named in subjects.items() if accession and len(named) > 1)


def _agreed(study_id: str, rows: Sequence[_Row], column: str, on_problem: ProblemSink) -> str | None:
    """Return the first value of a study's rows; record that others differ."""
    values = dict.fromkeys(text for row in rows if (text := cell(row.get(column))))
    if len(values) > 1 and column != "date":  # each row's date is its own image's
        reason = f"its rows disagree on {column}: the first is kept"
        on_problem(Problem(f"{study_id}#{column}", "noted", reason))
    return next(iter(values), None)


def _findings(study_id: str, rows: Sequence[_Row], on_problem: ProblemSink) -> Statuses:
    """Return the statuses of all rows together, without names that are unknown or contradictory."""
    statuses: dict[str, Status] = {}
    contradicted: set[str] = set()
    for row in rows:
        for status in _STATUSES:
            for written in _names(row.get(status.value)):
                name = VOCABULARY.find(written)
                if name is None:
                    close = nearest(written, VOCABULARY.names)
                    reason = f"the unknown finding {written[:40]!r} is not used{close}"
                    on_problem(Problem(f"{study_id}#findings", "noted", reason))
                elif statuses.setdefault(name, status) is not status:
                    contradicted.add(name)
    for name in sorted(contradicted):
        del statuses[name]
        reason = f"{name} has two statuses and is not used"
        on_problem(Problem(f"{study_id}#findings", "noted", reason))
    return VOCABULARY.spread(statuses)


def _names(value: Any) -> list[str]:
    """Return the names in a cell: joined by `|`, or a list (of Parquet, or of JSON)."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            return [value]
    names = value if isinstance(value, list) else cell(value).split("|")
    return [text for name in names if (text := cell(name))]


def _attribute_columns(table: Table) -> dict[str, dict[int, AttributeValue]]:
    """Return the other columns as row number → value: numbers or booleans where all of a column are."""
    columns: dict[str, dict[int, AttributeValue]] = {}
    for name in table.frame.columns:
        if name in COLUMNS:
            continue
        present = {number: v for number, v in enumerate(table.frame[name].to_list(), 1) if v is not None}
        readers: tuple[Callable[[Any], AttributeValue], ...] = (int, float, _read_bool, _read_text)
        for read in readers:
            try:
                columns[name] = {
                    number: v if isinstance(v, (bool, int, float)) else read(v)
                    for number, v in present.items()
                }
                break
            except (TypeError, ValueError):
                continue
    return columns


def _read_bool(value: Any) -> bool:
    try:
        return {"true": True, "yes": True, "false": False, "no": False}[str(value).strip().lower()]
    except KeyError as error:
        raise ValueError(value) from error


def _read_text(value: Any) -> str:
    return value.isoformat() if isinstance(value, date) else str(value).strip()
