"""A folder of DICOM files as an archive exports it: any names, any depth, grouped into studies by UID."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import combinations
from pathlib import Path

from corpus.demographics import parse_age, parse_sex
from corpus.dicom.file import Undecodable
from corpus.dicom.header import Header, contradicts_chest, read_header
from corpus.dicom.view_codes import view_of
from corpus.files import UnreadableFile, quoted, walk
from corpus.records import ImageRef, ItemState, Problem, ProblemSink, Report, Study
from corpus.redaction import redacted
from corpus.sources.common import Value, image_ids, parsed, printable_utf8, refuse_modality
from corpus.sources.repeated_instances import Instance, repeated_instances
from corpus.sources.reports_table import Films, WrittenReport, join, one_report, read_reports, tell_unjoined
from corpus.subjects import (
    Patient,
    Subject,
    assign_subjects,
    contradict,
    matched_id,
    names_nobody,
    read_birth_date,
    subject_key,
)
from corpus.tables.dates import parse_date
from corpus.tables.options import DEFAULT, TableOptions

NAME = "dicom"

_UID = re.compile(r"[0-9.]{1,64}")
_NOT_DICOM_BY_NAME = frozenset({".txt", ".csv", ".json", ".xml", ".md", ".html", ".pdf", ".log"})


@redacted
@dataclass(frozen=True, slots=True)
class _Film:
    """One file: `refused` is why it is not admitted, None where it is."""

    path: Path
    header: Header
    refused: str | None
    item_id: str = ""


@dataclass(frozen=True, slots=True)
class DicomSource:
    """Studies are `dicom:<StudyInstanceUID>`, subjects as `corpus.subjects` names them.

    With a table of `reports`, each report is joined on any of the accessions, then on study UID; a report
    without films and films without a report stay, each alone. A file that names no study is
    `dicom:unread#<file stem>`.
    """

    folder: Path
    admit: frozenset[str]
    reports: Path | None = None
    options: TableOptions = DEFAULT

    @property
    def name(self) -> str:
        """The kind of source."""
        return NAME

    def studies(self, on_problem: ProblemSink) -> Iterator[Study]:
        """Yield the studies in order of their UIDs, then the reports that no film claims.

        Raises:
            CorpusError: the table of reports cannot be read.
        """
        written = [] if self.reports is None else read_reports(self.reports, NAME, on_problem, self.options)
        studies = {
            study_id: films
            for study_id, group in sorted(self._files(on_problem).items())
            if (films := _admitted(self._with_ids(study_id, group), on_problem))
        }
        patients = {study_id: _patient_of(films) for study_id, films in studies.items()}
        subjects = assign_subjects(patients)
        studies = _without_repeated(studies, subjects, on_problem)
        claimed = _films(studies, patients, subjects)
        matched = _matched(written, claimed)
        joined, single = join(claimed, matched, on_problem)
        alone = {_single_id(report) for report in single}
        if self.reports is not None:
            tell_unjoined(self.reports, claimed, matched, self.options.on_notice)
        for study_id, films in studies.items():
            reports = joined.get(study_id, ())
            report = one_report(study_id, (one.text for one in reports), on_problem)
            _tell_doubts(study_id, films, subjects[study_id], on_problem)
            study = _study(study_id, films, patients[study_id], subjects[study_id], report, on_problem)
            names = dict.fromkeys(map(_single_id, reports))
            yield replace(study, replaces=tuple(n for n in names if n not in studies and n not in alone))
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


def patient_of(header: Header) -> Patient:
    """Return whom a header names: for the studies of a folder and for a query alike."""
    name = header.patient_id
    day = _read(parse_date, header.date)
    age = _read(parse_age, header.age)
    return Patient(
        key="" if names_nobody(name) else subject_key(NAME, name, header.issuer),
        sex=_read(parse_sex, header.sex),
        birth_date=read_birth_date(header.birth_date, day),
        birth_year=None if age is None or day is None else _year(day) - age,
    )


def _patient_of(films: Sequence[_Film]) -> Patient:
    """Whom the files of a study name together, each of them as far as it says."""
    headers = [film.header for film in films]
    named = [header for header in headers if not names_nobody(header.patient_id)]
    whose = max(named, key=lambda header: bool(header.issuer), default=headers[0])
    patients = [patient_of(header) for header in headers]
    return Patient(
        patient_of(whose).key,
        next((patient.sex for patient in patients if patient.sex), None),
        next((patient.birth_date for patient in patients if patient.birth_date), None),
        next((patient.birth_year for patient in patients if patient.birth_year), None),
    )


def _admitted(films: Sequence[_Film], on_problem: ProblemSink) -> list[_Film]:
    """Return the admitted files of a study; none of them where two patients are named: whose is it?"""
    for film in films:
        if film.refused is not None:
            on_problem(Problem(film.item_id, "skipped", film.refused, str(film.path)))
    admitted = [film for film in films if film.refused is None]
    several = _several_patients([film.header for film in admitted])
    for film in admitted if several else ():
        reason = f"the files of its study name {several}: the study is left out"
        on_problem(Problem(film.item_id, "failed", reason, str(film.path)))
    return [] if several else admitted


def _several_patients(headers: Sequence[Header]) -> str | None:
    """Say how the files of one study name more than one patient; what is left out contradicts nothing."""
    ids = {matched_id(header.patient_id) for header in headers if not names_nobody(header.patient_id)}
    if len(ids) > 1:
        return f"{len(ids)} patients"
    if len({header.issuer for header in headers if header.issuer}) > 1:
        return "patients of different issuers"
    patients = [patient_of(header) for header in headers]
    if any(contradict(one, other) for one, other in combinations(patients, 2)):
        return "patients of different sex or birth date"
    return None


def _without_repeated(
    studies: Mapping[str, Sequence[_Film]], subjects: Mapping[str, Subject], on_problem: ProblemSink
) -> dict[str, list[_Film]]:
    """Record files whose SOPInstanceUID an earlier one has; what is left out takes an empty study with it."""
    repeated = repeated_instances(
        Instance(
            film.item_id, study_id, None if whose == study_id else whose, film.header.instance_uid, film.path
        )
        for study_id, films in studies.items()
        for whose in [subjects[study_id].subject_id]
        for film in films
    )
    for problem in repeated.values():
        on_problem(problem)
    refused = {problem.item_id for problem in repeated.values()}
    kept = {
        study_id: [film for film in films if film.item_id not in refused]
        for study_id, films in studies.items()
    }
    return {study_id: films for study_id, films in kept.items() if films}


def _films(
    studies: Mapping[str, Sequence[_Film]], patients: Mapping[str, Patient], subjects: Mapping[str, Subject]
) -> list[Films]:
    """What reports can be joined to, one entry for each accession of a study.

    Reports name patients by their id alone. Where studies of one accession are of patients whom the id does
    not tell apart, each is called by its subject: no report is joined to either.
    """
    beside: dict[str, list[Patient]] = defaultdict(list)
    for study_id, films in studies.items():
        for accession in _accessions(films):
            beside[accession].append(patients[study_id])
    shared = {accession for accession, those in beside.items() if _are_several(those)}
    claimed = []
    for study_id, films in studies.items():
        named = [
            matched_id(film.header.patient_id) for film in films if not names_nobody(film.header.patient_id)
        ]
        for accession in _accessions(films) or ("",):
            whose = subjects[study_id].subject_id if accession in shared else next(iter(named), "")
            claimed.append(Films(study_id, accession, films[0].header.study_uid, whose))
    return claimed


def _are_several(patients: Sequence[Patient]) -> bool:
    births = {patient.birth_date for patient in patients if patient.birth_date}
    keys = {patient.key for patient in patients if patient.key}
    return len(keys) > 1 or len(births) > 1 or {"F", "M"} <= {patient.sex for patient in patients}


def _matched(reports: Sequence[WrittenReport], films: Sequence[Films]) -> list[WrittenReport]:
    """Give a report of several accessions the one that images have, and each its patient's matched id."""
    known = {study.accession for study in films}
    matched = []
    for report in reports:
        values = [value.strip() for value in report.accession.split("\\") if value.strip()]
        accession = next((value for value in values if value in known), next(iter(values), ""))
        subject = "" if names_nobody(report.subject_id) else matched_id(report.subject_id)
        matched.append(replace(report, accession=accession, subject_id=subject))
    return matched


