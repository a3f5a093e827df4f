"""What a draft must beat: one report for everyone, any neighbour's report, the nearest one's."""

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa

from corpus.findings import Statuses, present_leaves
from corpus.records import Report, Section, Study
from corpus.redaction import redacted
from indexer.catalog.models import StudyRow
from indexer.index import Index
from retrieval.draft.neighbours import VOTERS, nearest
from retrieval.query.probes import Vector

BASELINES = ("most_frequent", "random_neighbour", "top_1")


@redacted
@dataclass(frozen=True, slots=True)
class Copied:
    """A report taken whole. `findings`: what is present by the truth that is given, else by the catalog."""

    text: str
    findings: frozenset[str]


def copy_reports(
    index: Index,
    vector: Vector,
    subjects: Collection[str],
    frequent: Study | None,
    truth: Mapping[str, Statuses],
) -> dict[str, Copied]:
    """The baselines' reports for a picture; those that there is no report for are left out.

    Args:
        index: whose reports are copied.
        vector: (dim,) float32 unit, of the picture.
        subjects: whose reports are not taken.
        frequent: `most_frequent_report` of the index.
        truth: study_id → what its report says, by a table; the others by the catalog.
    """
    near = [n.study for n in nearest(index, "report", vector, VOTERS, subjects=subjects)]
    digest = hashlib.sha256(np.ascontiguousarray(vector).tobytes()).digest()
    chosen = {
        "most_frequent": frequent,
        "random_neighbour": near[int.from_bytes(digest[:8]) % len(near)] if near else None,
        "top_1": near[0] if near else None,
    }
    return {
        name: Copied(study.report.described, present_leaves(truth.get(study.study_id, study.findings)))
        for name, study in chosen.items()
        if study is not None and study.report is not None
    }


def most_frequent_report(index: Index) -> Study | None:
    """A study whose report's text is the most frequent in the index; None where there is no report."""
    statement = sa.select(StudyRow.study_id, StudyRow.sections).where(StudyRow.sections.is_not(None))
    statement = statement.order_by(StudyRow.study_id)
    holders: dict[str, str] = {}
    counts: Counter[str] = Counter()
    with index.catalog.engine.connect() as connection:
        for study_id, sections in connection.execution_options(yield_per=1_000).execute(statement):
            text = _described(sections)
            holders.setdefault(text, study_id)
            counts[text] += bool(text)
    if not counts:
        return None
    best = min(counts, key=lambda text: (-counts[text], holders[text]))
    return index.catalog.studies([holders[best]])[holders[best]]


def _described(sections: Sequence[Sequence[str]] | None) -> str:
    return Report("", tuple(Section(name, text) for name, text in sections or ())).described
