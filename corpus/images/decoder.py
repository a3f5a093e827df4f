"""Decoding one image for an encoder, in this process or as the life of a worker.

A worker imports the corpus room alone, neither torch nor a database.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from corpus.errors import CorpusError, NotAdmitted, SimilarityError
from corpus.geometry import Framing
from corpus.images.reader import load_image
from corpus.worker import Answer, give_way


@dataclass(frozen=True, slots=True)
class Decoded:
    """An image ready for the encoder.

    `content`: hash of its pixels (64 hex). `framed`: (size, size) float32 in [0, 1]. `shape`: (height, width)
    of the image as read. `seconds`: time it took. `notes`: as of `corpus.images.reader.ImageRead`.
    """

    content: str
    framed: NDArray[np.float32]
    shape: tuple[int, int]
    seconds: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Undecoded:
    """An image that could not be read, and why."""

    state: Literal["failed", "skipped"]
    reason: str


Outcome = Decoded | Undecoded


def decode(location: str, framing: Framing) -> Outcome:
    """Read one image and put it into the encoder's square."""
    start = time.perf_counter()
    try:
        image = load_image(location)
        framed = framing.apply(image.pixels)
    except NotAdmitted as error:
        return Undecoded("skipped", str(error))
    except (CorpusError, SimilarityError) as error:
        return Undecoded("failed", str(error))
    except Exception as error:  # whatever a decoder raises, it concerns this image alone
        return Undecoded("failed", f"it cannot be read ({type(error).__name__})")
    height, width = image.pixels.shape
    return Decoded(image.content, framed, (height, width), time.perf_counter() - start, image.notes)


def work(setup: Mapping[str, Any]) -> Answer:
    """Get a worker ready: `setup` holds the framing's `size`; a message names a `location`."""
    framing = Framing(int(setup["size"]))
    give_way()  # the encoder's thread goes first: a decoded image can wait
    return lambda task, _: _message(decode(task["location"], framing))


def _message(outcome: Outcome) -> tuple[Mapping[str, Any], bytes | memoryview]:
    if isinstance(outcome, Undecoded):
        return {"state": outcome.state, "reason": outcome.reason}, b""
    told = {
        "content": outcome.content,
        "shape": outcome.shape,
        "seconds": outcome.seconds,
        "notes": outcome.notes,
    }
    return told, np.ascontiguousarray(outcome.framed, np.float32).tobytes()


def outcome_of(told: Mapping[str, Any], framed: bytearray, framing: Framing) -> Outcome:
    """What a worker's answer says."""
    if "state" in told:
        return Undecoded(told["state"], told["reason"])
    height, width = told["shape"]
    pixels = np.frombuffer(framed, np.float32).reshape(framing.size, framing.size)
    return Decoded(told["content"], pixels, (height, width), told["seconds"], tuple(told["notes"]))
