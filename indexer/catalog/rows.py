"""A study and its problems as rows of the catalog's tables."""

from collections.abc import Iterable
from typing import Any

from corpus.records import Problem, Study
from corpus.subjects import key_of
from indexer.home import Home
from indexer.ingest.payload import study_hash


def study_row(study: Study, home: Home) -> dict[str, Any]:
    """Return the row of `StudyRow`: all that the catalog keeps of a study beside its items."""
    return {
        "study_id": study.study_id,
        "study_key": home.keyed("study", study.study_id),
        "subject_id": study.subject_id,
        "source": study.source,
        "age": study.age,
        "sex": study.sex,
        "date": study.date,
        "diagnosis": study.diagnosis,
        "accession": study.accession,
        "study_uid": study.study_uid,
        "findings": {name: status.value for name, status in study.findings.items()},
        "attributes": dict(study.attributes),
        "sections": None if study.report is None else [[s.name, s.text] for s in study.report.sections],
        "content": study_hash(study),
        "birth_key": study.birth_key,
        "shared_key": key if (key := key_of(study.subject_id)) != study.subject_id else study.shared_key,
        "language": None if study.report is None else study.report.language,
        "findings_read": None if study.report is None else study.report.findings_read,
    }


def problem_rows(
    problems: Iterable[tuple[str | None, str | None, Problem]], origin: str
) -> dict[str, dict[str, Any]]:
    """Return the rows of `ProblemRow` by item id; of two problems of one item the later counts.

    Args:
        problems: study id, subject id (None where they are not known) and problem.
        origin: the source as it was named.
    """
    return {
        problem.item_id: {
            "item_id": problem.item_id,
            "study_id": study_id,
            "subject_id": subject_id,
            "origin": origin,
            "state": problem.state,
            "reason": problem.reason,
            "location": problem.location,
        }
        for study_id, subject_id, problem in problems
    }
