"""Export the towers of an encoder folder as ONNX graphs, which ONNX Runtime runs without torch.

Only torch's dynamo exporter is used: the tracing one gives wrong text vectors with transformers 5, without a
word. Each graph is compared with torch before it is accepted, on phantoms: drawn radiographs and their
reports, in several batch sizes and lengths.
"""

import importlib.util
import json
import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from corpus.errors import EncoderError
from corpus.files import READABLE, write_whole
from corpus.geometry import Framing
from corpus.phantom import describe, render, scene
from corpus.statistics import unit_rows
from trainer.models.download import alone
from trainer.runtime import encoder_folder as files
from trainer.runtime.clip_model import read_model
from trainer.runtime.encoder import Towers
from trainer.runtime.feature_maps import feature_grid, patch_features, project_map, timm_tower
from trainer.runtime.graph_towers import BACKBONE, FRAMED, IMAGES, PATCHES, TEXTS, TOKENS, GraphTowers
from trainer.runtime.multilevel import MultiLevel
from trainer.runtime.tokens import WindowTokenizer, read_own_tokenizer
from trainer.runtime.torch_towers import TorchTowers

logger = logging.getLogger(__name__)

INSTALL = "pip install 'similarity-engine[train]'"
LARGEST_DIFFERENCE = 1e-6
"""The most that 1 − cosine may be between a vector of a graph and torch's."""

_NEEDED = ("onnx", "onnxscript", "onnxruntime")
_SCRATCH = ".graphs."
_OPSET = 20  # the first with GELU as one operator
_BATCHES = (1, 2, 7)
_MOST_ITEMS = 1 << 16
_LOGGERS = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")


def add_graphs(folder: Path, *, force: bool = False) -> bool:
    """Export the graphs of an encoder folder that lacks them, or has them damaged.

    Args:
        folder: an encoder folder.
        force: export them also where they are complete.

    Returns:
        Whether they were exported; False where they were complete.

    Raises:
        EncoderError: the folder is incomplete or edited, or cannot be written; a package is missing; or a
            graph cannot be exported, or does not give torch's vectors: names the graph.
    """
    if not force and _complete(files.verify(folder, graphs=False), folder):  # a folder that is only read
        return False
    with alone(folder):
        record = files.verify(folder, graphs=False)
        if not force and _complete(record, folder):
            return False
        try:
            for abandoned in folder.glob(f"{_SCRATCH}*"):  # of an export that was killed
                shutil.rmtree(abandoned)
            with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=folder) as scratch:
                made = write_graphs(folder, Path(scratch))
                # First a record without graphs: whenever this is interrupted, torch can run the folder.
                _write_record(folder, {name: part for name, part in record.items() if name != "graphs"})
                if (folder / files.GRAPHS).exists():
                    (folder / files.GRAPHS).rename(Path(scratch) / "replaced")
                (Path(scratch) / files.GRAPHS).rename(folder / files.GRAPHS)
                _write_record(folder, {**record, "graphs": made})
        except OSError as error:
            raise EncoderError(f"the graphs cannot be written to {folder}: {error}") from error
    return True


def _write_record(folder: Path, record: Mapping[str, Any]) -> None:
    content = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    write_whole(folder / files.RECORD, content.encode(), mode=READABLE)


def _complete(record: Mapping[str, Any], folder: Path) -> bool:
    if not files.listed_graphs(record):
        return False
    try:
        files.verify_graphs(folder, record)
    except EncoderError:
        return False
    return True


def write_graphs(folder: Path, into: Path) -> dict[str, str]:
    """Export the towers of an encoder folder, and compare each graph with torch.

    Args:
        folder: with configuration, weights and tokenizer; its record is not read.
        into: the folder in which `graphs/` is made.

    Returns:
        SHA-256 of each file, by its path within the encoder folder.

    Raises:
        EncoderError: a package is missing; or a graph cannot be exported, or does not give torch's vectors:
            names the graph.
        OSError: the disk is full.
    """
    missing = [package for package in _NEEDED if importlib.util.find_spec(package) is None]
    if missing:
        raise EncoderError(f"the export of graphs needs {', '.join(missing)}: {INSTALL}")
    try:
        return _write_graphs(folder, into)
    except (EncoderError, OSError):
        raise
    except Exception as error:  # tokenizers, onnx and ONNX Runtime have no common class of errors
        reason = " ".join(str(error).split())[:300]
        raise EncoderError(f"the graphs cannot be exported: {type(error).__name__}: {reason}") from error


