"""The towers of an encoder run by ONNX Runtime: the exported graphs of its folder, without torch.

`trainer.models.graphs` exports them. A graph takes letterboxed images or token ids; it normalises pixels and
results itself.
"""

import os
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from corpus.errors import EncoderError
from trainer.runtime.encoder_folder import IMAGE_GRAPH, PATCH_GRAPH, TEXT_GRAPH

Vectors = NDArray[np.float32]

FRAMED, TOKENS = "framed", "tokens"
"""Names of the graphs' inputs: (n, side, side) float32 in [0, 1], and (n, length) int64."""
IMAGES, PATCHES, BACKBONE, TEXTS = "images", "patches", "backbone", "texts"
"""Names of their outputs, as the methods of `GraphTowers` return them."""

CPU = "cpu"
_SUFFIX = "ExecutionProvider"
# A GPU would round to ten bits of mantissa, and its vectors would differ from those of a CPU.
_OPTIONS = {"CUDAExecutionProvider": {"use_tf32": "0"}}


class GraphTowers:
    """The exported graphs of an encoder folder. Threads may share it; a graph is loaded when first used.

    `has_patches`: whether the image tower has a feature map, so that there are patches.

    Args:
        folder: an encoder folder with graphs that were verified.
        providers: execution providers of ONNX Runtime by name, in order of preference; `cuda` is short for
            `CUDAExecutionProvider`. What none of them computes runs on the CPU.

    Raises:
        EncoderError: the installed ONNX Runtime has no such provider.
    """

    def __init__(self, folder: Path, providers: Sequence[str] = (CPU,)) -> None:
        chosen = choose_providers(providers)
        self.has_patches = (folder / PATCH_GRAPH).is_file()
        self._image, self._patch, self._text = (
            _late(partial(_session, folder / graph, chosen))
            for graph in (IMAGE_GRAPH, PATCH_GRAPH, TEXT_GRAPH)
        )

    def images(self, framed: Vectors) -> Vectors:
        """(n, side, side) in [0, 1] → (n, dim) unit rows."""
        return _run(self._image(), {FRAMED: np.ascontiguousarray(framed, np.float32)}, IMAGES)[0]

    def patches(self, framed: Vectors) -> Vectors:
        """(n, side, side) in [0, 1] → (n, gh, gw, dim), unit along dim.

        Raises:
            EncoderError: the network has no feature map to project.
        """
        return self._of_map(framed, PATCHES)[0]

    def images_and_patches(self, framed: Vectors) -> tuple[Vectors, Vectors]:
        """What `images` and `patches` return, in one run of a graph.

        Raises:
            EncoderError: as `patches`.
        """
        images, patches = self._of_map(framed, IMAGES, PATCHES)
        return images, patches

    def backbone(self, framed: Vectors) -> Vectors:
        """(n, side, side) in [0, 1] → (n, channels): the backbone's last feature map, averaged.

        Raises:
            EncoderError: as `patches`.
        """
        return self._of_map(framed, BACKBONE)[0]

    def texts(self, tokens: NDArray[np.int64]) -> Vectors:
        """(n, length) token ids, padded → (n, dim) unit rows."""
        return _run(self._text(), {TOKENS: tokens}, TEXTS)[0]

    def _of_map(self, framed: Vectors, *outputs: str) -> list[Vectors]:
        if not self.has_patches:
            raise EncoderError(
                "these graphs hold no patches: the image tower is no timm network, or an earlier export left "
                "them out; `similarity encoders export --force` makes graphs anew"
            )
        return _run(self._patch(), {FRAMED: np.ascontiguousarray(framed, np.float32)}, *outputs)


def _run(session: Any, inputs: dict[str, NDArray[Any]], *outputs: str) -> list[Vectors]:
    rows: list[Vectors] = session.run(list(outputs), inputs)
    return rows


def choose_providers(names: Sequence[str]) -> list[str | tuple[str, dict[str, str]]]:
    """Execution providers by name, with their options, as ONNX Runtime takes them.

    Raises:
        EncoderError: the installed ONNX Runtime has no such provider; lists those that it has.
    """
    available = {_short(name): name for name in onnxruntime.get_available_providers()}
    unknown = [name for name in names if _short(name) not in available]
    if unknown:
        raise EncoderError(
            f"the installed ONNX Runtime has no execution provider {unknown[0]!r}; it has "
            f"{', '.join(available)} (SIMILARITY_EXECUTION_PROVIDERS)"
        )
    full = [available[_short(name)] for name in names]
    return [(name, _OPTIONS[name]) if name in _OPTIONS else name for name in full]


def thread_count() -> int:
    """Threads of a graph: OMP_NUM_THREADS, which bounds torch as well, else the cores of this process."""
    bound = os.environ.get("OMP_NUM_THREADS", "")
    if bound.isdecimal() and int(bound):
        return int(bound)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _short(name: str) -> str:
    return name.removesuffix(_SUFFIX).lower()


def _session(graph: Path, providers: list[str | tuple[str, dict[str, str]]]) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = thread_count()
    options.inter_op_num_threads = 1
    # Waiting threads would spin: a short text on two cores took twice the processor time, and not less time.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors; it warns of every initialiser that it removes
    try:
        session = onnxruntime.InferenceSession(str(graph), options, providers=providers)
    except Exception as error:  # its exceptions have no common class
        reason = " ".join(str(error).split())[:300]
        raise EncoderError(f"ONNX Runtime cannot load {graph}: {reason}") from error
    names = [provider if isinstance(provider, str) else provider[0] for provider in providers]
    lost = [name for name in names if name not in session.get_providers()]
    if lost:  # it would compute on the CPU instead, and only log that
        raise EncoderError(
            f"ONNX Runtime has {lost[0]}, but cannot start it: look at its libraries and at "
            "SIMILARITY_EXECUTION_PROVIDERS"
        )
    return session


def _late(load: Callable[[], Any]) -> Callable[[], Any]:
    """A function that loads at its first call, once for all threads."""
    lock = threading.Lock()
    loaded: list[Any] = []

    def get() -> Any:
        with lock:
            if not loaded:
                loaded.append(load())
            return loaded[0]

    return get
