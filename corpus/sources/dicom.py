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
from corpus.dicom.header import Header, contradicts_chest, read_header, view_of
from corpus.files import UnreadableFile, quoted, walk
from corpus.records import ImageRef, ItemId, ItemState, Problem, ProblemSink, Report, Study
from corpus.redaction import redacted
from corpus.sources.common import Value, image_ids, parsed, printable_utf8, refuse_modality
from corpus.sources.repeated_instances import Instance, repeated_instances
from corpus.sources.reports_table import (
    ImagedStudy,
    WrittenReport,
    join,
    one_report,
    read_reports,
    report_unjoined,
)
from corpus.subjects import (
    Patient,
    Subject,
    assign_subjects,
    contradict,
    is_placeholder,
    matched_id,
    read_birth_date,
    subject_key,
)
from corpus.tables import DEFAULT, TableOptions
from corpus.tables.dates import parse_date

NAME = "dicom"

_UID = re.compile(r"[0-9.]{1,64}")
_NOT_DICOM_BY_NAME = frozenset({".txt", ".csv", ".json", ".xml", ".md", ".html", ".pdf", ".log"})


@redacted
@dataclass(frozen=True, slots=True)
class _DicomFile:
    """One file of a study.

    `refused`: why it is not admitted, None where it is.
    `item_id`: the image's id.
    """

    path: Path
    header: Header
    refused: str | None
    item_id: str = ""


