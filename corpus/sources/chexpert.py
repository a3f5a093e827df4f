"""CheXpert (Irvin et al., AAAI 2019): chest films of Stanford with fourteen findings labelled from reports.

Layout as published, in full size or `-small`: `train.csv` and `valid.csv` (those of them that are there, and
`test.csv`), whose `Path` ends in `<set>/patient00001/study1/view1_frontal.jpg`, beside the folders of
pictures. Reports, which came later (CheXpert Plus, Chambon et al. 2024), are read where their table lies
beside these.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from corpus.demographics import parse_age, parse_sex, parse_view
from corpus.errors import CorpusError
from corpus.files import UnreadableFile, read_bytes
from corpus.language.sections import clean_text
from corpus.records import ImageRef, Problem, ProblemSink, Report, Section, Study, View
from corpus.redaction import redacted
from corpus.sources.chexpert_labels import LABELS, read_labels
from corpus.sources.common import image_ids, keep_worded, parsed, report_bad_rows
from corpus.tables.options import DEFAULT, TableOptions
from corpus.tables.reader import Table, read_table

NAME = "chexpert"
TABLES = ("train.csv", "valid.csv", "test.csv")
REPORTS = "df_chexpert_plus_*.csv"

_MARK = "Frontal/Lateral"  # a column of no other set's train.csv
_WANTED = ("Path", "Sex", "Age", _MARK, "AP/PA", *LABELS)
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
class _Place(NamedTuple):
    """What a `Path` says, whatever folder it begins with."""

    published: str | None  # train, valid or test
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

    The subject is `chexpert:patient00001`. The set a study was published in (train, valid, test) is kept as
    the attribute `published_split`. `root` is the folder that holds the tables.
    """

    root: Path
    options: TableOptions = DEFAULT

    @property
    def name(self) -> str:
        """The kind of source."""
        return NAME

    def read(self) -> list[Table]:
        """Read the tables that are there.

        Raises:
            CorpusError: one lacks a column or cannot be read.
        """
        tables = [self.root / name for name in TABLES if (self.root / name).exists()]
        needed = ("Path", _MARK)
        return [read_table(path, required=needed, wanted=_WANTED, options=self.options) for path in tables]

    def studies(self, on_problem: ProblemSink) -> Iterator[Study]:
        """Yield every study that has a picture here or a report with words, in the order of the tables."""
        studies: dict[str, list[tuple[_Place, dict[str, Any]]]] = {}
        for table in self.read():
            report_bad_rows(table, NAME, on_problem)
            for number, row in enumerate(table.frame.iter_rows(named=True), 1):
                place = _parse_path(row["Path"])
                if place is None:
                    reason = (
                        f"row {number} of {table.path.name!r} names no picture of a patient and study: "
                        "patient00001/study1/view1_frontal.jpg is read"
                    )
                    on_problem(Problem(f"{NAME}:{table.path.name}@row{number}", "failed", reason))
                else:
                    studies.setdefault(place.study_id, []).append((place, row))
        reports = self._reports(on_problem)
        for study_id, listed in studies.items():
            written = reports.pop(study_id, None)
            study = self._study(study_id, listed, written[1] if written else None, on_problem)
            if study is not None:
                yield study
        for study_id, (place, report) in reports.items():  # reports of films that no table lists
            if (worded := keep_worded(report, on_problem)) is not None:
                yield Study(study_id, f"{NAME}:{place.patient}", NAME, report=worded)

    def _study(
        self,
        study_id: str,
        listed: Sequence[tuple[_Place, dict[str, Any]]],
        report: Report | None,
        on_problem: ProblemSink,
    ) -> Study | None:
        images = tuple(self._images(study_id, listed, on_problem))
        report = report and keep_worded(report, on_problem)
        if not images and report is None:
            return None
        place, row = listed[0]
        if any(other.get(label) != row.get(label) for _, other in listed for label in LABELS):
            reason = "its rows disagree on the labels: the first row's are kept"
            on_problem(Problem(f"{study_id}#findings", "skipped", reason))
        return Study(
            study_id=study_id,
            subject_id=f"{NAME}:{place.patient}",
            source=NAME,
            images=images,
            report=report,
            findings=read_labels(row, study_id, on_problem),
            age=parsed(parse_age, row.get("Age"), f"{study_id}#age", on_problem),
            sex=parsed(parse_sex, row.get("Sex"), f"{study_id}#sex", on_problem),
            attributes={"published_split": place.published} if place.published else {},
        )

    def _images(
        self, study_id: str, listed: Sequence[tuple[_Place, dict[str, Any]]], on_problem: ProblemSink
    ) -> Iterator[ImageRef]:
        ids = image_ids(study_id, [place.file for place, _ in listed])
        seen: set[str] = set()
        for item_id, (place, row) in zip(ids, listed, strict=True):
            if item_id in seen:
                on_problem(Problem(f"{item_id}~again", "skipped", "the tables list this picture twice"))
                continue
            seen.add(item_id)
            path = self._find(place)
            if path is None:
                reason = "the table lists it, the folder lacks it"
                on_problem(Problem(item_id, "missing", reason, row["Path"]))
            else:
                yield ImageRef(item_id, str(path), _view(row))

    def _find(self, place: _Place) -> Path | None:
        """Where a picture lies: below its set's folder, as published, or right below the root."""
        inner = Path(place.patient, place.study, place.file)
        sets = [self.root / place.published] if place.published else []
        return next((path for folder in (*sets, self.root) if (path := folder / inner).is_file()), None)

    def _reports(self, on_problem: ProblemSink) -> dict[str, tuple[_Place, Report]]:
        """Return the report of each study, from the table of CheXpert Plus; none where it is not there."""
        reports: dict[str, tuple[_Place, Report]] = {}
        for path in sorted(self.root.glob(REPORTS)):
            table = read_table(
                path,
                required=("path_to_image", "section_findings", "section_impression"),
                wanted=("path_to_image", *_SECTIONS),
                options=self.options,
            )
            report_bad_rows(table, NAME, on_problem)
            for number, row in enumerate(table.frame.iter_rows(named=True), 1):
                place = _parse_path(row["path_to_image"])
                if place is None:
                    reason = f"row {number} of {path.name!r} names no picture of a patient and study"
                    on_problem(Problem(f"{NAME}:{path.name}@row{number}", "failed", reason))
                else:  # one row a picture: those of a study repeat its report
                    reports.setdefault(place.study_id, (place, _report(place.study_id, row)))
        return reports


def find_roots(folder: Path) -> list[Path]:
    """Return the folders that hold the set's tables: this one, or those of its folders that do."""
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
    return any(_is_of_the_set(folder / name) for name in TABLES)


def _is_of_the_set(table: Path) -> bool:
    """Whether a table's header is CheXpert's: many sets call a table `train.csv`."""
    try:
        return _MARK.encode() in read_bytes(table, head=4096).split(b"\n", 1)[0]
    except UnreadableFile:
        return False


def _parse_path(written: str | None) -> _Place | None:
    match = _PATH.search((written or "").strip().replace("\\", "/"))
    return _Place(match["set"], match["patient"], match["study"], match["file"]) if match else None


def _view(row: dict[str, Any]) -> View | None:
    """AP or PA where a frontal film says which."""
    return parse_view(row.get("AP/PA")) or parse_view(row[_MARK])


def _report(study_id: str, row: dict[str, Any]) -> Report:
    texts = ((name, clean_text(row.get(column) or "")) for column, name in _SECTIONS.items())
    return Report(f"{study_id}#report", tuple(Section(name, text) for name, text in texts if text))
