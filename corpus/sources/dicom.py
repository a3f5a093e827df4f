"""A folder of DICOM files as an archive exports it: any names, any depth, grouped into studies by UID."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from corpus.demographics import parse_age, parse_date, parse_sex, parse_view
from corpus.dicom import Undecodable
from corpus.dicom_header import Header, contradicts_chest, read_header
from corpus.files import UnreadableFile, quoted, walk
from corpus.records import ImageRef, ItemState, Problem, ProblemSink, Report, Study
from corpus.sources.parts import image_ids, parsed, printable_utf8, refuse_modality
from corpus.sources.reports_table import Films, WrittenReport, join, one_report, read_reports

NAME = "dicom"

_UID = re.compile(r"[0-9.]{1,64}")
_NOT_DICOM_BY_NAME = frozenset({".txt", ".csv", ".json", ".xml", ".md", ".html", ".pdf", ".log"})


@dataclass(frozen=True, slots=True)
class _Film:
    """One file: `refused` is why it is not admitted, None where it is."""

    path: Path
    header: Header
    refused: str | None
    item_id: str = ""


@dataclass(frozen=True, slots=True)
class DicomSource:
    """Studies are `dicom:<StudyInstanceUID>`, subjects `dicom:<PatientID>` (the study, where it has none).

    With a table of `reports`, each report is joined on accession, then on study UID; a report without films
    and films without a report stay, each alone. A file that names no study is `dicom:unread#<file stem>`.
    """

    folder: Path
    admit: frozenset[str]
    reports: Path | None = None

    @property
    def name(self) -> str:
        """The kind of source."""
        return NAME

    def studies(self, on_problem: ProblemSink) -> Iterator[Study]:
        """Yield the studies in order of their UIDs, then the reports that no film claims.

        Raises:
            CorpusError: the table of reports cannot be read.
        """
        written = [] if self.reports is None else read_reports(self.reports, NAME, on_problem)
        studies = {
            study_id: films
            for study_id, group in sorted(self._files(on_problem).items())
            if (films := _admitted(self._with_ids(study_id, group), on_problem))
        }
        texts, single = join(
            (_films(study_id, films) for study_id, films in studies.items()), written, on_problem
        )
        for study_id, films in studies.items():
            report = one_report(study_id, texts.get(study_id, ()), on_problem)
            yield _study(study_id, films, report, on_problem)
        yield from _single_reports(single, on_problem)

    def _files(self, on_problem: ProblemSink) -> dict[str, list[_Film]]:
        """Return the files of each study id, in order of their paths; record those that name none."""
        studies: dict[str, list[_Film]] = {}
        unread: list[tuple[Path, ItemState, str]] = []
        for path in walk(self.folder):
            if self.reports is not None and path == self.reports.absolute():
                continue
            if printable_utf8(str(path)) != str(path):  # no database can hold such a name
                unread.append((path, "failed", "has a name that is not UTF-8: rename it"))
                continue
            try:
                header = read_header(path)
            except (UnreadableFile, Undecodable) as why:
                beside = path.suffix.lower() in _NOT_DICOM_BY_NAME and "no DICOM" in str(why)
                unread.append((path, "skipped" if beside else "failed", str(why)))
                continue
            if _UID.fullmatch(header.study_uid):
                film = _Film(path, header, refuse_header(header, self.admit))
                studies.setdefault(f"{NAME}:{header.study_uid}", []).append(film)
            else:
                kind = "a malformed" if header.study_uid else "no"
                unread.append((path, "failed", f"has {kind} StudyInstanceUID"))
        ids = image_ids(f"{NAME}:unread", [path.relative_to(self.folder) for path, _, _ in unread])
        for item_id, (path, state, reason) in zip(ids, unread, strict=True):
            on_problem(Problem(item_id, state, f"{quoted(path)} {reason}", printable_utf8(str(path))))
        return studies

    def _with_ids(self, study_id: str, films: Sequence[_Film]) -> list[_Film]:
        """Name the files of a study; a refused one takes part, so that no id depends on what is admitted."""
        ids = image_ids(study_id, [film.path.relative_to(self.folder) for film in films])
        return [replace(film, item_id=item_id) for film, item_id in zip(films, ids, strict=True)]


def refuse_header(header: Header, admit: frozenset[str]) -> str | None:
    """Return why a file is not admitted by its header, or None where nothing in it speaks against it."""
    reason = refuse_modality(header.modality or None, admit)
    part = contradicts_chest(header)
    if reason is None and part is not None and part not in admit:
        return f"its body part is {part}, not the chest: --admit {part} lets it in"
    return reason


def _admitted(films: Sequence[_Film], on_problem: ProblemSink) -> list[_Film]:
    """Return the admitted files of a study; none of them where two patients are named: whose is it?"""
    for film in films:
        if film.refused is not None:
            on_problem(Problem(film.item_id, "skipped", film.refused, str(film.path)))
    admitted = [film for film in films if film.refused is None]
    patients = {film.header.patient_id for film in admitted if film.header.patient_id}
    if len(patients) <= 1:
        return admitted
    for film in admitted:
        reason = f"the files of its study name {len(patients)} patients: the study is left out"
        on_problem(Problem(film.item_id, "failed", reason, str(film.path)))
    return []


def _films(study_id: str, films: Sequence[_Film]) -> Films:
    """What reports can be joined to."""
    accession, patient = _first(films, "accession"), _first(films, "patient_id")
    return Films(study_id, accession, films[0].header.study_uid, patient)


def _study(study_id: str, films: Sequence[_Film], report: Report | None, on_problem: ProblemSink) -> Study:
    patient = _first(films, "patient_id")
    return Study(
        study_id=study_id,
        subject_id=f"{NAME}:{patient}" if patient else study_id,
        source=NAME,
        images=tuple(
            ImageRef(film.item_id, str(film.path), parse_view(film.header.view), film.header.modality or None)
            for film in films
        ),
        report=report,
        age=parsed(parse_age, _first(films, "age"), f"{study_id}#age", on_problem),
        sex=parsed(parse_sex, _first(films, "sex"), f"{study_id}#sex", on_problem),
        date=parsed(parse_date, _first(films, "date"), f"{study_id}#date", on_problem),
        accession=_first(films, "accession") or None,
        study_uid=films[0].header.study_uid,
    )


def _single_reports(reports: Sequence[WrittenReport], on_problem: ProblemSink) -> Iterator[Study]:
    """Yield the reports without films, those of one name as one study."""
    named: dict[str, list[WrittenReport]] = {}
    for written in reports:
        named.setdefault(written.study_uid or written.accession, []).append(written)
    for name, same in named.items():
        study_id = f"{NAME}:{name}"
        subjects = {r.subject_id for r in same if r.subject_id}
        if len(subjects) > 1:
            reason = "its reports name more than one subject: they are left out"
            on_problem(Problem(f"{study_id}#report", "failed", reason))
            continue
        report = one_report(study_id, (r.text for r in same), on_problem)
        if report is not None:
            yield Study(
                study_id=study_id,
                subject_id=f"{NAME}:{subjects.pop()}" if subjects else study_id,
                source=NAME,
                report=report,
                accession=same[0].accession or None,
                study_uid=same[0].study_uid or None,
            )


def _first(films: Sequence[_Film], field: str) -> str:
    """The first value that a study's files have for a field; empty where none has one."""
    return next((value for film in films if (value := getattr(film.header, field))), "")