@dataclass(frozen=True, slots=True)
class DicomSource:
    """Studies are `dicom:<StudyInstanceUID>`, subjects as `corpus.subjects` determines them.

    With a table of `reports`, each report is joined on any of the accessions, then on study UID; a report
    without images and images without a report are studies of their own. A file without a study is
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
        """Yield the studies in order of their UIDs, then the reports without images.

        Raises:
            CorpusError: the table of reports cannot be read.
        """
        written = [] if self.reports is None else read_reports(self.reports, NAME, on_problem, self.options)
        studies = {
            study_id: files
            for study_id, group in sorted(self._files(on_problem).items())
            if (files := _admitted(self._with_ids(study_id, group), on_problem))
        }
        patients = {study_id: _combined_patient(files) for study_id, files in studies.items()}
        subjects = assign_subjects(patients)
        studies = _without_repeated(studies, subjects, on_problem)
        imaged = _imaged_studies(studies, patients, subjects)
        matched = _matched(written, imaged)
        joined, single = join(imaged, matched, on_problem)
        unmatched_ids = {_single_id(report) for report in single}
        if self.reports is not None:
            report_unjoined(self.reports, imaged, matched, self.options.on_notice)
        for study_id, files in studies.items():
            reports = joined.get(study_id, ())
            report = one_report(study_id, (one.text for one in reports), on_problem)
            _report_doubts(study_id, files, subjects[study_id], on_problem)
            study = _study(study_id, files, patients[study_id], subjects[study_id], report, on_problem)
            names = dict.fromkeys(map(_single_id, reports))
            yield replace(
                study, replaces=tuple(n for n in names if n not in studies and n not in unmatched_ids)
            )
        yield from _single_reports(single, on_problem)

    def _files(self, on_problem: ProblemSink) -> dict[str, list[_DicomFile]]:
        """Return the files of each study id, in order of their paths; record those without a study."""
        studies: dict[str, list[_DicomFile]] = {}
        unread: list[tuple[Path, ItemState, str]] = []
        for path in walk(self.folder):
            if self.reports is not None and path == self.reports.absolute():
                continue
            if printable_utf8(str(path)) != str(path):  # no database can store such a name
                unread.append((path, "failed", "has a name that is not UTF-8: rename it"))
                continue
            try:
                header = read_header(path)
            except (UnreadableFile, Undecodable) as why:
                is_text = path.suffix.lower() in _NOT_DICOM_BY_NAME and "no DICOM" in str(why)
                unread.append((path, "skipped" if is_text else "failed", str(why)))
                continue
            if _UID.fullmatch(header.study_uid):
                file = _DicomFile(path, header, refuse_header(header, self.admit))
                studies.setdefault(f"{NAME}:{header.study_uid}", []).append(file)
            else:
                kind = "a malformed" if header.study_uid else "no"
                unread.append((path, "failed", f"has {kind} StudyInstanceUID"))
        ids = image_ids(f"{NAME}:unread", [path.relative_to(self.folder) for path, _, _ in unread])
        for item_id, (path, state, reason) in zip(ids, unread, strict=True):
            on_problem(Problem(item_id, state, f"{quoted(path)} {reason}", printable_utf8(str(path))))
        return studies

    def _with_ids(self, study_id: str, files: Sequence[_DicomFile]) -> list[_DicomFile]:
        """Assign item ids to the files of a study.

        Refused files count too, so that no id depends on what is admitted.
        """
        ids = image_ids(study_id, [file.path.relative_to(self.folder) for file in files])
        return [replace(file, item_id=item_id) for file, item_id in zip(files, ids, strict=True)]


def refuse_header(header: Header, admit: frozenset[str]) -> str | None:
    """Return why a file is not admitted by its header, or None where it is."""
    reason = refuse_modality(header.modality or None, admit)
    part = contradicts_chest(header)
    if reason is None and part is not None and part not in admit:
        return f"its body part is {part}, not the chest: --admit {part} lets it in"
    return reason


def patient_of(header: Header) -> Patient:
    """Return the patient of a header; studies of a folder and queries use the same rules."""
    name = header.patient_id
    day = _read(parse_date, header.date)
    age = _read(parse_age, header.age)
    return Patient(
        key="" if is_placeholder(name) else subject_key(NAME, name, header.issuer),
        sex=_read(parse_sex, header.sex),
        birth_date=read_birth_date(header.birth_date, day),
        birth_year=None if age is None or day is None else _year(day) - age,
    )


def _combined_patient(files: Sequence[_DicomFile]) -> Patient:
    """Return the patient of a study, combined from the headers of its files."""
    headers = [file.header for file in files]
    named = [header for header in headers if not is_placeholder(header.patient_id)]
    identified = max(named, key=lambda header: bool(header.issuer), default=headers[0])
    patients = [patient_of(header) for header in headers]
    return Patient(
        patient_of(identified).key,
        next((patient.sex for patient in patients if patient.sex), None),
        next((patient.birth_date for patient in patients if patient.birth_date), None),
        next((patient.birth_year for patient in patients if patient.birth_year), None),
    )


def _admitted(files: Sequence[_DicomFile], on_problem: ProblemSink) -> list[_DicomFile]:
    """Return the admitted files of a study; none of them where they name two patients."""
    for file in files:
        if file.refused is not None:
            on_problem(Problem(file.item_id, "skipped", file.refused, str(file.path)))
    admitted = [file for file in files if file.refused is None]
    several = _several_patients([file.header for file in admitted])
    for file in admitted if several else ():
        reason = f"the files of its study name {several}: the study is left out"
        on_problem(Problem(file.item_id, "failed", reason, str(file.path)))
    return [] if several else admitted


def _several_patients(headers: Sequence[Header]) -> str | None:
    """Return how the files of one study name more than one patient, else None; missing values never do."""
    ids = {matched_id(header.patient_id) for header in headers if not is_placeholder(header.patient_id)}
    if len(ids) > 1:
        return f"{len(ids)} patients"
    if len({header.issuer for header in headers if header.issuer}) > 1:
        return "patients of different issuers"
    patients = [patient_of(header) for header in headers]
    if any(contradict(one, other) for one, other in combinations(patients, 2)):
        return "patients of different sex or birth date"
    return None


def _without_repeated(
    studies: Mapping[str, Sequence[_DicomFile]], subjects: Mapping[str, Subject], on_problem: ProblemSink
) -> dict[str, list[_DicomFile]]:
    """Remove and record files with the SOPInstanceUID of an earlier one, and studies without other files."""
    repeated = repeated_instances(
        Instance(
            file.item_id,
            study_id,
            None if subject == study_id else subject,
            file.header.instance_uid,
            file.path,
        )
        for study_id, files in studies.items()
        for subject in [subjects[study_id].subject_id]
        for file in files
    )
    for problem in repeated.values():
        on_problem(problem)
    refused = {problem.item_id for problem in repeated.values()}
    remaining = {
        study_id: [file for file in files if file.item_id not in refused]
        for study_id, files in studies.items()
    }
    return {study_id: files for study_id, files in remaining.items() if files}


def _imaged_studies(
    studies: Mapping[str, Sequence[_DicomFile]],
    patients: Mapping[str, Patient],
    subjects: Mapping[str, Subject],
) -> list[ImagedStudy]:
    """Return the studies that reports can be joined to, one entry for each accession of a study.

    Reports name patients by their id alone. Where studies of one accession are of patients that the id does
    not distinguish, each entry has its subject instead: no report is joined to either.
    """
    sharing: dict[str, list[Patient]] = defaultdict(list)
    for study_id, files in studies.items():
        for accession in _accessions(files):
            sharing[accession].append(patients[study_id])
    shared = {accession for accession, those in sharing.items() if _are_several(those)}
    imaged = []
    for study_id, files in studies.items():
        named = [
            matched_id(file.header.patient_id) for file in files if not is_placeholder(file.header.patient_id)
        ]
        for accession in _accessions(files) or ("",):
            subject = subjects[study_id].subject_id if accession in shared else next(iter(named), "")
            imaged.append(ImagedStudy(study_id, accession, files[0].header.study_uid, subject))
    return imaged


def _are_several(patients: Sequence[Patient]) -> bool:
    births = {patient.birth_date for patient in patients if patient.birth_date}
    keys = {patient.key for patient in patients if patient.key}
    return len(keys) > 1 or len(births) > 1 or {"F", "M"} <= {patient.sex for patient in patients}


def _matched(reports: Sequence[WrittenReport], imaged: Sequence[ImagedStudy]) -> list[WrittenReport]:
    """Return the reports with the one accession of several that images have, and the matched patient id."""
    known = {study.accession for study in imaged}
    matched = []
    for report in reports:
        values = [value.strip() for value in report.accession.split("\\") if value.strip()]
        accession = next((value for value in values if value in known), next(iter(values), ""))
        subject = "" if is_placeholder(report.subject_id) else matched_id(report.subject_id)
        matched.append(replace(report, accession=accession, subject_id=subject))
    return matched


def _report_doubts(
    study_id: str, files: Sequence[_DicomFile], subject: Subject, on_problem: ProblemSink
) -> None:
    """Record doubts in the headers of a study: of its subject, and of elements with several values."""
    if subject.warning is not None:
        on_problem(Problem(f"{study_id}#subject", "noted", subject.warning))
    for name in dict.fromkeys(name for file in files for name in file.header.repeated):
        reason = f"{name} has several values, of which the standard allows one: the first is taken"
        on_problem(Problem(f"{study_id}#{name}", "noted", reason))
    for file in files:
        conflict = view_of(file.header.view, file.header.view_codes).conflict
        if conflict is not None:
            reason = f"{conflict}: the image keeps the view of ViewPosition"
            on_problem(Problem(f"{file.item_id}@view", "noted", reason, str(file.path)))


def _study(
    study_id: str,
    files: Sequence[_DicomFile],
    patient: Patient,
    subject: Subject,
    report: Report | None,
    on_problem: ProblemSink,
) -> Study:
    return Study(
        study_id=study_id,
        subject_id=subject.subject_id,
        source=NAME,
        images=tuple(_image(file) for file in files),
        report=report,
        age=parsed(parse_age, _first(files, "age"), f"{study_id}#age", on_problem),
        sex=parsed(parse_sex, _first(files, "sex"), f"{study_id}#sex", on_problem),
        date=parsed(parse_date, _first(files, "date"), f"{study_id}#date", on_problem),
        accession=next(iter(_accessions(files)), None),
        study_uid=files[0].header.study_uid,
        birth_date=patient.birth_date,
        shared_key=subject.shared_key,
        identifiers=(*_accessions(files), *dict.fromkeys(i for f in files for i in f.header.patient_ids)),
    )


def _image(file: _DicomFile) -> ImageRef:
    header = file.header
    view = view_of(header.view, header.view_codes).view
    return ImageRef(file.item_id, str(file.path), view, header.modality or None, header.instance_uid or None)


def _single_reports(reports: Sequence[WrittenReport], on_problem: ProblemSink) -> Iterator[Study]:
    """Yield the reports without images, those of one id as one study."""
    named: dict[str, list[WrittenReport]] = {}
    for written in reports:
        named.setdefault(_single_id(written), []).append(written)
    for study_id, same in named.items():
        subjects = {r.subject_id for r in same if r.subject_id}
        if len(subjects) > 1:
            reason = "its reports name more than one subject: they are left out"
            on_problem(Problem(ItemId.report(study_id).text, "failed", reason))
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
    """Return the id of a report as a study of its own, until an image matches it."""
    return f"{NAME}:{report.study_uid or report.accession}"


def _accessions(files: Sequence[_DicomFile]) -> tuple[str, ...]:
    """Return every accession of a study's files, in their order."""
    return tuple(dict.fromkeys(value for file in files for value in file.header.accessions))


def _year(day: str) -> float:
    seen = date.fromisoformat(day[:10])
    return seen.year + (seen.timetuple().tm_yday - 1) / 365.25


def _first(files: Sequence[_DicomFile], field: str) -> str:
    """Return the first value of a field in a study's files; empty without one."""
    return next((value for file in files if (value := getattr(file.header, field))), "")


def _read(parse: Callable[[str | None], Value | None], written: str) -> Value | None:
    """Parse an element; return None where it is malformed, which `parsed` records."""
    try:
        return parse(written)
    except ValueError:
        return None