def _write_graphs(folder: Path, into: Path) -> dict[str, str]:
    config = files.read_json(folder / files.CONFIG)
    (into / files.GRAPHS).mkdir()
    if not config["model_cfg"]["text_cfg"].get("hf_tokenizer_name"):
        read_own_tokenizer(folder).save(str(into / files.OWN_TOKENIZER))
    side = int(np.max(config["model_cfg"]["vision_cfg"]["image_size"]))
    tokenizer = WindowTokenizer.of_folder(folder)
    images, tokens = _check_images(side), list(_check_tokens(tokenizer))
    towers = TorchTowers(read_model(folder, config), config["preprocess_cfg"], torch.device("cpu"))
    with _quiet():
        _write_image_graphs(towers, images[:2], into)
        _write_text_graph(towers.model, tokenizer, into / files.TEXT_GRAPH)
        exported = GraphTowers(into)
        _compare_images(towers, exported, images)
        _compare_texts(towers, exported, tokens)
    return {
        f"{files.GRAPHS}/{path.name}": files.hash_file(path)
        for path in sorted((into / files.GRAPHS).iterdir())
    }


class _ImageGraph(nn.Module):
    """Letterboxed images to unit vectors and, with `maps`, patch vectors and backbone features."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, towers: TorchTowers, maps: bool) -> None:
        super().__init__()
        self.model: Any = towers.model
        self.maps = maps
        self.register_buffer("mean", towers.mean)
        self.register_buffer("std", towers.std)

    def forward(self, framed: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(n, side, side) → (n, dim), (n, gh, gw, dim), (n, channels)."""
        pixels = (framed.unsqueeze(1) - self.mean) / self.std
        if not self.maps:
            return (F.normalize(self.model.encode_image(pixels), dim=-1),)
        visual, backbone = timm_tower(self.model)
        if isinstance(backbone, MultiLevel):
            levels = backbone.levels(pixels)
            features, averaged = backbone.neck(levels), levels.mean(dim=(2, 3))
        else:
            features = backbone.forward_features(pixels)
            averaged = feature_grid(backbone, features).mean(dim=(1, 2))
        vectors = visual.head(backbone.forward_head(features))
        patches = project_map(visual, features)
        return F.normalize(vectors, dim=-1), F.normalize(patches, dim=-1), averaged


class _TextGraph(nn.Module):
    """Token ids to unit vectors."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(n, length) → (n, dim)."""
        return F.normalize(self.model.encode_text(tokens), dim=-1)


def _write_image_graphs(towers: TorchTowers, images: NDArray[np.float32], folder: Path) -> None:
    """Write the graph of image vectors and, where the tower has a feature map, that of its patches.

    ONNX Runtime computes every node of a graph, whatever is fetched, so there are two. The smaller one is
    extracted from the other, and both read one file of weights.
    """
    batch = torch.export.Dim("batch", min=1, max=_MOST_ITEMS)
    sample = torch.from_numpy(images)
    if not _has_map(towers, images):
        _export(_ImageGraph(towers, False), sample, folder / files.IMAGE_GRAPH, FRAMED, [IMAGES], {0: batch})
        return
    outputs = [IMAGES, PATCHES, BACKBONE]
    _export(_ImageGraph(towers, True), sample, folder / files.PATCH_GRAPH, FRAMED, outputs, {0: batch})
    import onnx  # late: needed for an export only
    from onnx.utils import Extractor

    whole = onnx.load(str(folder / files.PATCH_GRAPH), load_external_data=False)
    onnx.save(Extractor(whole).extract_model([FRAMED], [IMAGES]), str(folder / files.IMAGE_GRAPH))


def _has_map(towers: TorchTowers, images: NDArray[np.float32]) -> bool:
    """Whether the image tower has a feature map with patches that can be projected."""
    try:
        with torch.inference_mode():
            patch_features(towers.model, towers.inputs(images))
    except EncoderError:
        return False
    return True


