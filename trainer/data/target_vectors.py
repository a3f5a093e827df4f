"""Target vectors of items: findings, findings with laterality, zone and severity, or words.

The target similarity of two items is that of their vectors (`trainer.data.targets.label_similarity`).
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from corpus.errors import TrainingError
from corpus.findings import Status, Statuses
from corpus.language.concepts import concepts
from corpus.statistics import unit_rows
from trainer.data.items import Pool
from trainer.data.prompts import describe
from trainer.data.targets import TargetConfig, finding_vectors

Vectors = NDArray[np.float32]

WORDS = 2048
"""The largest number of different words, those in most texts first."""
DIM = 128

_WORD = re.compile(r"[^\W\d_]{2,}")
_CHUNK = 4096  # texts at once: the counts of a large corpus do not fit into memory
_QUALITIES = ("side", "zone", "degree")


def target_vectors(pool: Pool, config: TargetConfig) -> tuple[Vectors, Vectors]:
    """Vectors of a pool's images and of its texts, (n, d) and (m, d) float32, by `config.of`.

    `findings` uses the statuses of items. `concepts` adds laterality, zone and severity from their reports.
    `embedding` uses the words of texts and of the images' reports; for an image without a report, words are
    made from its findings (`trainer.data.prompts`).
    """
    if config.of == "embedding":
        reports = [image.report_text or in_prompts(image.statuses) for image in pool.images]
        vectors = word_vectors([*reports, *(text.text for text in pool.texts)])
        return vectors[: len(reports)], vectors[len(reports) :]
    images = finding_vectors([image.statuses for image in pool.images], config)
    texts = finding_vectors([text.statuses for text in pool.texts], config)
    if config.of == "findings":
        return images, texts
    weights = [
        [_concept_columns(image.report_text, config) for image in pool.images],
        [_concept_columns(text.text, config) for text in pool.texts],
    ]
    names = {
        name: column for column, name in enumerate(sorted({n for items in weights for c in items for n in c}))
    }
    return (
        np.concatenate([images, _rows(weights[0], names)], axis=1),
        np.concatenate([texts, _rows(weights[1], names)], axis=1),
    )


def _concept_columns(text: str | None, config: TargetConfig) -> dict[str, float]:
    """Column name, such as `pleural_effusion side right`, → weight, for each present or uncertain concept."""
    value = {Status.PRESENT: config.present, Status.UNCERTAIN: config.uncertain}
    columns: dict[str, float] = {}
    for concept in concepts(text) if text else ():
        for quality in _QUALITIES:
            word = getattr(concept, quality)
            if word is not None and concept.status in value:
                name = f"{concept.finding} {quality} {word}"
                columns[name] = max(columns.get(name, 0.0), config.place * value[concept.status])
    return columns


def _rows(items: Sequence[dict[str, float]], names: dict[str, int]) -> Vectors:
    rows = np.zeros((len(items), len(names)), np.float32)
    for row, item in zip(rows, items, strict=True):
        for name, weight in item.items():
            row[names[name]] = weight
    return rows


def in_prompts(statuses: Statuses) -> str:
    """A text made from findings, the same for the same findings."""
    return describe(statuses, np.random.default_rng(0))


def word_vectors(texts: Sequence[str], dim: int = DIM) -> NDArray[np.float32]:
    """Word vectors of n texts by latent semantic analysis (Deerwester et al. 1990) of these texts.

    Counts of words, damped by a logarithm and weighted by inverse document frequency (tf-idf), are reduced to
    the directions of the largest variance. No network, no download, a second for thousands of reports.
    Negation is not modelled: "no effusion" and "effusion" lie close.

    Args:
        texts: any; an empty one, or one without a known word, becomes a row of zeros.
        dim: dimensions, fewer where the texts span fewer.

    Returns:
        (n, d) float32 unit rows, d ≤ dim.

    Raises:
        TrainingError: the texts have no two words in common.
    """
    frequency: Counter[str] = Counter()
    for text in texts:
        frequency.update(set(_words(text)))
    known = [word for word, count in frequency.most_common(WORDS) if count > 1]
    if not known:
        raise TrainingError("the texts have no word in common: there is nothing to embed them by")
    columns = {word: column for column, word in enumerate(known)}
    rarity = np.log((1 + len(texts)) / (1 + np.array([frequency[word] for word in known]))) + 1
    gram = np.zeros((len(known), len(known)))
    for rows in _counted(texts, columns, rarity):
        gram += rows.T @ rows
    spread, directions = np.linalg.eigh(gram)
    basis = directions[:, np.flatnonzero(spread > 1e-9 * spread[-1])[-dim:]]
    return np.concatenate(
        [unit_rows(rows @ basis).astype(np.float32) for rows in _counted(texts, columns, rarity)]
    )


def _counted(
    texts: Sequence[str], columns: dict[str, int], rarity: NDArray[np.float64]
) -> Iterator[NDArray[np.float64]]:
    """Unit tf-idf rows, a chunk of texts at a time."""
    for start in range(0, len(texts), _CHUNK):
        some = texts[start : start + _CHUNK]
        rows = np.zeros((len(some), len(columns)))
        for row, text in zip(rows, some, strict=True):
            for word, count in Counter(_words(text)).items():
                if word in columns:
                    row[columns[word]] = 1 + np.log(count)
        yield unit_rows(rows * rarity).astype(np.float32).astype(np.float64)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())
