"""The score of the validation split, by which epochs are compared."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from corpus.findings import Statuses
from trainer.evaluation.scoring import score_vectors


@dataclass(frozen=True, slots=True)
class Score:
    """Scores of the validation split, images as queries, reports as gallery; None if not measurable.

    `value`: the criterion of the best epoch: nDCG@10, plus the macro lift@5 where it can be measured (a
    classifier of normal and abnormal alone already has a high nDCG).
    """

    precision_at_1: float | None
    lift_at_5: float | None
    ndcg_at_10: float | None

    @property
    def value(self) -> float | None:
        """The criterion by which epochs are compared."""
        return None if self.ndcg_at_10 is None else self.ndcg_at_10 + (self.lift_at_5 or 0.0)


def score_validation(
    images: NDArray[np.float32],
    texts: NDArray[np.float32],
    image_statuses: Sequence[Statuses],
    text_statuses: Sequence[Statuses],
) -> Score:
    """Score (n, dim) unit image rows against (m, dim) unit text rows."""
    scores = score_vectors(images, texts, image_statuses, text_statuses, draws=0, baselines=False)
    return Score(scores["precision_at"]["1"], scores["lift_at_5"]["macro"], scores["ndcg_at_10"])
