"""MIMIC-CXR (Johnson et al., Sci Data 2019) and MIMIC-CXR-JPG: images, free-text reports and their labels.

Layout as published; each part is read where it exists: `mimic-cxr-2.*-metadata.csv` (one row an image),
`-chexpert.csv` or `-negbio.csv` (labels of a study), `-split.csv`, each also as `.csv.gz`; images at
`files/p10/p10000032/s50414267/<dicom_id>.jpg` (or `.dcm`); reports at `files/p10/p10000032/s50414267.txt`, in
the same `files` or below `mimic-cxr-reports/`. Radiologists' own labels, which newer versions add, are a
ground truth for evaluation and are not read.

Dates are shifted by years for each subject: the order of one subject's studies is true, the year is not.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from corpus.demographics import parse_view
from corpus.files import UnreadableFile
from corpus.language.sections import parse_report
from corpus.records import ImageRef, ItemId, ItemState, Problem, ProblemSink, Report, Study
from corpus.redaction import redacted
from corpus.sources.chexpert import LABELS, read_labels
from corpus.sources.common import (
    LISTED_TWICE,
    MISSING,
    cell,
    image_ids,
    parsed,
    report_bad_rows,
    require_words,
)
from corpus.tables import DEFAULT, TableOptions
from corpus.tables.dates import parse_date
from corpus.tables.reader import Table, read_table, read_text

NAME = "mimic-cxr"
METADATA = "mimic-cxr-2.*-metadata.csv"

_IDS = ("subject_id", "study_id")
_LABELS = ("mimic-cxr-2.*-chexpert.csv", "mimic-cxr-2.*-negbio.csv")
_SPLIT = "mimic-cxr-2.*-split.csv"
_REPORT_FOLDERS = (".", "mimic-cxr-reports")
_IMAGE_SUFFIXES = (".jpg", ".dcm")
_NUMBER = re.compile(r"[ps]?(\d{1,12})(?:\.0)?")
_DICOM_ID = re.compile(r"[\w.-]{1,100}")
_DAY = re.compile(r"\d{8}")
_TIME = re.compile(r"(\d{1,6})(?:\.\d*)?")

_Row = Mapping[str, Any]


@redacted
class _StudyNumber(NamedTuple):
    """The numbers of one study and its subject, without their letters."""

    subject: str
    study: str

    @property
    def study_id(self) -> str:
        """`mimic-cxr:s50414267`."""
        return f"{NAME}:s{self.study}"

    @property
    def folder(self) -> str:
        """`p10/p10000032/s50414267`, below `files`; the report is this with `.txt`."""
        return f"p{self.subject[:2]}/p{self.subject}/s{self.study}"


@dataclass(frozen=True, slots=True)
class MimicCxrSource:
    """One study `mimic-cxr:s<study_id>` of the subject `mimic-cxr:p<subject_id>`.

    The study's findings are the labels of the table; the labeler adds those of the report where the table has
    none (`corpus.language.labeler.label_study`). The published split of a study is its attribute
    `published_split`.
    """

    folder: Path
    options: TableOptions = DEFAULT

    @property
    def name(self) -> str:
        """The kind of source."""
        return NAME

    def read(self) -> Table | None:
        """Read the table of images, or None where there is none.

        Raises:
            CorpusError: it lacks a column or cannot be read.
        """
        return self._read(METADATA, "dicom_id", "ViewPosition", "StudyDate", "StudyTime")

    def studies(self, on_problem: ProblemSink) -> Iterator[Study]:
        """Yield every study with an image here or a report with words: first those of the table."""
        image_rows = self._image_rows(on_problem)
        labels = self._first_rows(_LABELS, LABELS, on_problem)
        splits = self._first_rows((_SPLIT,), ("split",), on_problem)
        reports = find_reports(self.folder)
        for name in _with_one_subject(
            (*image_rows, *(n for n in reports if n not in image_rows)), on_problem
        ):
            rows = image_rows.get(name, [])
            images = tuple(self._images(name, rows, on_problem))
            report = _read_report(name, reports[name], self.options, on_problem) if name in reports else None
            if not images and report is None:
                continue
            split = cell(splits.get(name, {}).get("split"))
            yield Study(
                study_id=name.study_id,
                subject_id=f"{NAME}:p{name.subject}",
                source=NAME,
                images=images,
                report=report,
                findings=read_labels(labels.get(name, {}), name.study_id, on_problem),
                date=parsed(parse_date, _moment(rows), f"{name.study_id}#date", on_problem),
                attributes={"published_split": split} if split else {},
            )

    def _read(self, pattern: str, required: str | None, *wanted: str) -> Table | None:
        path = find_table(self.folder, pattern)
        if path is None:
            return None
        needed = (*_IDS, *([required] if required else ()))
        return read_table(path, required=needed, wanted=(*needed, *wanted), options=self.options)

    def _image_rows(self, on_problem: ProblemSink) -> dict[_StudyNumber, list[_Row]]:
        """Return the rows of each study's images, each image once."""
        image_rows: dict[_StudyNumber, list[_Row]] = {}
        table = self.read()
        if table is None:
            return image_rows
        report_bad_rows(table, NAME, on_problem)
        seen: set[str] = set()
        for number, row in enumerate(table.frame.iter_rows(named=True), 1):
            name, dicom_id = _study_number(row), cell(row["dicom_id"])
            item_id = f"{NAME}:{table.path.name}@row{number}"
            if name is None or not _DICOM_ID.fullmatch(dicom_id):
                lacks = "an image" if name is not None else "a subject and a study by their numbers"
                on_problem(Problem(item_id, "failed", f"row {number} does not name {lacks}"))
            elif dicom_id in seen:
                on_problem(Problem(item_id, "skipped", LISTED_TWICE))
            else:
                seen.add(dicom_id)
                image_rows.setdefault(name, []).append(row)
        return image_rows

    def _first_rows(
        self, patterns: Sequence[str], columns: Sequence[str], on_problem: ProblemSink
    ) -> dict[_StudyNumber, _Row]:
        """Return the first row of each study in the first of these tables that exists."""
        table = next((t for pattern in patterns if (t := self._read(pattern, None, *columns))), None)
        rows: dict[_StudyNumber, _Row] = {}
        if table is None:
            return rows
        report_bad_rows(table, NAME, on_problem)
        for number, row in enumerate(table.frame.iter_rows(named=True), 1):
            name = _study_number(row)
            item_id = f"{NAME}:{table.path.name}@row{number}"
            if name is None:
                reason = f"row {number} does not name a subject and a study by their numbers"
                on_problem(Problem(item_id, "failed", reason))
            elif rows.setdefault(name, row) is not row and any(rows[name][c] != row[c] for c in row):
                reason = f"the study {name.study_id} has another row already: the first is kept"
                on_problem(Problem(item_id, "skipped", reason))
        return rows

    def _images(
        self, name: _StudyNumber, rows: Sequence[_Row], on_problem: ProblemSink
    ) -> Iterator[ImageRef]:
        names = [cell(row["dicom_id"]) for row in rows]
        ids = image_ids(name.study_id, [f"{dicom_id}.jpg" for dicom_id in names])
        for item_id, dicom_id, row in zip(ids, names, rows, strict=True):
            study_folder = self.folder / "files" / name.folder
            files = (study_folder / f"{dicom_id}{suffix}" for suffix in _IMAGE_SUFFIXES)
            path = next((file for file in files if file.is_file()), None)
            if path is None:
                on_problem(Problem(item_id, "missing", MISSING, str(study_folder / f"{dicom_id}.jpg")))
            else:
                yield ImageRef(item_id, str(path), parse_view(row.get("ViewPosition")))


