"""Zero-shot classification: images classified by prompts, without training on labels.

A class is the mean of the unit vectors of its affirmed prompts, contrasted with the mean of its denied
prompts (prompt ensembles as in CLIP, arXiv 2103.00020, section 3.1.4, and CheXzero, for the contrast of the
two).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corpus.findings import NO_FINDING, Status
from corpus.statistics import BOOTSTRAP_DRAWS, draw_subjects, interval95, unit_rows
from trainer.data.prompts import prompt_sentences
from trainer.evaluation.gallery import Embedder, Encoded
from trainer.evaluation.labels import CLASSES, LEAVES, Labels
from trainer.evaluation.metrics import MIN_QUERIES
from trainer.evaluation.scoring import Contrasts, score_classes


@dataclass(frozen=True, slots=True)
class Prompts:
    """The classes (`CLASSES`) as vectors: `affirmed` and `denied`, (C, dim) float32 unit rows each.

    The denied vector of `no_finding` is the mean of the affirmed vectors of the findings.
    """

    affirmed: NDArray[np.float32]
    denied: NDArray[np.float32]


def embed_prompts(embedder: Embedder) -> Prompts:
    """Encode the prompts of every class.

    Raises:
        EncoderError: the encoder encodes no text.
    """
    affirmed, denied = (
        {name: _ensemble(embedder, prompt_sentences(name, status)) for name in names}
        for names, status in ((CLASSES, Status.PRESENT), (LEAVES, Status.ABSENT))
    )
    denied[NO_FINDING] = unit_rows(np.mean([affirmed[name] for name in LEAVES], axis=0))
    return Prompts(*(np.stack([side[name] for name in CLASSES]) for side in (affirmed, denied)))


def _ensemble(embedder: Embedder, sentences: Sequence[str]) -> NDArray[np.float32]:
    return unit_rows(embedder.encode_texts(sentences).mean(axis=0))


def score_zero_shot(
    images: Encoded, embedder: Embedder, *, seed: int = 0, draws: int = BOOTSTRAP_DRAWS
) -> dict[str, Any]:
    """Classify images by prompts and score it.

    Each class is asked by itself, which AUROC scores (`scoring.score_classes`), in two ways: `affirmed`, how
    near an image is to the affirmed prompts, and `contrasted`, how much nearer it is to them than to the
    denied ones. Reports deny findings of normal radiographs, so that the contrast tells normal from abnormal
    better than it tells findings apart; `auroc_abnormal` shows it. Where an image shows exactly one finding,
    the classes are also weighed against each other: the nearest affirmed prompts win, which accuracy scores.

    Args:
        images: encoded items with their statuses.
        embedder: the encoder of the vectors; it encodes the prompts.
        seed: of the bootstrap.
        draws: bootstrap draws over subjects.

    Returns:
        "pictures", "affirmed" and "contrasted" (results of `score_classes`), and "single_finding"
        (`score_single_findings`).

    Raises:
        EncoderError: the encoder encodes no text.
    """
    prompts = embed_prompts(embedder)
    statuses = [item.statuses for item in images.items]
    subjects = np.array([item.study.subject_id for item in images.items])
    contrasts = Contrasts.of(statuses)
    near = images.vectors @ prompts.affirmed.T
    far = images.vectors @ prompts.denied.T
    return {
        "pictures": len(images.items),
        "affirmed": score_classes(near, contrasts, subjects, seed=seed, draws=draws),
        "contrasted": score_classes(near - far, contrasts, subjects, seed=seed, draws=draws),
        "single_finding": score_single_findings(near, Labels.of(statuses), subjects, seed=seed, draws=draws),
    }


def score_single_findings(
    scores: NDArray[Any],
    labels: Labels,
    subjects: NDArray[Any],
    *,
    seed: int = 0,
    draws: int = BOOTSTRAP_DRAWS,
) -> dict[str, Any] | None:
    """Score the classification of images with exactly one finding (as in CheXpert-5x200).

    Args:
        scores: (n, C) over `CLASSES`; the class with the highest score is the prediction.
        labels: of the n images.
        subjects: (n,) the subject of each image.
        seed: of the bootstrap.
        draws: bootstrap draws over subjects.

    Returns:
        The `classes` (findings with at least ten such images) with their counts and recalls, the number of
        "pictures" in them, `accuracy` and `balanced_accuracy` (the mean recall, in a draw over the classes
        of the draw) with `ci95` each, and `largest_class`, the accuracy of always predicting the most common
        finding. None with fewer than two classes.
    """
    truth = labels.classes
    counts = np.bincount(truth[(truth >= 0) & (truth < len(LEAVES))], minlength=len(LEAVES))
    included = np.flatnonzero(counts >= MIN_QUERIES)
    if len(included) < 2:
        return None
    chosen = np.isin(truth, included)
    right = included[scores[np.ix_(chosen, included)].argmax(axis=1)] == truth[chosen]
    of_class = truth[chosen][:, None] == included
    subject_index = np.unique(subjects[chosen], return_inverse=True)[1]
    drawn = draw_subjects(subjects[chosen], draws, seed)[:, subject_index]
    weights = np.concatenate([np.ones((1, len(right))), drawn])
    hits, totals = weights @ (of_class & right[:, None]), weights @ of_class
    recalls = np.divide(hits, totals, out=np.full_like(hits, np.nan), where=totals > 0)
    accuracy, balanced = hits.sum(axis=1) / totals.sum(axis=1), np.nanmean(recalls, axis=1)
    return {
        "pictures": len(right),
        "classes": [
            {"finding": CLASSES[position], "pictures": int(counts[position]), "recall": float(recall)}
            for position, recall in zip(included, recalls[0], strict=True)
        ],
        "accuracy": float(accuracy[0]),
        "accuracy_ci95": interval95(accuracy[1:]),
        "balanced_accuracy": float(balanced[0]),
        "balanced_accuracy_ci95": interval95(balanced[1:]),
        "largest_class": float(counts[included].max() / counts[included].sum()),
    }
