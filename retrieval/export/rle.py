"""Masks as run lengths: COCO's uncompressed form, which pycocotools and every annotation tool reads.

Runs follow the columns from top to bottom, left to right, and alternate between outside and inside, outside
first (COCO's "Data format", annotation `segmentation`).
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corpus.errors import UsageError


def encode_runs(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Return `{"size": [height, width], "counts": [outside, inside, …]}` of a (height, width) bool mask."""
    flat = np.asarray(mask, dtype=np.bool_).ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    borders = [0, *changes.tolist(), flat.size]
    counts = [after - before for before, after in pairwise(borders)]
    starts_inside = bool(flat.size and flat[0])
    return {"size": list(mask.shape), "counts": [0, *counts] if starts_inside else counts}


def decode_runs(runs: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Return the (height, width) mask that `encode_runs` encoded.

    Raises:
        UsageError: the runs do not fill a mask of that size.
    """
    try:
        height, width = (int(side) for side in runs["size"])
        counts = np.asarray(runs["counts"], dtype=np.int64)
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError('a mask in run lengths is {"size": [height, width], "counts": […]}') from error
    if counts.ndim != 1 or (counts < 0).any() or counts.sum() != height * width:
        raise UsageError(f"the run lengths do not fill a mask of {height} × {width} pixels")
    inside = np.arange(counts.size) % 2 == 1
    return np.repeat(inside, counts).reshape((height, width), order="F")
