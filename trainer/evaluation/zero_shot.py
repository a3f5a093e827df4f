"""Zero-shot classification: pictures told by sentences alone, no picture's label being learned from.

Each class is the mean of the unit vectors of its affirmed prompts and, against it, that of its denied ones
(prompt ensembles as in CLIP, arXiv 2103.00020, section 3.1.4, and CheXzero, for the contrast of the two).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corpus.findings import NO_FINDING, Status
from trainer.data.prompts import prompt_sentences
from trainer.evaluation.gallery import Embedder, Encoded
from trainer.evaluation.labels import CLASSES, LEAVES, Labels
from trainer.evaluation.metrics import MIN_QUERIES, draw_people
from trainer.evaluation.scoring import BOOTSTRAP_DRAWS, Contrasts, interval, score_classes


@dataclass(frozen=True, slots=True)
class Prompts:
    """The classes (`CLASSES`) as vectors: `affirmed` and `denied`, (C, dim) float32 unit rows each.

    What denies `no_finding` is the mean of what affirms the findings.
    """

    affirmed: NDArray[np.float32]
    denied: NDArray[np.float32]


def embed_prompts(embedder: Embedder) -> Prompts:
    """Encode the prompts of every class.

    Raises:
        EncoderError: the encoder reads no text.
    """
    affirmed, denied = (
        {name: _ensemble(embedder, prompt_sentences(name, status)) for name in names}
        for names, status in ((CLASSES, Status.PRESENT), (LEAVES, Status.ABSENT))
    )
    denied[NO_FINDING] = _unit(np.mean([affirmed[name] for name in LEAVES], axis=0))
    return Prompts(*(np.stack([side[name] for name in CLASSES]) for side in (affirmed, denied)))


def _ensemble(embedder: Embedder, sentences: Sequence[str]) -> NDArray[np.float32]:
    return _unit(embedder.encode_texts(sentences).mean(axis=0))


def _unit(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    return vector / max(float(np.linalg.norm(vector)), 1e-12)


def score_zero_shot(
    pictures: Encoded, embedder: Embedder, *, seed: int = 0, draws: int = BOOTSTRAP_DRAWS
) -> dict[str, Any]:
    """Classify pictures by prompts and score it.

    Each class is asked by itself, which AUROC scores (`scoring.score_classes`), in two ways: `affirmed`, how
    near a picture is to the affirmed prompts, and `contrasted`, how much nearer it is to them than to the
    denied ones. Reports deny findings of normal films, so that the contrast tells normal from abnormal better
    than it tells findings apart; `auroc_abnormal` shows it. Where a picture shows exactly one finding, the
    classes are also weighed against each other: the nearest affirmed prompts win, which accuracy scores.

    Args:
        pictures: encoded items with their statuses.
        embedder: encodes the prompts; the encoder that made the vectors.
        seed: of the bootstrap.
        draws: bootstrap draws over people.

    Returns:
        `pictures`, `affirmed` and `contrasted` (results of `score_classes`), and `single_finding`
        (`score_single_findings`).

    Raises:
        EncoderError: the encoder reads no text.
    """
    prompts = embed_prompts(embedder)
    statuses = [item.statuses for item in pictures.items]
    subjects = np.array([item.study.subject_id for item in pictures.items])
    contrasts = Contrasts.of(statuses)
    near = pictures.vectors @ prompts.affirmed.T
    far = pictures.vectors @ prompts.denied.T
    return {
        "pictures": len(pictures.items),
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
    """Score which finding a picture shows, among pictures that show exactly one (as CheXpert-5x200's do).

    Args:
        scores: (n, C) over `CLASSES`; the highest of those that enter wins.
        labels: of the n pictures.
        subjects: (n,) the person behind each.
        seed: of the bootstrap.
        draws: bootstrap draws over people.

    Returns:
        The `classes` that enter (findings with at least ten such pictures) with their counts and recalls,
        `pictures` in them, `accuracy` and `balanced_accuracy` (the mean recall, in a draw over the classes
        that it holds) with `ci95` each, and `largest_class`, the accuracy of naming the commonest finding
        every time. None where fewer than two classes enter.
    """
    truth = labels.classes
    counts = np.bincount(truth[(truth >= 0) & (truth < len(LEAVES))], minlength=len(LEAVES))
    entering = np.flatnonzero(counts >= MIN_QUERIES)
    if len(entering) < 2:
        return None
    chosen = np.isin(truth, entering)
    right = entering[scores[np.ix_(chosen, entering)].argmax(axis=1)] == truth[chosen]
    of_class = truth[chosen][:, None] == entering
    person = np.unique(subjects[chosen], return_inverse=True)[1]
    drawn = draw_people(subjects[chosen], draws, seed)[:, person]
    weights = np.concatenate([np.ones((1, len(right))), drawn])
    hits, asked = weights @ (of_class & right[:, None]), weights @ of_class
    recalls = np.divide(hits, asked, out=np.full_like(hits, np.nan), where=asked > 0)
    accuracy, balanced = hits.sum(axis=1) / asked.sum(axis=1), np.nanmean(recalls, axis=1)
    return {
        "pictures": len(right),
        "classes": [
            {"finding": CLASSES[place], "pictures": int(counts[place]), "recall": float(recall)}
            for place, recall in zip(entering, recalls[0], strict=True)
        ],
        "accuracy": float(accuracy[0]),
        "accuracy_ci95": interval(accuracy[1:]),
        "balanced_accuracy": float(balanced[0]),
        "balanced_accuracy_ci95": interval(balanced[1:]),
        "largest_class": float(counts[entering].max() / counts[entering].sum()),
    }
