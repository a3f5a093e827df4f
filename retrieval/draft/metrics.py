"""Metrics of drafts: findings against a table, words against the radiologists' reports.

Findings are compared as sets of present leaf findings, so that a draft is scored by its own statements and
not by a labeler's reading of it. Words are compared by BLEU (Papineni et al. 2002, sacrebleu) and ROUGE-L
(Lin 2004).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corpus.errors import UsageError
from corpus.redaction import redacted
from corpus.statistics import BOOTSTRAP_DRAWS, draw_subjects, interval95

RADCLIQ_INPUTS = ("radgraph_f1", "bertscore", "chexbert_cosine", "bleu_2")
"""The inputs of RadCliQ-v1, in its order."""
_MEAN = np.array([0.53792312, 0.61757256, 0.76479421, 0.44738335])
_SCALE = np.array([0.30282584, 0.22430938, 0.25394391, 0.29892717])
_WEIGHT = np.array([-0.37708368, -0.37030010, -0.25261622, 0.0])


@redacted
@dataclass(frozen=True, slots=True)
class DraftClaims:
    """The present findings that a draft claims, and the true ones. Drafts of a subject are drawn together."""

    subject: str
    claimed: frozenset[str]
    true: frozenset[str]


@dataclass(frozen=True, slots=True)
class FindingScore:
    """Micro-averaged over drafts, in [0, 1]. `ci95`: of F1, by bootstrap over subjects."""

    precision: float
    recall: float
    f1: float
    ci95: tuple[float, float]

    def as_json(self) -> dict[str, Any]:
        """The contract's form."""
        return {
            "precision": round(self.precision, 4),
            "recall": round(self.recall, 4),
            "f1": round(self.f1, 4),
            "ci95": [round(bound, 4) for bound in self.ci95],
        }


def score_findings(
    claims: Sequence[DraftClaims], *, draws: int = BOOTSTRAP_DRAWS, seed: int = 0
) -> FindingScore:
    """Score the findings that drafts claim.

    Args:
        claims: of the drafts; at least one.
        draws: of the bootstrap over subjects.
        seed: of the draws; the same for every system, so that their draws are paired.
    """
    counts = _counts(claims)
    total = counts.sum(axis=0)
    low, high = interval95(_f1(_draw(counts, draws, seed))) or (0.0, 0.0)
    tp, fp, fn = map(float, total)
    return FindingScore(
        tp / max(tp + fp, 1.0), tp / max(tp + fn, 1.0), float(_f1(total[None])[0]), (low, high)
    )


def difference(
    ours: Sequence[DraftClaims], other: Sequence[DraftClaims], *, draws: int = BOOTSTRAP_DRAWS, seed: int = 0
) -> tuple[float, tuple[float, float]]:
    """F1 of ours minus the other's, and its 95 % interval, paired over subjects.

    Args:
        ours: drafts of some images.
        other: another system's drafts of the same images, in the same order.
        draws: of the bootstrap.
        seed: of the draws.
    """
    mine, theirs = _counts(ours), _counts(other)
    low, high = interval95(_f1(_draw(mine, draws, seed)) - _f1(_draw(theirs, draws, seed))) or (0.0, 0.0)
    whole = float(_f1(mine.sum(axis=0)[None])[0] - _f1(theirs.sum(axis=0)[None])[0])
    return whole, (low, high)


def score_words(drafts: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """BLEU and ROUGE-L of drafts against the radiologists' reports, in [0, 1].

    Args:
        drafts: the drafts' texts; an empty one scores nothing.
        references: the reports, in the same order.
    """
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics import BLEU

    if not drafts:
        return {}
    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    overlap = [
        scorer.score(reference, draft)["rougeL"].fmeasure
        for draft, reference in zip(drafts, references, strict=True)
    ]
    bleu, bleu_2 = (
        BLEU(max_ngram_order=order).corpus_score(list(drafts), [list(references)]).score / 100
        for order in (4, 2)
    )
    return {"bleu": float(bleu), "bleu_2": float(bleu_2), "rouge_l": float(np.mean(overlap))}


def radcliq(inputs: Mapping[str, float]) -> float:
    """RadCliQ-v1 (Yu et al., Patterns 2023) from its published coefficients; lower is better.

    Args:
        inputs: a number for each of `RADCLIQ_INPUTS`, from the tools of their authors.

    Raises:
        UsageError: one is missing.
    """
    missing = [name for name in RADCLIQ_INPUTS if name not in inputs]
    if missing:
        raise UsageError(f"RadCliQ-v1 needs {', '.join(RADCLIQ_INPUTS)}; missing are {', '.join(missing)}")
    given = np.array([inputs[name] for name in RADCLIQ_INPUTS])
    return float(_WEIGHT @ ((given - _MEAN) / _SCALE))


def _counts(claims: Sequence[DraftClaims]) -> NDArray[np.float64]:
    """(subjects, 3) true positives, false positives and misses of each subject, in the order of their ids."""
    of: dict[str, NDArray[np.float64]] = {}
    for one in sorted(claims, key=lambda draft: draft.subject):
        both = len(one.claimed & one.true)
        row = np.array([both, len(one.claimed) - both, len(one.true) - both], dtype=np.float64)
        of[one.subject] = of.get(one.subject, np.zeros(3)) + row
    return np.stack(list(of.values()))


def _draw(counts: NDArray[np.float64], draws: int, seed: int) -> NDArray[np.float64]:
    """Sums over subjects drawn with replacement, (draws, 3)."""
    return draw_subjects(np.arange(len(counts)), draws, seed) @ counts


def _f1(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    tp, fp, fn = sums[:, 0], sums[:, 1], sums[:, 2]
    return np.asarray(2 * tp / np.maximum(2 * tp + fp + fn, 1.0))
