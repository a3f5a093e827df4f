"""Many vectors distributed like real ones: with random directions a search graph has low recall, which tells
nothing about real use."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


def real_vectors(data: Path) -> tuple[Vectors, Vectors]:
    """Return (1000, 512) unit vectors each, of real radiology figures and of their captions."""
    folder = data / "roco-embeddings"
    images = np.load(folder / "val_image_embeddings.npy").astype(np.float32)
    texts = np.load(folder / "val_text_embeddings.npy").astype(np.float32)
    return images, texts


def spread(real: Vectors, count: int, seed: int = 0) -> Vectors:
    """Make `count` unit vectors: each a real one, mixed with another plus a little noise."""
    rng = np.random.default_rng(seed)
    share = np.asarray(rng.uniform(0.5, 1.0, (count, 1)), dtype=np.float32)
    near, far = real[rng.integers(0, len(real), count)], real[rng.integers(0, len(real), count)]
    vectors = share * near + (1 - share) * far
    vectors += np.asarray(rng.normal(0, 0.01, vectors.shape), dtype=np.float32)
    unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit
