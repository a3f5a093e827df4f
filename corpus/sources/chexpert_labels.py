"""The fourteen labels of CheXpert (Irvin et al., AAAI 2019) as tables write them: 1, 0, -1, blank.

CheXpert's own tables and those of MIMIC-CXR-JPG have them. 1 is present, 0 absent, -1 uncertain and a blank
unmentioned: the four stay four.
"""

from collections.abc import Mapping
from typing import Any, Final

from corpus.findings import VOCABULARY, Status, Statuses
from corpus.records import Problem, ProblemSink
from corpus.sources.common import cell

LABELS: Final = (
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema",
    "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other",
    "Fracture", "Support Devices",
)  # fmt: skip
"""The columns, as they are headed."""

_STATUSES = {1.0: Status.PRESENT, 0.0: Status.ABSENT, -1.0: Status.UNCERTAIN}


def read_labels(row: Mapping[str, Any], study_id: str, on_problem: ProblemSink) -> Statuses:
    """Return the statuses of a row, spread along the tree of findings.

    Args:
        row: column → cell; a column of `LABELS` that is not in it says nothing.
        study_id: the study whose row it is; a cell that is none of 1, 0, -1 and blank is recorded as
            `<study_id>#findings`, and that label is left out.
        on_problem: gets what is recorded.
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
        reason = f"{label} is {written[:20]!r}, which is none of 1, 0 and -1: the study is kept without it"
        on_problem(Problem(f"{study_id}#findings", "skipped", reason))
    return VOCABULARY.spread(statuses)


def _status(written: str) -> Status | None:
    try:
        return _STATUSES.get(float(written))
    except ValueError:
        return None
