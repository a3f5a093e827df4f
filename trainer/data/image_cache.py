"""The pictures of a run, decoded once: framed to the network's square, 8 bits a pixel, in one file.

Decoding is done in processes of its own, which import no torch. A picture that cannot be read is reported and
left out.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from corpus.errors import TrainingError
from corpus.geometry import Framing
from corpus.images.decode_pool import DecodePool
from corpus.images.decoder import Outcome, Undecoded
from corpus.records import Problem, ProblemSink
from trainer.data.items import Picture

Pixels = NDArray[np.uint8]

Tick = Callable[[int, int], None]
"""Called with (items done, items in all)."""

_FEW = 128  # so many are decoded sooner than a process starts
_AHEAD = 8  # pictures a process that wait to be written: what is decoded must not fill the memory


def decode(
    pictures: Sequence[Picture],
    framing: Framing,
    file: Path,
    on_problem: ProblemSink,
    *,
    workers: int = 0,
    tick: Tick = lambda done, total: None,
) -> list[int]:
    """Decode pictures into a file of (n, size, size) uint8, one after the other.

    Args:
        pictures: what to read.
        framing: the network's square.
        file: where the pixels go; replaced.
        on_problem: gets every picture that cannot be read.
        workers: decode processes; 0 for one a core.
        tick: called with (pictures done, pictures in all).

    Returns:
        The places in `pictures` of those that could be read: the i-th of them has the file's row i, and the
        rows after the last are empty.

    Raises:
        TrainingError: none can be read, or the disk does not take the pixels.
    """
    shape = (len(pictures), framing.size, framing.size)
    try:
        pixels = np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=shape)
        read: list[int] = []
        decoded = zip(pictures, _decoded(pictures, framing, workers), strict=True)
        for place, (picture, outcome) in enumerate(decoded):
            tick(place + 1, len(pictures))
            if isinstance(outcome, Undecoded):
                on_problem(Problem(picture.item_id, outcome.state, outcome.reason, picture.location))
            else:
                pixels[len(read)] = np.rint(outcome.framed * 255)
                read.append(place)
        pixels.flush()
    except OSError as error:
        raise TrainingError(f"the decoded pictures cannot be kept in {file}: {error}") from error
    if pictures and not read:
        raise TrainingError(f"none of the {len(pictures)} pictures can be read; the problems say why")
    return read


def _decoded(pictures: Sequence[Picture], framing: Framing, workers: int) -> Iterator[Outcome]:
    workers = workers or os.cpu_count() or 1
    few = len(pictures) <= _FEW or workers == 1
    ahead = 1 if few else _AHEAD * workers
    waiting: deque[Future[Outcome]] = deque()
    with DecodePool(framing, 0 if few else workers) as pool:
        for picture in pictures:
            if len(waiting) == ahead:
                yield waiting.popleft().result()
            waiting.append(pool.submit(picture.location))
        while waiting:
            yield waiting.popleft().result()
