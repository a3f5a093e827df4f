"""The life of a process that reads pictures for the service: what others sent is decoded here, and only here.

It imports the corpus room, holds no key and no database, and (but on Windows) may write to no file and take
no more memory than a large film needs. What it answers is numbers and JSON, never a pickle: a decoder that
was taken over can make its pictures wrong, and no more.
"""

import io
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from corpus.errors import ExportError, NotAdmitted, SimilarityError
from corpus.files import read_bytes
from corpus.images.reader import read_image
from corpus.worker import Answer
from retrieval.export.source import source_of
from retrieval.query.image import Picture, decode_picture, read_picture

_MEMORY_BYTES = 4 << 30
_PNG_SPEED = 1  # zlib level: a film is sent once, over a fast line


def work(setup: Mapping[str, Any]) -> Answer:
    """Get a worker ready: `setup` holds the most `pixels` of an image that was sent.

    A task's header is `op` and its arguments, its body the file that was sent, if one was.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _limit()
    return lambda task, body: _answer(task, bytes(body), int(setup["pixels"]))


def _limit() -> None:
    """Write to no file and take no more memory than a large film needs, where the system sees to it."""
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(ValueError, OSError):  # a lower limit may stand already
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))


def _answer(task: dict[str, Any], body: bytes, most: int) -> tuple[dict[str, Any], bytes]:
    try:
        if task["op"] == "decode":
            return _told(decode_picture(body, task["name"], most))
        if task["op"] == "read":
            return _told(read_picture(task["location"]))
        if task["op"] == "source":
            return source_of(body or read_bytes(task["location"]), task["name"]).as_json(), b""
        sent = "location" not in task
        pixels = decode_picture(body, task["name"], most).pixels if sent else read_image(task["location"])
        height, width = pixels.shape
        return {"height": height, "width": width}, png(pixels, task)
    except NotAdmitted as error:
        return {"error": str(error), "state": "not-admitted"}, b""
    except ExportError as error:
        return {"error": str(error), "state": "no-source"}, b""
    except SimilarityError as error:
        return {"error": str(error), "state": "unreadable"}, b""
    except Exception as error:  # whatever a decoder raises, it concerns this picture alone
        return {"error": f"the picture cannot be read ({type(error).__name__})", "state": "unreadable"}, b""


def _told(picture: Picture) -> tuple[dict[str, Any], bytes]:
    height, width = picture.pixels.shape
    told = {
        "height": height,
        "width": width,
        "content": picture.content,
        "patient": None if picture.patient is None else asdict(picture.patient),
        "dicom": picture.dicom,
        "spacing": None if picture.spacing is None else asdict(picture.spacing),
        "notes": picture.notes,
    }
    return told, np.ascontiguousarray(picture.pixels, np.float32).tobytes()


def png(pixels: NDArray[np.float32], task: dict[str, Any]) -> bytes:
    """A picture as a grey PNG.

    Args:
        pixels: (height, width) float32 in [0, 1].
        task: `low`, `high`: grey values that become black and white; `longest`: pixels of the longer side, or
            null; `depth`: 8 or 16 bits.
    """
    low, high, longest = float(task["low"]), float(task["high"]), task["longest"]
    if longest is not None and longest < max(pixels.shape):
        scale = longest / max(pixels.shape)
        size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
        shrunk = Image.fromarray(pixels).resize(size, Image.Resampling.BOX, reducing_gap=2.0)
        pixels = np.asarray(shrunk)
    windowed = np.clip((pixels - low) / (high - low), 0.0, 1.0)
    if task["depth"] == 16:
        picture = Image.fromarray(np.rint(windowed * 65535).astype(np.uint16))
    else:
        picture = Image.fromarray(np.rint(windowed * 255).astype(np.uint8))
    written = io.BytesIO()
    picture.save(written, "PNG", compress_level=_PNG_SPEED)
    return written.getvalue()
