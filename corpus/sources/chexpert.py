"""CheXpert (Irvin et al., AAAI 2019): chest images of Stanford with fourteen findings labelled from reports.

Layout as published, in full size or `-small`: `train.csv`, `valid.csv` and `test.csv`, as far as they exist,
with a `Path` that ends in `<set>/patient00001/study1/view1_frontal.jpg`, beside the folders of images.
Reports, published later (CheXpert Plus, Chambon et al. 2024), are read where their table lies beside these.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from corpus.demographics import parse_age, parse_sex, parse_view
from corpus.errors import CorpusError
from corpus.files import UnreadableFile, read_bytes
from corpus.findings import VOCABULARY, Status, Statuses
from corpus.language.sections import clean_text
from corpus.records import ImageRef, ItemId, Problem, ProblemSink, Report, Section, Study, View
from corpus.redaction import redacted
from corpus.sources.common import MISSING, cell, image_ids, parsed, report_bad_rows, require_words
from corpus.tables import DEFAULT, TableOptions
from corpus.tables.reader import Table, read_table

LABELS: Final = (
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema",
    "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other",
    "Fracture", "Support Devices",
)  # fmt: skip
"""Columns of the fourteen labels, in CheXpert's tables and those of MIMIC-CXR-JPG."""

_STATUSES = {1.0: Status.PRESENT, 0.0: Status.ABSENT, -1.0: Status.UNCERTAIN}


def read_labels(row: Mapping[str, Any], study_id: str, on_problem: ProblemSink) -> Statuses:
    """Return the statuses of a row, spread along the tree of findings.

    1 is present, 0 absent, -1 uncertain and a blank unmentioned: the four stay four.

    Args:
        row: column → cell; a missing column of `LABELS` is unmentioned.
        study_id: the study of the row; a cell that is none of 1, 0, -1 and blank is recorded as
            `<study_id>#findings`, and that label is left out.
        on_problem: receives these problems.
    """
    statuses: dict[str, Status] = {}
    for label in LABELS:
        written = cell(row.get(label))
        if not written:
            continue
        status = _status(written)
        if status is not None:
            statuses[VOCABULARY.resolve(label)] = status
            continue
        reason = f"{label} is {written[:20]!r}, which is none of 1, 0 and -1, and is not used"
        on_problem(Problem(f"{study_id}#findings", "noted", reason))
    return VOCABULARY.spread(statuses)


def _status(written: str) -> Status | None:
    try:
        return _STATUSES.get(float(written))
    except ValueError:
        return None


NAME = "chexpert"
TABLES = ("train.csv", "valid.csv", "test.csv")
REPORTS = "df_chexpert_plus_*.csv"

_VIEW_COLUMN = "Frontal/Lateral"  # no other set's train.csv has this column
_WANTED = ("Path", "Sex", "Age", _VIEW_COLUMN, "AP/PA", *LABELS)
_SECTIONS = {
    "section_clinical_history": "history",
    "section_comparison": "comparison",
    "section_findings": "findings",
    "section_impression": "impression",
}
_PATH = re.compile(
    r"(?:^|/)(?:(?P<set>train|valid|test)/)?(?P<patient>patient\d+)/(?P<study>study\d+)/(?P<file>[^/]+)$"
)


@redacted
class _ImagePath(NamedTuple):
    """The parts of a `Path`, without the folder that it begins with.

    `published`: the split of the publication, train, valid or test.
    """

    published: str | None
    patient: str
    study: str
    file: str

    @property
    def study_id(self) -> str:
        """`chexpert:patient00001_study1`: the set's own name without its folders."""
        return f"{NAME}:{self.patient}_{self.study}"