def find_table(folder: Path, pattern: str) -> Path | None:
    """Return the newest table of a name pattern in the folder, as it is or gzipped."""
    return max((path for end in ("", ".gz") for path in folder.glob(pattern + end)), default=None)


def find_reports(folder: Path) -> dict[_StudyNumber, Path]:
    """Return the path of each study's report, in order of subject and study."""
    paths = (path for base in _REPORT_FOLDERS for path in (folder / base / "files").glob("p*/p*/s*.txt"))
    reports: dict[_StudyNumber, Path] = {}
    for path in sorted(paths):
        name = _study_number({"subject_id": path.parent.name, "study_id": path.stem})
        if name is not None:
            reports.setdefault(name, path)
    return reports


def is_mimic_cxr(folder: Path) -> bool:
    """Return whether a folder has the set's table of images or its reports."""
    paths = ((folder / base / "files").glob("p*/p*/s*.txt") for base in _REPORT_FOLDERS)
    return find_table(folder, METADATA) is not None or any(
        next(reports, None) is not None for reports in paths
    )


def _study_number(row: _Row) -> _StudyNumber | None:
    subject, study = (_NUMBER.fullmatch(cell(row[column])) for column in _IDS)
    return _StudyNumber(subject[1], study[1]) if subject and study else None


def _with_one_subject(names: Sequence[_StudyNumber], on_problem: ProblemSink) -> Iterator[_StudyNumber]:
    """Leave out the studies with a number beside two subjects: their patient is unknown."""
    subjects = Counter(name.study for name in names)
    for study in (study for study, count in subjects.items() if count > 1):
        reason = "the study's number stands beside more than one subject: the study is left out"
        on_problem(Problem(f"{NAME}:s{study}", "failed", reason))
    return (name for name in names if subjects[name.study] == 1)


def _read_report(
    name: _StudyNumber, path: Path, options: TableOptions, on_problem: ProblemSink
) -> Report | None:
    try:
        text = read_text(path, options)
    except UnreadableFile as reason:
        state: ItemState = "missing" if str(reason) == "is not there" else "failed"
        on_problem(
            Problem(
                ItemId.report(name.study_id).text, state, f"the report file {path.name!r} {reason}", str(path)
            )
        )
        return None
    return require_words(parse_report(name.study_id, text), on_problem)


def _moment(rows: Sequence[_Row]) -> str | None:
    """Return the first date of a study's images, with the time where it is complete: `21800506T213014`."""
    for row in rows:
        day = cell(row.get("StudyDate"))
        if day:
            time = _TIME.fullmatch(cell(row.get("StudyTime")))
            # Times are written as numbers: half past eight in the morning is 83000.0.
            return f"{day}T{time[1]:0>6}" if time and _DAY.fullmatch(day) and _is_time(time[1]) else day
    return None


def _is_time(digits: str) -> bool:
    hours, minutes, seconds = (int(part) for part in re.findall("..", digits.zfill(6)))
    return hours < 24 and minutes < 60 and seconds < 60
