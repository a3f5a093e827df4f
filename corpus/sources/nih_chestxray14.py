"""NIH ChestX-ray14 (Wang et al., CVPR 2017): frontal films with fourteen findings mined from their reports.

Layout as published: `Data_Entry_2017*.csv`, and the pictures in any folders below (`images/`, or
`images_001/images/` to `images_012/images/`). It holds labels and no text.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corpus.demographics import parse_age, parse_sex, parse_view
from corpus.errors import CorpusError, UsageError
from corpus.findings import NO_FINDING, Status, Statuses, from_sides
from corpus.records import ImageRef, Problem, ProblemSink, Study
from corpus.sources.common import ListedFiles, image_ids, parsed, report_bad_rows
from corpus.tables.options import DEFAULT, TableOptions
from corpus.tables.reader import Table, read_table

NAME = "nih-chestxray14"
TABLES = "Data_Entry_2017*.csv"

LISTED = (
    "atelectasis", "cardiomegaly", "pleural_effusion", "infiltration", "mass", "nodule", "pneumonia",
    "pneumothorax", "consolidation", "edema", "emphysema", "fibrosis", "pleural_thickening", "hernia",
)  # fmt: skip
"""What the set can list: a "No Finding" row calls these absent, and says nothing of devices or fractures."""

_REQUIRED = ("Image Index", "Finding Labels", "Patient ID")
_WANTED = (*_REQUIRED, "Follow-up #", "Patient Age", "Patient Gender", "View Position")


@dataclass(frozen=True, slots=True)
class NihChestXray14Source:
    """One study a picture: `nih-chestxray14:<file stem>`, subject `nih-chestxray14:<Patient ID>`."""

    folder: Path
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
        tables = sorted(self.folder.glob(TABLES))
        if not tables:
            raise CorpusError(f"{self.folder.name!r} has no {TABLES}")
        return read_table(tables[-1], required=_REQUIRED, wanted=_WANTED, options=self.options)

    def studies(self, on_problem: ProblemSink) -> Iterator[Study]:
        """Yield one study for each row whose picture is there."""
        table = self.read()
        report_bad_rows(table, NAME, on_problem)
        files = ListedFiles.below(self.folder)
        seen: set[str] = set()
        for number, row in enumerate(table.frame.iter_rows(named=True), 1):
            picture, subject = row["Image Index"], row["Patient ID"]
            if not picture or not subject:
                reason = f"row {number} names no {'picture' if not picture else 'patient'}"
                on_problem(Problem(f"{NAME}:row{number}", "failed", reason))
                continue
            study_id = f"{NAME}:{Path(picture).stem}"
            (item_id,) = image_ids(study_id, [picture])
            if item_id in seen:
                on_problem(Problem(f"{item_id}@row{number}", "skipped", "the table lists this picture twice"))
                continue
            seen.add(item_id)
            place = files.find(picture)
            if place is None:
                on_problem(Problem(item_id, "missing", "the table lists it, the folder lacks it", picture))
                continue
            image = ImageRef(item_id, str(place), parse_view(row.get("View Position")))
            yield _study(study_id, image, row, on_problem)


def _study(study_id: str, image: ImageRef, row: dict[str, Any], on_problem: ProblemSink) -> Study:
    follow_up = row.get("Follow-up #")
    return Study(
        study_id=study_id,
        subject_id=f"{NAME}:{row['Patient ID'].strip()}",
        source=NAME,
        images=(image,),
        findings=_findings(study_id, row["Finding Labels"], on_problem),
        age=parsed(parse_age, row.get("Patient Age"), f"{study_id}#age", on_problem),
        sex=parsed(parse_sex, row.get("Patient Gender"), f"{study_id}#sex", on_problem),
        attributes={"follow_up": int(follow_up)} if follow_up and follow_up.strip().isdigit() else {},
    )


def read_labels(written: str | None) -> Statuses:
    """Return the statuses of a `Finding Labels` cell: names joined by `|`, or `No Finding`.

    Raises:
        UsageError: a name is unknown.
    """
    names = [name.strip() for name in (written or "").split("|") if name.strip()]
    if [name.lower() for name in names] == ["no finding"]:
        return {NO_FINDING: Status.PRESENT, **from_sides(absent=LISTED)}
    return from_sides(present=names)


def _findings(study_id: str, written: str | None, on_problem: ProblemSink) -> Statuses:
    try:
        return read_labels(written)
    except UsageError as reason:
        on_problem(
            Problem(f"{study_id}#findings", "skipped", f"{reason}: the study is kept without findings")
        )
        return {}
