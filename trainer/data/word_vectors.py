"""Light embeddings of texts: which words they hold, in some hundred numbers, learned from the texts alone.

Latent semantic analysis (Deerwester et al. 1990): counts of words, damped by a logarithm and weighed by how
few texts hold them (tf-idf), brought down to the directions in which texts differ most. No network, no
download, a second for thousands of reports. It knows words and not what they deny: "no effusion" and
"effusion" lie close.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from corpus.errors import TrainingError

WORDS = 2048
"""At most so many different words are looked at, those in most texts first."""
DIM = 128

_WORD = re.compile(r"[^\W\d_]{2,}")
_CHUNK = 4096  # texts at once, so that a large corpus never stands in memory as counts


def word_vectors(texts: Sequence[str], dim: int = DIM) -> NDArray[np.float32]:
    """Embed n texts.

    Args:
        texts: what to embed; an empty one, or one without a known word, becomes a row of zeros.
        dim: numbers a text, fewer where the texts have fewer directions.

    Returns:
        (n, d) float32 unit rows, d ≤ dim.

    Raises:
        TrainingError: the texts have no two words in common.
    """
    held: Counter[str] = Counter()
    for text in texts:
        held.update(set(_words(text)))
    known = [word for word, count in held.most_common(WORDS) if count > 1]
    if not known:
        raise TrainingError("the texts have no word in common: there is nothing to embed them by")
    place = {word: column for column, word in enumerate(known)}
    rarity = np.log((1 + len(texts)) / (1 + np.array([held[word] for word in known]))) + 1
    gram = np.zeros((len(known), len(known)))
    for rows in _counted(texts, place, rarity):
        gram += rows.T @ rows
    spread, directions = np.linalg.eigh(gram)
    kept = directions[:, np.flatnonzero(spread > 1e-9 * spread[-1])[-dim:]]
    return np.concatenate([_unit(rows @ kept) for rows in _counted(texts, place, rarity)])


def _counted(
    texts: Sequence[str], place: dict[str, int], rarity: NDArray[np.float64]
) -> Iterator[NDArray[np.float64]]:
    """Unit tf-idf rows, a chunk of texts at a time."""
    for start in range(0, len(texts), _CHUNK):
        some = texts[start : start + _CHUNK]
        rows = np.zeros((len(some), len(place)))
        for row, text in zip(rows, some, strict=True):
            for word, count in Counter(_words(text)).items():
                if word in place:
                    row[place[word]] = 1 + np.log(count)
        yield _unit(rows * rarity).astype(np.float64)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    units = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)
    return np.asarray(units, np.float32)
