"""The image cache of a run: images decoded once and letterboxed, 8 bits a pixel, in one file.

Separate processes decode, without importing torch. An unreadable image is reported and skipped.
"""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from corpus.errors import TrainingError
from corpus.geometry import Framing
from corpus.images.decoder import DecodePool, Outcome, Undecoded
from corpus.progress import OnProgress, silent
from corpus.records import Problem, ProblemSink
from trainer.data.items import ImageItem

Pixels = NDArray[np.uint8]

_FEW = 128  # images decoded in less time than a process takes to start
_AHEAD = 8  # decoded images per process that may wait to be written: they must not fill the memory


def decode(
    images: Sequence[ImageItem],
    framing: Framing,
    file: Path,
    on_problem: ProblemSink,
    *,
    workers: int = 0,
    on_progress: OnProgress = silent,
) -> list[int]:
    """Decode images into a file of (n, size, size) uint8, one after the other.

    Args:
        images: what to read.
        framing: the network's square.
        file: where the pixels go; replaced.
        on_problem: called with every unreadable image.
        workers: decode processes; 0 for one per core.
        on_progress: called with the stage `decode`, the images done and the images in all.

    Returns:
        The indices in `images` of the readable ones: the i-th of them is row i of the file; the rows after
        the last are empty.

    Raises:
        TrainingError: no image is readable, or the disk is full.
    """
    shape = (len(images), framing.size, framing.size)
    try:
        pixels = np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=shape)
        read: list[int] = []
        decoded = zip(images, _decoded(images, framing, workers), strict=True)
        for index, (image, outcome) in enumerate(decoded):
            on_progress("decode", index + 1, len(images), "images")
            if isinstance(outcome, Undecoded):
                on_problem(Problem(image.item_id, outcome.state, outcome.reason, image.location))
            else:
                pixels[len(read)] = np.rint(outcome.framed * 255)
                read.append(index)
        pixels.flush()
    except OSError as error:
        raise TrainingError(f"the decoded images cannot be written to {file}: {error}") from error
    if images and not read:
        raise TrainingError(f"none of the {len(images)} images can be read; the problems say why")
    return read


def _decoded(images: Sequence[ImageItem], framing: Framing, workers: int) -> Iterator[Outcome]:
    workers = workers or os.cpu_count() or 1
    few = len(images) <= _FEW or workers == 1
    ahead = 1 if few else _AHEAD * workers
    waiting: deque[Future[Outcome]] = deque()
    with DecodePool(framing, 0 if few else workers) as pool:
        for image in images:
            if len(waiting) == ahead:
                yield waiting.popleft().result()
            waiting.append(pool.submit(image.location))
        while waiting:
            yield waiting.popleft().result()
