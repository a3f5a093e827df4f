"""The grey of stored DICOM values, as an array."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from corpus.dicom.display import Note, to_plane


def to_grey(stored: NDArray[Any], dataset: Dataset, note: Note = lambda clause: None) -> NDArray[np.float32]:
    """(height, width) float32 in [0, 1]."""
    return to_plane(stored, dataset, note).pixels()
