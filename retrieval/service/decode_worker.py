"""The decode worker: a process that reads images for the service. Uploads are decoded here and nowhere else.

The process has no key and no database, and (except on Windows) may write to no file and take no more memory
than a large radiograph needs. It answers with numbers and JSON, never with a pickle: an attacker who takes
over a decoder can falsify its images and no more.
"""

import io
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from corpus.errors import ExportError, NotAdmitted, SimilarityError
from corpus.files import read_bytes
from corpus.images.reader import read_image
from corpus.worker import Answer
from retrieval.export.source import source_of
from retrieval.query.image import QueryImage, decode_query_image, read_query_image

_MEMORY_BYTES = 4 << 30
_PNG_SPEED = 1  # zlib level: an image is sent once, over a fast line


def work(setup: Mapping[str, Any]) -> Answer:
    """Prepare the process and return what answers a task.

    Args:
        setup: `pixels`, the most that an uploaded image may have.

    A task's header is `op` with its arguments; its body is the uploaded file, if there is one.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _limit_resources()
    return lambda task, body: _answer(task, bytes(body), int(setup["pixels"]))


def _limit_resources() -> None:
    """Forbid writing to files and bound the memory, where the system enforces it."""
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(ValueError, OSError):  # a lower limit may be set already
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))


def _answer(task: dict[str, Any], body: bytes, most_pixels: int) -> tuple[dict[str, Any], bytes]:
    try:
        if task["op"] == "decode":
            return _serialized(decode_query_image(body, task["name"], most_pixels))
        if task["op"] == "read":
            return _serialized(read_query_image(task["location"]))
        if task["op"] == "source":
            return source_of(body or read_bytes(task["location"]), task["name"]).as_json(), b""
        if "location" in task:
            pixels = read_image(task["location"])
        else:
            pixels = decode_query_image(body, task["name"], most_pixels).pixels
        height, width = pixels.shape
        return {"height": height, "width": width}, png(pixels, task)
    except NotAdmitted as error:
        return {"error": str(error), "state": "not-admitted"}, b""
    except ExportError as error:
        return {"error": str(error), "state": "no-source"}, b""
    except SimilarityError as error:
        return {"error": str(error), "state": "unreadable"}, b""
    except Exception as error:  # whatever a decoder raises concerns this image only
        return {"error": f"the image cannot be read ({type(error).__name__})", "state": "unreadable"}, b""


def _serialized(image: QueryImage) -> tuple[dict[str, Any], bytes]:
    height, width = image.pixels.shape
    header = {
        "height": height,
        "width": width,
        "content": image.content,
        "patient": None if image.patient is None else asdict(image.patient),
        "dicom": image.dicom,
        "spacing": None if image.spacing is None else asdict(image.spacing),
        "notes": image.notes,
    }
    return header, np.ascontiguousarray(image.pixels, np.float32).tobytes()


def png(pixels: NDArray[np.float32], task: dict[str, Any]) -> bytes:
    """Encode an image as a grey PNG.

    Args:
        pixels: (height, width) float32 in [0, 1].
        task: `low`, `high`: grey values that become black and white; `longest`: pixels of the longer side, or
            None for full size; `depth`: 8 or 16 bits.
    """
    low, high, longest = float(task["low"]), float(task["high"]), task["longest"]
    if longest is not None and longest < max(pixels.shape):
        scale = longest / max(pixels.shape)
        size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
        shrunk = PIL.Image.fromarray(pixels).resize(size, PIL.Image.Resampling.BOX, reducing_gap=2.0)
        pixels = np.asarray(shrunk)
    windowed = np.clip((pixels - low) / (high - low), 0.0, 1.0)
    if task["depth"] == 16:
        grey = PIL.Image.fromarray(np.rint(windowed * 65535).astype(np.uint16))
    else:
        grey = PIL.Image.fromarray(np.rint(windowed * 255).astype(np.uint8))
    written = io.BytesIO()
    grey.save(written, "PNG", compress_level=_PNG_SPEED)
    return written.getvalue()
