"""Baselines of a draft: the most frequent report, a random neighbour's report, the nearest one's."""

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from corpus.findings import Statuses, present_leaves
from corpus.records import Study
from corpus.redaction import redacted
from indexer.index import Index
from retrieval.draft.neighbours import VOTERS, nearest
from retrieval.query.feedback import Vector

BASELINES = ("most_frequent", "random_neighbour", "top_1")


@redacted
@dataclass(frozen=True, slots=True)
class Copied:
    """A report copied whole. `findings`: present leaves by the ground truth given, else by the catalog."""

    text: str
    findings: frozenset[str]


def copy_reports(
    index: Index,
    vector: Vector,
    subjects: Collection[str],
    frequent: Study | None,
    truth: Mapping[str, Statuses],
) -> dict[str, Copied]:
    """Return each baseline's report for an image; baselines without a report are left out.

    Args:
        index: with the reports to copy.
        vector: (dim,) float32 unit, of the image.
        subjects: their reports are not copied.
        frequent: `most_frequent_report` of the index.
        truth: study_id → statuses of its report by a ground-truth table; for the others the catalog's.
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
    """Return a study with the index's most frequent report text; None where there is no report."""
    first: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for study_id, report in index.catalog.reports():
        text = report.described
        first.setdefault(text, study_id)
        counts[text] += bool(text)
    if not counts:
        return None
    best = min(counts, key=lambda text: (-counts[text], first[text]))
    return index.catalog.studies([first[best]])[first[best]]
