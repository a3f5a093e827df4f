"""How well a run does on the people held out for tuning, after each epoch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from corpus.findings import Statuses
from trainer.evaluation.scoring import score_vectors


@dataclass(frozen=True, slots=True)
class Score:
    """Picture → report on the held-out people; None where there is too little to measure.

    `value` is what the best epoch has most of: nDCG@10, plus the macro lift@5 where it can be measured
    (nDCG alone is content with telling normal from abnormal).
    """

    precision_at_1: float | None
    lift_at_5: float | None
    ndcg_at_10: float | None

    @property
    def value(self) -> float | None:
        """The number that epochs are compared by."""
        return None if self.ndcg_at_10 is None else self.ndcg_at_10 + (self.lift_at_5 or 0.0)


def score_held_out(
    pictures: NDArray[np.float32],
    texts: NDArray[np.float32],
    picture_statuses: Sequence[Statuses],
    text_statuses: Sequence[Statuses],
) -> Score:
    """Score (n, dim) unit picture rows against (m, dim) unit text rows."""
    scores = score_vectors(pictures, texts, picture_statuses, text_statuses, draws=0, baselines=False)
    return Score(scores["precision_at"]["1"], scores["lift_at_5"]["macro"], scores["ndcg_at_10"])
