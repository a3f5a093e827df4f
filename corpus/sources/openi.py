"""Open-i, the Indiana University chest images and reports (Demner-Fushman et al., JAMIA 2016).

Layout as commonly published: `indiana_reports.csv`, `indiana_projections.csv`, and the images in any folder
below. The columns `MeSH` and `Problems` are manual codes, a ground truth for evaluation: they are dropped
while the table is read.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corpus.demographics import parse_view
from corpus.language.sections import clean_text
from corpus.records import ImageRef, ItemId, Problem, ProblemSink, Report, Section, Study
from corpus.sources.common import MISSING, ListedFiles, image_ids, report_bad_rows, require_words
from corpus.tables import DEFAULT, TableOptions
from corpus.tables.reader import read_table

NAME = "openi"
REPORTS = "indiana_reports.csv"
PROJECTIONS = "indiana_projections.csv"

_SECTIONS = ("indication", "comparison", "findings", "impression")


@dataclass(frozen=True, slots=True)
class OpenISource:
    """One study a report: `openi:<uid>`. The set has no subjects; each study is a subject of its own."""

    folder: Path
    options: TableOptions = DEFAULT

    @property
    def name(self) -> str:
        """The kind of source."""
        return NAME

    def studies(self, on_problem: ProblemSink) -> Iterator[Study]:
        """Yield every study with an image here or a report with words."""
        reports = read_table(
            self.folder / REPORTS,
            required=("uid", "findings", "impression"),
            wanted=("uid", *_SECTIONS),
            options=self.options,
        )
        report_bad_rows(reports, NAME, on_problem)
        projections = self._projections(on_problem)
        files = ListedFiles.below(self.folder)
        seen: set[str] = set()
        for number, row in enumerate(reports.frame.iter_rows(named=True), 1):
            uid = (row["uid"] or "").strip()
            if not uid or uid in seen:
                reason = f"row {number} has no uid" if not uid else f"row {number} repeats the uid {uid}"
                on_problem(Problem(f"{NAME}:{uid}@row{number}", "failed", reason))
                continue
            seen.add(uid)
            study = _study(f"{NAME}:{uid}", row, projections.pop(uid, []), files, on_problem)
            if study is not None:
                yield study
        for uid, listed in projections.items():  # images without a report in the table
            study = _study(f"{NAME}:{uid}", {}, listed, files, on_problem)
            if study is not None:
                yield study

    def _projections(self, on_problem: ProblemSink) -> dict[str, list[tuple[str, str | None]]]:
        """Return the file names and projections of each uid; empty without their table."""
        projections: dict[str, list[tuple[str, str | None]]] = {}
        if not (self.folder / PROJECTIONS).exists():
            return projections
        table = read_table(
            self.folder / PROJECTIONS,
            required=("uid", "filename"),
            wanted=("uid", "filename", "projection"),
            options=self.options,
        )
        report_bad_rows(table, NAME, on_problem)
        for row in table.frame.iter_rows(named=True):
            if row["uid"] and row["filename"]:
                listed = projections.setdefault(row["uid"].strip(), [])
                if row["filename"] not in (name for name, _ in listed):
                    listed.append((row["filename"], row.get("projection")))
        return projections


def _study(
    study_id: str,
    row: dict[str, Any],
    listed: list[tuple[str, str | None]],
    files: ListedFiles,
    on_problem: ProblemSink,
) -> Study | None:
    images: list[ImageRef] = []
    for item_id, (name, projection) in zip(
        image_ids(study_id, [name for name, _ in listed]), listed, strict=True
    ):
        path = files.find(name)
        if path is None:
            on_problem(Problem(item_id, "missing", MISSING, name))
        else:
            images.append(ImageRef(item_id, str(path), parse_view(projection)))
    report = require_words(_report(study_id, row), on_problem) if row else None
    if not images and report is None:
        return None
    return Study(study_id, study_id, NAME, images=tuple(images), report=report)


def _report(study_id: str, row: dict[str, Any]) -> Report:
    """Return a report of the table's sections, in the order of a report."""
    texts = ((name, clean_text(row.get(name) or "")) for name in _SECTIONS)
    return Report(ItemId.report(study_id).text, tuple(Section(name, text) for name, text in texts if text))