@dataclass(frozen=True, slots=True)
class ChexpertSource:
    """One study a patient and study number, with all its views: `chexpert:patient00001_study1`.

    The subject is `chexpert:patient00001`. The published split of a study (train, valid, test) is its
    attribute `published_split`.

    `root`: the folder of the tables.
    """

    root: Path
    options: TableOptions = DEFAULT

    @property
    def name(self) -> str:
        """The kind of source."""
        return NAME

    def read(self) -> list[Table]:
        """Read the tables that exist.

        Raises:
            CorpusError: one lacks a column or cannot be read.
        """
        tables = [self.root / name for name in TABLES if (self.root / name).exists()]
        needed = ("Path", _VIEW_COLUMN)
        return [read_table(path, required=needed, wanted=_WANTED, options=self.options) for path in tables]

    def studies(self, on_problem: ProblemSink) -> Iterator[Study]:
        """Yield every study with an image here or a report with words, in the order of the tables."""
        studies: dict[str, list[tuple[_ImagePath, dict[str, Any]]]] = {}
        for table in self.read():
            report_bad_rows(table, NAME, on_problem)
            for number, row in enumerate(table.frame.iter_rows(named=True), 1):
                path_parts = _parse_path(row["Path"])
                if path_parts is None:
                    reason = (
                        f"row {number} of {table.path.name!r} names no image of a patient and study: "
                        "patient00001/study1/view1_frontal.jpg is read"
                    )
                    on_problem(Problem(f"{NAME}:{table.path.name}@row{number}", "failed", reason))
                else:
                    studies.setdefault(path_parts.study_id, []).append((path_parts, row))
        reports = self._reports(on_problem)
        for study_id, listed in studies.items():
            written = reports.pop(study_id, None)
            study = self._study(study_id, listed, written[1] if written else None, on_problem)
            if study is not None:
                yield study
        for study_id, (path_parts, report) in reports.items():  # reports of images that no table lists
            if (described := require_words(report, on_problem)) is not None:
                yield Study(study_id, f"{NAME}:{path_parts.patient}", NAME, report=described)

    def _study(
        self,
        study_id: str,
        listed: Sequence[tuple[_ImagePath, dict[str, Any]]],
        report: Report | None,
        on_problem: ProblemSink,
    ) -> Study | None:
        images = tuple(self._images(study_id, listed, on_problem))
        report = report and require_words(report, on_problem)
        if not images and report is None:
            return None
        path_parts, row = listed[0]
        if any(other.get(label) != row.get(label) for _, other in listed for label in LABELS):
            reason = "its rows disagree on the labels: the first row's are kept"
            on_problem(Problem(f"{study_id}#findings", "noted", reason))
        return Study(
            study_id=study_id,
            subject_id=f"{NAME}:{path_parts.patient}",
            source=NAME,
            images=images,
            report=report,
            findings=read_labels(row, study_id, on_problem),
            age=parsed(parse_age, row.get("Age"), f"{study_id}#age", on_problem),
            sex=parsed(parse_sex, row.get("Sex"), f"{study_id}#sex", on_problem),
            attributes={"published_split": path_parts.published} if path_parts.published else {},
        )

    def _images(
        self, study_id: str, listed: Sequence[tuple[_ImagePath, dict[str, Any]]], on_problem: ProblemSink
    ) -> Iterator[ImageRef]:
        ids = image_ids(study_id, [path_parts.file for path_parts, _ in listed])
        seen: set[str] = set()
        for item_id, (path_parts, row) in zip(ids, listed, strict=True):
            if item_id in seen:
                on_problem(Problem(f"{item_id}~again", "skipped", "the tables list this image twice"))
                continue
            seen.add(item_id)
            path = self._find(path_parts)
            if path is None:
                on_problem(Problem(item_id, "missing", MISSING, row["Path"]))
            else:
                yield ImageRef(item_id, str(path), _view(row))

    def _find(self, path_parts: _ImagePath) -> Path | None:
        """Return the path of an image: below its set's folder, as published, or right below the root."""
        inner = Path(path_parts.patient, path_parts.study, path_parts.file)
        sets = [self.root / path_parts.published] if path_parts.published else []
        return next((path for folder in (*sets, self.root) if (path := folder / inner).is_file()), None)

    def _reports(self, on_problem: ProblemSink) -> dict[str, tuple[_ImagePath, Report]]:
        """Return the report of each study from the table of CheXpert Plus; empty without that table."""
        reports: dict[str, tuple[_ImagePath, Report]] = {}
        for path in sorted(self.root.glob(REPORTS)):
            table = read_table(
                path,
                required=("path_to_image", "section_findings", "section_impression"),
                wanted=("path_to_image", *_SECTIONS),
                options=self.options,
            )
            report_bad_rows(table, NAME, on_problem)
            for number, row in enumerate(table.frame.iter_rows(named=True), 1):
                path_parts = _parse_path(row["path_to_image"])
                if path_parts is None:
                    reason = f"row {number} of {path.name!r} names no image of a patient and study"
                    on_problem(Problem(f"{NAME}:{path.name}@row{number}", "failed", reason))
                else:  # one row an image; all rows of a study have its report
                    reports.setdefault(path_parts.study_id, (path_parts, _report(path_parts.study_id, row)))
        return reports


def find_roots(folder: Path) -> list[Path]:
    """Return the folders with the set's tables: this one, or folders in it."""
    if _has_table(folder):
        return [folder]
    return [below for below in sorted(folder.glob("[Cc]he[Xx]pert*")) if _has_table(below)]


def open_root(folder: Path, options: TableOptions = DEFAULT) -> ChexpertSource:
    """Open the set in a folder or in the one below it.

    Raises:
        CorpusError: the folder holds the set twice (in full and `-small`), or a table cannot be read.
    """
    roots = find_roots(folder)
    if len(roots) > 1:
        named = " and ".join(repr(root.name) for root in roots)
        raise CorpusError(f"{folder.name!r} holds {named}: name one of them")
    source = ChexpertSource(roots[0], options)
    source.read()
    return source


def _has_table(folder: Path) -> bool:
    return any(_has_view_column(folder / name) for name in TABLES)


def _has_view_column(table: Path) -> bool:
    """Return whether a table's header is CheXpert's: many sets have a `train.csv`."""
    try:
        return _VIEW_COLUMN.encode() in read_bytes(table, head=4096).split(b"\n", 1)[0]
    except UnreadableFile:
        return False


def _parse_path(written: str | None) -> _ImagePath | None:
    match = _PATH.search((written or "").strip().replace("\\", "/"))
    return _ImagePath(match["set"], match["patient"], match["study"], match["file"]) if match else None


def _view(row: dict[str, Any]) -> View | None:
    """Return AP or PA for a frontal image, where the row states it."""
    return parse_view(row.get("AP/PA")) or parse_view(row[_VIEW_COLUMN])


def _report(study_id: str, row: dict[str, Any]) -> Report:
    texts = ((name, clean_text(row.get(column) or "")) for column, name in _SECTIONS.items())
    return Report(ItemId.report(study_id).text, tuple(Section(name, text) for name, text in texts if text))