def _tell_doubts(study_id: str, films: Sequence[_Film], subject: Subject, on_problem: ProblemSink) -> None:
    """Record what the headers of a study leave in doubt: whose it is, which of several values is meant."""
    if subject.warning is not None:
        on_problem(Problem(f"{study_id}#subject", "noted", subject.warning))
    for name in dict.fromkeys(name for film in films for name in film.header.repeated):
        reason = f"{name} has several values, of which the standard allows one: the first is taken"
        on_problem(Problem(f"{study_id}#{name}", "noted", reason))
    for film in films:
        conflict = view_of(film.header.view, film.header.view_codes).conflict
        if conflict is not None:
            reason = f"{conflict}: the image is kept with what ViewPosition says"
            on_problem(Problem(f"{film.item_id}@view", "noted", reason, str(film.path)))


def _study(
    study_id: str,
    films: Sequence[_Film],
    patient: Patient,
    subject: Subject,
    report: Report | None,
    on_problem: ProblemSink,
) -> Study:
    return Study(
        study_id=study_id,
        subject_id=subject.subject_id,
        source=NAME,
        images=tuple(_image(film) for film in films),
        report=report,
        age=parsed(parse_age, _first(films, "age"), f"{study_id}#age", on_problem),
        sex=parsed(parse_sex, _first(films, "sex"), f"{study_id}#sex", on_problem),
        date=parsed(parse_date, _first(films, "date"), f"{study_id}#date", on_problem),
        accession=next(iter(_accessions(films)), None),
        study_uid=films[0].header.study_uid,
        birth_date=patient.birth_date,
        shared_key=subject.shared_key,
        identifiers=(*_accessions(films), *dict.fromkeys(i for f in films for i in f.header.patient_ids)),
    )


