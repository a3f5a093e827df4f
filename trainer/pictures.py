"""The pictures of a run, decoded once: framed to the network's square, 8 bits a pixel, in one file.

Decoding is done in processes of its own, which import no torch. A picture that cannot be read is reported and
left out.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from corpus.errors import NotAdmitted, TrainingError, UnreadableImage
from corpus.framing import Framing
from corpus.images import read_image
from corpus.records import ItemState, Problem, ProblemSink
from trainer.dataset import Picture

Pixels = NDArray[np.uint8]

Tick = Callable[[int, int], None]
"""Called with (items done, items in all)."""

_FEW = 128  # so many are decoded sooner than a process starts


def read_framed(framing: Framing, location: str) -> Pixels | tuple[ItemState, str]:
    """Decode and frame one picture to (size, size) uint8, or say why that cannot be."""
    try:
        return np.asarray(np.rint(framing.apply(read_image(location)) * 255), np.uint8)
    except NotAdmitted as error:
        return "skipped", str(error)
    except (UnreadableImage, OSError) as error:
        return "failed", str(error)


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
        for place, (picture, framed) in enumerate(decoded):
            tick(place + 1, len(pictures))
            if isinstance(framed, tuple):
                on_problem(Problem(picture.item_id, framed[0], framed[1], picture.location))
            else:
                pixels[len(read)] = framed
                read.append(place)
        pixels.flush()
    except OSError as error:
        raise TrainingError(f"the decoded pictures cannot be kept in {file}: {error}") from error
    if pictures and not read:
        raise TrainingError(f"none of the {len(pictures)} pictures can be read; the problems say why")
    return read


def _decoded(
    pictures: Sequence[Picture], framing: Framing, workers: int
) -> Iterator[Pixels | tuple[ItemState, str]]:
    read = partial(read_framed, framing)
    locations = [picture.location for picture in pictures]
    workers = workers or os.cpu_count() or 1
    if len(locations) <= _FEW or workers == 1:
        yield from map(read, locations)
        return
    try:
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            yield from pool.map(read, locations, chunksize=16)
    except BrokenProcessPool as error:
        raise TrainingError(
            "a decode process died: out of memory, or a script that trains at its top level (guard it with "
            "`if __name__ == '__main__'`); `workers = 1` decodes without processes"
        ) from error
