"""The counts of a source that `similarity corpus inspect` prints."""

import statistics
from collections import Counter
from collections.abc import Iterable
from typing import Any, get_args

from corpus.errors import NotAdmitted, UnreadableImage
from corpus.files import quoted
from corpus.findings import VOCABULARY, Status
from corpus.images.reader import load_image
from corpus.language.detection import ReportLanguages
from corpus.language.labeler import label_study
from corpus.progress import OnProgress, silent
from corpus.records import ImageRef, ItemState, Problem, Source, Study
from corpus.subjects import PATIENT_SOURCES, differ_by_zeros, near_equal_ids

_REASONS = 10
_EXAMPLES = 3


def inspect(source: Source, *, read: bool = False, on_progress: OnProgress = silent) -> dict[str, Any]:
    """Read a source once and count its studies, items, findings and problems.

    Args:
        source: the source.
        read: also decode every image; what cannot be decoded, or not as its header says, is added to the
            problems.
        on_progress: called with `studies` or `images` and the number done.

    Returns:
        The form of `docs/contracts/corpus-inspect.schema.json`, without its `notices`, which the opener of
        the source receives. Findings are those of the tables and, where these have none, of the reports.
    """
    problems: list[Problem] = []
    studies: list[Study] = []
    for study in source.studies(problems.append):
        studies.append(label_study(study))
        on_progress("studies", len(studies))
    images = [image for study in studies for image in study.images]
    decoded = _decode(images, problems, on_progress) if read else None
    ages = sorted(study.age for study in studies if study.age is not None)
    days = sorted(study.date[:10] for study in studies if study.date is not None)
    return {
        "source": source.name,
        "studies": len(studies),
        "subjects": len({study.subject_id for study in studies}),
        "near_equal_ids": _near_equal(studies),
        "images": len(images),
        "reports": sum(study.report is not None for study in studies),
        "pairs": sum(study.report is not None and bool(study.images) for study in studies),
        "decoded": decoded,
        "views": _tally(image.view for image in images),
        "modalities": _tally(image.modality for image in images),
        "sexes": _tally(study.sex for study in studies),
        "ages": {
            "known": len(ages),
            "min": ages[0] if ages else None,
            "median": statistics.median(ages) if ages else None,
            "max": ages[-1] if ages else None,
        },
        "dates": {
            "known": len(days),
            "first": days[0] if days else None,
            "last": days[-1] if days else None,
        },
        "diagnoses": _tally(study.diagnosis for study in studies if study.diagnosis is not None),
        "attributes": _tally(name for study in studies for name in study.attributes),
        "findings": _count_findings(studies),
        "languages": _count_languages(studies).as_json(),
        "problems": summarize(problems),
    }


def summarize(problems: Iterable[Problem]) -> dict[str, Any]:
    """Count problems by state, with the most frequent reasons of each and a few item ids."""
    by_state: dict[str, list[Problem]] = {state: [] for state in get_args(ItemState)}
    for problem in problems:
        by_state[problem.state].append(problem)
    return {state: {"count": len(same), "reasons": _reasons(same)} for state, same in by_state.items()}


def _reasons(problems: Iterable[Problem]) -> list[dict[str, Any]]:
    items: dict[str, list[str]] = {}
    for problem in problems:
        # Reasons are grouped without the file name with which they begin.
        name = "" if problem.location is None else f"{quoted(problem.location)} "
        items.setdefault(problem.reason.removeprefix(name), []).append(problem.item_id)
    commonest = sorted(items.items(), key=lambda entry: -len(entry[1]))[:_REASONS]
    return [{"reason": reason, "count": len(ids), "examples": ids[:_EXAMPLES]} for reason, ids in commonest]


def _near_equal(studies: Iterable[Study]) -> dict[str, Any]:
    """Return the number of groups of patient ids that may be one patient's, and a few of them."""
    named = {s.subject_id for s in studies if s.source in PATIENT_SOURCES and s.subject_id != s.study_id}
    groups = near_equal_ids(named)
    padded = sum(map(differ_by_zeros, groups))
    return {"count": len(groups), "by_leading_zeros": padded, "examples": groups[:_EXAMPLES]}


def _decode(images: list[ImageRef], problems: list[Problem], on_progress: OnProgress) -> int:
    """Decode every image; return how many succeed."""
    refused = 0
    for done, image in enumerate(images, 1):
        try:
            read = load_image(image.location)
        except (UnreadableImage, NotAdmitted) as reason:
            refused += 1
            problems.append(Problem(image.item_id, "failed", str(reason), image.location))
        else:
            if read.notes:
                problems.append(Problem(image.item_id, "noted", "; ".join(read.notes), image.location))
        on_progress("images", done)
    return len(images) - refused


def _tally(values: Iterable[str | None]) -> dict[str, int]:
    """Count each value, the most frequent first; a missing one is `unknown`."""
    return dict(Counter("unknown" if value is None else value for value in values).most_common())


def _count_languages(studies: Iterable[Study]) -> ReportLanguages:
    counted = ReportLanguages()
    for study in studies:
        counted.add(study.report)
    return counted


def _count_findings(studies: Iterable[Study]) -> dict[str, dict[str, int]]:
    counts = Counter((name, status) for study in studies for name, status in study.findings.items())
    mentioned = (Status.PRESENT, Status.ABSENT, Status.UNCERTAIN)
    return {
        name: {status.value: counts[name, status] for status in mentioned}
        for name in VOCABULARY.names
        if any(counts[name, status] for status in mentioned)
    }