def _image(film: _Film) -> ImageRef:
    header = film.header
    view = view_of(header.view, header.view_codes).view
    return ImageRef(film.item_id, str(film.path), view, header.modality or None, header.instance_uid or None)


def _single_reports(reports: Sequence[WrittenReport], on_problem: ProblemSink) -> Iterator[Study]:
    """Yield the reports without films, those of one name as one study."""
    named: dict[str, list[WrittenReport]] = {}
    for written in reports:
        named.setdefault(_single_id(written), []).append(written)
    for study_id, same in named.items():
        subjects = {r.subject_id for r in same if r.subject_id}
        if len(subjects) > 1:
            reason = "its reports name more than one subject: they are left out"
            on_problem(Problem(f"{study_id}#report", "failed", reason))
            continue
        report = one_report(study_id, (r.text for r in same), on_problem)
        if report is not None:
            yield Study(
                study_id=study_id,
                subject_id=subject_key(NAME, subjects.pop()) if subjects else study_id,
                source=NAME,
                report=report,
                accession=same[0].accession or None,
                study_uid=same[0].study_uid or None,
            )


def _single_id(report: WrittenReport) -> str:
    """The id that a report has as a study while no image claims it."""
    return f"{NAME}:{report.study_uid or report.accession}"


def _accessions(films: Sequence[_Film]) -> tuple[str, ...]:
    """Every accession that a study's files name, in their order."""
    return tuple(dict.fromkeys(value for film in films for value in film.header.accessions))


def _year(day: str) -> float:
    seen = date.fromisoformat(day[:10])
    return seen.year + (seen.timetuple().tm_yday - 1) / 365.25


def _first(films: Sequence[_Film], field: str) -> str:
    """The first value that a study's files have for a field; empty where none has one."""
    return next((value for film in films if (value := getattr(film.header, field))), "")


def _read(parse: Callable[[str | None], Value | None], written: str) -> Value | None:
    """Parse an element; None where it cannot be, which `parsed` records."""
    try:
        return parse(written)
    except ValueError:
        return None
