"""What a source holds, counted: the body of `similarity corpus inspect`."""

import statistics
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, get_args

from corpus.errors import NotAdmitted, UnreadableImage
from corpus.files import quoted
from corpus.findings import VOCABULARY, Status
from corpus.images.reader import load_image
from corpus.language.labeler import labeled
from corpus.language.report_languages import ReportLanguages
from corpus.records import ImageRef, ItemState, Problem, Source, Study
from corpus.subjects import PATIENT_SOURCES, differ_by_zeros, near_equal_ids

_REASONS = 10
_EXAMPLES = 3


def inspect(
    source: Source, *, read: bool = False, on_step: Callable[[str, int], None] | None = None
) -> dict[str, Any]:
    """Go through a source once and count what it holds.

    Args:
        source: the source.
        read: also decode every picture; what cannot be, or not as its header says, is added to the problems.
        on_step: called with `studies` or `pictures` and how many of them are done.

    Returns:
        What `docs/contracts/corpus-inspect.schema.json` describes, but for its `notices`, which went to
        whoever opened the source. Findings are those of the tables and, where these are silent, of the
        reports.
    """
    step = on_step or (lambda what, done: None)
    problems: list[Problem] = []
    studies: list[Study] = []
    for study in source.studies(problems.append):
        studies.append(labeled(study))
        step("studies", len(studies))
    images = [image for study in studies for image in study.images]
    decoded = _decode(images, problems, step) if read else None
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
    """Count problems by state; list the commonest reasons of each with a few of the items."""
    by_state: dict[str, list[Problem]] = {state: [] for state in get_args(ItemState)}
    for problem in problems:
        by_state[problem.state].append(problem)
    return {state: {"count": len(same), "reasons": _reasons(same)} for state, same in by_state.items()}


def _reasons(problems: Iterable[Problem]) -> list[dict[str, Any]]:
    items: dict[str, list[str]] = {}
    for problem in problems:
        # The name of the file that a reason begins with would make every file's reason its own.
        name = "" if problem.location is None else f"{quoted(problem.location)} "
        items.setdefault(problem.reason.removeprefix(name), []).append(problem.item_id)
    commonest = sorted(items.items(), key=lambda entry: -len(entry[1]))[:_REASONS]
    return [{"reason": reason, "count": len(ids), "examples": ids[:_EXAMPLES]} for reason, ids in commonest]


def _near_equal(studies: Iterable[Study]) -> dict[str, Any]:
    """Patient ids that may be one patient's: how many groups of them, and a few."""
    named = {s.subject_id for s in studies if s.source in PATIENT_SOURCES and s.subject_id != s.study_id}
    groups = near_equal_ids(named)
    padded = sum(map(differ_by_zeros, groups))
    return {"count": len(groups), "by_leading_zeros": padded, "examples": groups[:_EXAMPLES]}


def _decode(images: list[ImageRef], problems: list[Problem], step: Callable[[str, int], None]) -> int:
    """Decode every picture; return how many could be."""
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
        step("pictures", done)
    return len(images) - refused


def _tally(values: Iterable[str | None]) -> dict[str, int]:
    """How often each value occurs, the commonest first; what is not told is `unknown`."""
    return dict(Counter("unknown" if value is None else value for value in values).most_common())


def _count_languages(studies: Iterable[Study]) -> ReportLanguages:
    counted = ReportLanguages()
    for study in studies:
        counted.add(study.report)
    return counted


def _count_findings(studies: Iterable[Study]) -> dict[str, dict[str, int]]:
    counts = Counter((name, status) for study in studies for name, status in study.findings.items())
    sides = (Status.PRESENT, Status.ABSENT, Status.UNCERTAIN)
    return {
        name: {side.value: counts[name, side] for side in sides}
        for name in VOCABULARY.names
        if any(counts[name, side] for side in sides)
    }
