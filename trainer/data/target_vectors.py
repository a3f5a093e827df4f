"""What every item of a run is compared by: its findings, its findings with place and degree, or its words.

The likeness of two items is then that of their vectors (`trainer.data.targets.label_similarity`).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from corpus.findings import Status, Statuses
from corpus.language.concepts import concepts
from trainer.data.items import Pool
from trainer.data.prompts import describe
from trainer.data.targets import TargetConfig, finding_vectors
from trainer.data.word_vectors import word_vectors

Vectors = NDArray[np.float32]

_QUALITIES = ("side", "zone", "degree")


def target_vectors(pool: Pool, config: TargetConfig) -> tuple[Vectors, Vectors]:
    """Vectors of a pool's pictures and of its texts, (n, d) and (m, d) float32, by `config.of`.

    `findings` and `concepts` read a picture's statuses, and `concepts` the place and degree that its own
    report tells, where it has one. `embedding` reads the words of texts and of pictures' own reports; a
    picture without a report is put into words by its findings first, as image-only sets need it.
    """
    if config.of == "embedding":
        in_words = [picture.told or in_prompts(picture.statuses) for picture in pool.pictures]
        vectors = word_vectors([*in_words, *(text.text for text in pool.texts)])
        return vectors[: len(in_words)], vectors[len(in_words) :]
    pictures = finding_vectors([picture.statuses for picture in pool.pictures], config)
    texts = finding_vectors([text.statuses for text in pool.texts], config)
    if config.of == "findings":
        return pictures, texts
    places = [
        [_concept_columns(picture.told, config) for picture in pool.pictures],
        [_concept_columns(text.text, config) for text in pool.texts],
    ]
    names = {
        name: column for column, name in enumerate(sorted({n for side in places for c in side for n in c}))
    }
    return (
        np.concatenate([pictures, _rows(places[0], names)], axis=1),
        np.concatenate([texts, _rows(places[1], names)], axis=1),
    )


def _concept_columns(text: str | None, config: TargetConfig) -> dict[str, float]:
    """`pleural_effusion side right` → weight, for every concept that a text affirms or holds possible."""
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
    """Findings in words, always the same ones."""
    return describe(statuses, np.random.default_rng(0))
