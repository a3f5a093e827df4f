"""NIH ChestX-ray14 (Wang et al., CVPR 2017): frontal images with fourteen findings mined from their reports.

Layout as published: `Data_Entry_2017*.csv`, and the images in any folders below (`images/`, or
`images_001/images/` to `images_012/images/`). The set has labels and no text.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corpus.demographics import parse_age, parse_sex, parse_view
from corpus.errors import CorpusError, UsageError
from corpus.findings import NO_FINDING, Status, Statuses, make_statuses
from corpus.records import ImageRef, Problem, ProblemSink, Sex, Study, View
from corpus.redaction import redacted
from corpus.sources.common import LISTED_TWICE, MISSING, ListedFiles, image_ids, parsed, report_bad_rows
from corpus.tables import DEFAULT, TableOptions
from corpus.tables.reader import Table, read_table

NAME = "nih-chestxray14"
TABLES = "Data_Entry_2017*.csv"

LISTED = (
    "atelectasis", "cardiomegaly", "pleural_effusion", "infiltration", "mass", "nodule", "pneumonia",
    "pneumothorax", "consolidation", "edema", "emphysema", "fibrosis", "pleural_thickening", "hernia",
)  # fmt: skip
"""The set's findings: a "No Finding" row makes these absent; devices and fractures stay unmentioned."""

_REQUIRED = ("Image Index", "Finding Labels", "Patient ID")
_NORMAL = "no finding"
_WANTED = (*_REQUIRED, "Follow-up #", "Patient Age", "Patient Gender", "View Position")


@dataclass(frozen=True, slots=True)
class NihChestXray14Source:
    """One study an image: `nih-chestxray14:<file stem>`, subject `nih-chestxray14:<Patient ID>`."""

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
        """Yield one study for each row with an image file."""
        table = self.read()
        report_bad_rows(table, NAME, on_problem)
        files = ListedFiles.below(self.folder)
        seen: set[str] = set()
        for number, row in enumerate(table.frame.iter_rows(named=True), 1):
            image_name, subject = row["Image Index"], row["Patient ID"]
            if not image_name or not subject:
                reason = f"row {number} names no {'image' if not image_name else 'patient'}"
                on_problem(Problem(f"{NAME}:row{number}", "failed", reason))
                continue
            study_id = f"{NAME}:{Path(image_name).stem}"
            (item_id,) = image_ids(study_id, [image_name])
            if item_id in seen:
                on_problem(Problem(f"{item_id}@row{number}", "skipped", LISTED_TWICE))
                continue
            seen.add(item_id)
            path = files.find(image_name)
            if path is None:
                on_problem(Problem(item_id, "missing", MISSING, image_name))
                continue
            image = ImageRef(item_id, str(path), parse_view(row.get("View Position")))
            yield _study(study_id, image, row, on_problem)


@redacted
@dataclass(frozen=True, slots=True)
class Entry:
    """What the set's table says of one image, beside its findings.

    `subject_id`: as the source names it.
    `view`, `sex`: None where the table does not say.
    `is_normal`: the image's label is "No Finding".
    """

    subject_id: str
    view: View | None
    sex: Sex | None
    is_normal: bool


def read_entries(folder: Path, on_problem: ProblemSink) -> Mapping[str, Entry]:
    """Read subject, view, sex and normality of every image that the set's table lists.

    Args:
        folder: of the table `Data_Entry_2017*.csv`.
        on_problem: receives views and sexes that cannot be parsed.

    Returns:
        Image name → entry, in the order of the table; of an image that is listed twice the first row counts.

    Raises:
        CorpusError: there is no table, or it lacks a column.
    """
    entries: dict[str, Entry] = {}
    for row in NihChestXray14Source(folder).read().frame.iter_rows(named=True):
        name, subject = row["Image Index"], row["Patient ID"]
        if name and subject and name not in entries:
            entries[name] = Entry(
                f"{NAME}:{subject.strip()}",
                parse_view(row.get("View Position")),
                parsed(parse_sex, row.get("Patient Gender"), f"{NAME}:{Path(name).stem}#sex", on_problem),
                (row["Finding Labels"] or "").strip().lower() == _NORMAL,
            )
    return entries


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
    if [name.lower() for name in names] == [_NORMAL]:
        return {NO_FINDING: Status.PRESENT, **make_statuses(absent=LISTED)}
    return make_statuses(present=names)


def _findings(study_id: str, written: str | None, on_problem: ProblemSink) -> Statuses:
    try:
        return read_labels(written)
    except UsageError as reason:
        on_problem(Problem(f"{study_id}#findings", "noted", f"{reason}: its findings are not used"))
        return {}