def _write_text_graph(model: nn.Module, tokenizer: WindowTokenizer, path: Path) -> None:
    tokens = torch.from_numpy(tokenizer.pad([window for (window,) in tokenizer.windows(["edema", "a b"])]))
    sizes = {0: torch.export.Dim("batch", min=1, max=_MOST_ITEMS)}
    if not tokenizer.whole:
        sizes[1] = torch.export.Dim("length", min=1, max=tokenizer.context_length)
    _export(_TextGraph(model), tokens, path, TOKENS, [TEXTS], sizes)


def _export(
    module: nn.Module,
    sample: torch.Tensor,
    path: Path,
    name: str,
    outputs: Sequence[str],
    sizes: Mapping[int, Any],
) -> None:
    """Write a module as `path`, with its weights in a file beside it, which ONNX Runtime maps."""
    try:
        program: Any = torch.onnx.export(
            module.eval(),
            (sample,),
            dynamo=True,
            opset_version=_OPSET,
            input_names=[name],
            output_names=list(outputs),
            dynamic_shapes=(sizes,),
            verbose=False,
        )
        for node in program.model.graph.all_nodes():
            node.metadata_props.clear()  # traces of the source, with paths of this machine
        program.save(str(path), external_data=True)
    except OSError:
        raise
    except Exception as error:  # torch and onnxscript raise many kinds for one cause
        reason = " ".join(str(error).split())[:300]
        raise EncoderError(f"{path.name} cannot be exported: {type(error).__name__}: {reason}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the remarks of the exporter on its own progress and on deprecated functions."""
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    for name in levels:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _check_images(side: int) -> NDArray[np.float32]:
    """(7, side, side): letterboxed phantoms of several aspects, one inverted, and one of noise."""
    drawn = [render(scene(0, number)) for number in range(6)]
    drawn[1], drawn[2], drawn[3] = drawn[1][:, 40:200], drawn[2][60:200], 1 - drawn[3]
    drawn.append(np.random.default_rng(0).random((side, side), dtype=np.float32))
    framing = Framing(side)
    return np.stack([framing.apply(image) for image in drawn]).astype(np.float32)


def _check_tokens(tokenizer: WindowTokenizer) -> Iterator[NDArray[np.int64]]:
    """Batches of windows of reports: alone, of several lengths together, and as long as the context."""
    reports = [describe(scene(0, number)).text for number in range(4)]
    texts = ["Cardiomegaly.", "No pleural effusion or pneumothorax.", *reports, " ".join(reports)]
    windows = sorted((window for found in tokenizer.windows(texts) for window in found), key=len)
    for count in _BATCHES:
        yield tokenizer.pad([windows[n] for n in np.linspace(0, len(windows) - 1, count).astype(int)])
    yield from (tokenizer.pad([window]) for window in (windows[len(windows) // 2], windows[-1]))


def _compare_images(expected: Towers, exported: GraphTowers, images: NDArray[np.float32]) -> None:
    for count in _BATCHES:
        some = images[-count:]
        _compare(expected.images(some), exported.images(some), files.IMAGE_GRAPH)
        if exported.has_patches:
            _compare(expected.patches(some), exported.patches(some), f"{files.PATCH_GRAPH} ({PATCHES})")
            _compare(expected.backbone(some), exported.backbone(some), f"{files.PATCH_GRAPH} ({BACKBONE})")


def _compare_texts(expected: Towers, exported: GraphTowers, batches: Sequence[NDArray[np.int64]]) -> None:
    for tokens in batches:
        _compare(expected.texts(tokens), exported.texts(tokens), files.TEXT_GRAPH)


def _compare(expected: NDArray[np.float32], exported: NDArray[np.float32], graph: str) -> None:
    """Refuse a graph where 1 − cosine of a row, which is half the squared distance of unit rows, is large."""
    if expected.shape != exported.shape:
        raise EncoderError(f"{graph} gives rows of shape {exported.shape}, torch {expected.shape}; refused")
    ours, theirs = (unit_rows(rows.astype(np.float64)) for rows in (exported, expected))
    largest = float(np.max(0.5 * np.square(ours - theirs).sum(axis=-1)))
    if not largest <= LARGEST_DIFFERENCE:  # NaN is refused as well
        raise EncoderError(
            f"{graph} does not give torch's vectors: cosine {1 - largest:.9f}, at least "
            f"{1 - LARGEST_DIFFERENCE} is needed; the graph is refused"
        )
