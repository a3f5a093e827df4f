"""covid-chestxray-dataset (Cohen et al., arXiv 2006.11988): images and clinical notes gathered from articles.

Layout as published: `metadata.csv`, and images in the folder that each row names. Its `finding` column is the
confirmed disease (a diagnosis), not what the image shows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corpus.demographics import parse_age, parse_modality, parse_sex, parse_view
from corpus.language.sections import parse_report
from corpus.records import AttributeValue, ImageRef, Problem, ProblemSink, Report, Study
from corpus.sources.common import (
    LISTED_TWICE,
    MISSING,
    ListedFiles,
    image_ids,
    parsed,
    refuse_modality,
    report_bad_rows,
    require_words,
)
from corpus.tables import DEFAULT, TableOptions
from corpus.tables.dates import parse_date, year_of
from corpus.tables.reader import Table, read_table

NAME = "covid-chestxray"
TABLE = "metadata.csv"

_REQUIRED = ("patientid", "filename", "finding", "modality")
_WANTED = (
    *_REQUIRED, "offset", "sex", "age", "view", "date", "folder", "clinical_notes",
    "survival", "intubated", "went_icu",
)  # fmt: skip
_NO_DIAGNOSIS = frozenset({"", "todo", "unknown"})
_YES_NO = {"y": True, "n": False}


@dataclass(frozen=True, slots=True)
class CovidChestXraySource:
    """Rows of one patient and offset (days since onset) are one study.

    A row without an offset is a study of its own, named by its file. Rows of other modalities (the set has CT
    slices) are recorded as skipped, unless `admit` has their modality.
    """

    folder: Path
    admit: frozenset[str]
    options: TableOptions = DEFAULT

    @property
    def name(self) -> str:
        """The kind of source."""
        return NAME

    def read(self) -> Table:
        """Read the table.

        Raises:
            CorpusError: there is none, or it lacks a column.
        """
        return read_table(self.folder / TABLE, required=_REQUIRED, wanted=_WANTED, options=self.options)

    def studies(self, on_problem: ProblemSink) -> Iterator[Study]:
        """Yield the studies in the order of their first rows."""
        table = self.read()
        report_bad_rows(table, NAME, on_problem)
        files = ListedFiles.below(self.folder)
        studies: dict[str, list[dict[str, Any]]] = {}
        for number, row in enumerate(table.frame.iter_rows(named=True), 1):
            if not row["patientid"] or not row["filename"]:
                reason = f"row {number} names no {'patient' if not row['patientid'] else 'image'}"
                on_problem(Problem(f"{NAME}:row{number}", "failed", reason))
                continue
            name = (row.get("offset") or "").strip() or row["filename"]
            studies.setdefault(f"{NAME}:{row['patientid'].strip()}@{name}", []).append(row)
        for study_id, rows in studies.items():
            study = self._study(study_id, rows, files, on_problem)
            if study is not None:
                yield study

    def _study(
        self, study_id: str, rows: Sequence[dict[str, Any]], files: ListedFiles, on_problem: ProblemSink
    ) -> Study | None:
        admitted = list(self._admitted(study_id, rows, on_problem))
        if not admitted:
            return None
        images = tuple(self._images(admitted, files, on_problem))
        report = _report(study_id, [row for _, row in admitted], on_problem)
        if not images and report is None:
            return None
        date = _first(rows, "date")
        return Study(
            study_id=study_id,
            subject_id=f"{NAME}:{rows[0]['patientid'].strip()}",
            source=NAME,
            images=images,
            report=report,
            diagnosis=next((d for _, row in admitted if (d := _diagnosis(row)) is not None), None),
            age=parsed(parse_age, _first(rows, "age"), f"{study_id}#age", on_problem),
            sex=parsed(parse_sex, _first(rows, "sex"), f"{study_id}#sex", on_problem),
            date=parsed(_parse_date, date, f"{study_id}#date", on_problem),
            attributes=_attributes(rows, date),
        )

    def _admitted(
        self, study_id: str, rows: Sequence[dict[str, Any]], on_problem: ProblemSink
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield item id and row of each admitted image, each once."""
        ids = image_ids(study_id, [row["filename"] for row in rows])
        seen: set[str] = set()
        for item_id, row in zip(ids, rows, strict=True):
            reason = refuse_modality(parse_modality(row["modality"]), self.admit)
            if reason is not None:
                on_problem(Problem(item_id, "skipped", reason, row["filename"]))
            elif item_id in seen:
                on_problem(Problem(f"{item_id}~again", "skipped", LISTED_TWICE))
            else:
                seen.add(item_id)
                yield item_id, row

    def _images(
        self, admitted: Sequence[tuple[str, dict[str, Any]]], files: ListedFiles, on_problem: ProblemSink
    ) -> Iterator[ImageRef]:
        for item_id, row in admitted:
            path = files.find(row["filename"])
            if path is None:
                on_problem(Problem(item_id, "missing", MISSING, row["filename"]))
            else:
                yield ImageRef(
                    item_id, str(path), parse_view(row.get("view")), parse_modality(row["modality"])
                )


def _report(study_id: str, rows: Sequence[dict[str, Any]], on_problem: ProblemSink) -> Report | None:
    """Return the different clinical notes of a study's rows as one report."""
    notes = list(dict.fromkeys((row.get("clinical_notes") or "").strip() for row in rows))
    text = "\n\n".join(note for note in notes if note)
    return require_words(parse_report(study_id, text), on_problem) if text else None


def _diagnosis(row: dict[str, Any]) -> str | None:
    written = (row["finding"] or "").strip()
    return None if written.lower() in _NO_DIAGNOSIS else written


def _parse_date(written: str | None) -> str | None:
    return parse_date(written, "month_first")  # the order of the set's numeric dates


def _first(rows: Sequence[dict[str, Any]], column: str) -> str | None:
    """Return the first value of the study's rows in a column."""
    return next((row[column] for row in rows if row.get(column)), None)


def _attributes(rows: Sequence[dict[str, Any]], date: str | None) -> dict[str, AttributeValue]:
    """Return the course of the illness, and the year where the day is unknown."""
    attributes: dict[str, AttributeValue] = {}
    for column in ("survival", "intubated", "went_icu"):
        outcome = _YES_NO.get((_first(rows, column) or "").strip().lower())
        if outcome is not None:
            attributes[column] = outcome
    year = year_of(date)
    if year is not None:
        attributes["year"] = year
    return attributes
