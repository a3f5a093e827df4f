"""How well labels agree with a table of truth: precision, recall and F1 of each finding.

A truth table says yes or no. Annotators of such tables wrote down what the report asserts; so a label counts
as yes when it is `present`, and as no when it is absent, uncertain or unmentioned.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from corpus.errors import CorpusError
from corpus.findings import VOCABULARY, Status, Statuses
from corpus.truth import Truth


def score_labels(labels: Mapping[str, Statuses], truth: Truth, *, at_least: int = 1) -> dict[str, Any]:
    """Score labels against a truth table, over the studies that both name.

    Args:
        labels: study id → statuses. A study whose id differs from the table's only by the `<source>:` in
            front is the same one.
        truth: the table, see `corpus.truth.read_truth`.
        at_least: a finding enters the micro and macro averages when the whole table holds at least so many
            positives of it. Parents and `no_finding` are listed, and enter no average: metrics count leaves.

    Returns:
        `studies` (how many were compared), `findings` (name → `tp`, `fp`, `fn`, `positives` in the compared
        studies, `precision`, `recall`, `f1`), `averaged` (the names in the averages), `micro` and `macro`
        (`precision`, `recall`, `f1`). A ratio with nothing below the line is 0.

    Raises:
        CorpusError: the table names none of the studies.
    """
    table = {
        study_id: {name: said[name] is Status.PRESENT for name in truth.findings if name in said}
        for study_id, said in truth.statuses.items()
    }
    bare = {study_id.partition(":")[2] or study_id: said for study_id, said in table.items()}
    compared = [
        (statuses, said)
        for study_id, statuses in labels.items()
        if (said := table.get(study_id, bare.get(study_id.partition(":")[2] or study_id))) is not None
    ]
    if not compared:
        raise CorpusError("the truth table names none of the labelled studies")
    named = [name for name in VOCABULARY.names if name in truth.findings]
    counts = {name: _count(name, compared) for name in named}
    averaged = [
        name
        for name in named
        if name in VOCABULARY.leaves and sum(said.get(name, False) for said in table.values()) >= at_least
    ]
    scores = {name: _ratios(*counts[name]) for name in named}
    return {
        "studies": len(compared),
        "findings": {
            name: {"tp": tp, "fp": fp, "fn": fn, "positives": tp + fn, **scores[name]}
            for name, (tp, fp, fn) in counts.items()
        },
        "averaged": averaged,
        "micro": _ratios(*(sum(counts[name][side] for name in averaged) for side in range(3))),
        "macro": {
            key: _mean(scores[name][key] for name in averaged) for key in ("precision", "recall", "f1")
        },
    }


def _count(name: str, compared: Iterable[tuple[Statuses, Mapping[str, bool]]]) -> tuple[int, int, int]:
    """True positives, false positives and false negatives of one finding."""
    tp = fp = fn = 0
    for statuses, said in compared:
        if name not in said:
            continue
        labelled = statuses.get(name) is Status.PRESENT
        tp += labelled and said[name]
        fp += labelled and not said[name]
        fn += said[name] and not labelled
    return tp, fp, fn


def _ratios(tp: int, fp: int, fn: int) -> dict[str, float]:
    """Precision, recall and their harmonic mean."""
    return {
        "precision": tp / (tp + fp) if tp + fp else 0.0,
        "recall": tp / (tp + fn) if tp + fn else 0.0,
        "f1": 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 0.0,
    }


def _mean(values: Iterable[float]) -> float:
    held = list(values)
    return sum(held) / len(held) if held else 0.0
