"""Images per second and milliseconds per text query of one core: torch beside ONNX Runtime, same weights.

    python -m benchmarks.inference --data ../shared/data
    python -m benchmarks.inference --encoder runs/real

Without `--encoder` the shape `mobilenetv2-minilm` is measured, with random weights. The image tower of torch
has its channels last. Both runtimes take turns, and the shortest of the rounds counts.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe_machine
from corpus.geometry import Framing
from corpus.phantom import render, scene

SHAPE = "mobilenetv2-minilm"
BATCH = 8
LENGTHS = (8, 32, 64)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", help="not needed: phantoms are encoded")
    parser.add_argument("--encoder", type=Path, help="an encoder folder with exported graphs")
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # read by both runtimes when they load
    with tempfile.TemporaryDirectory() as scratch:
        measure(options.encoder or untrained(Path(scratch) / "untrained"), options.rounds)
    Console().print(describe_machine())


def untrained(folder: Path) -> Path:
    """Export an encoder of the shape with random weights."""
    import torch

    from trainer.models.architecture import find_architecture
    from trainer.models.export import export_encoder
    from trainer.train.towers import build_towers

    torch.manual_seed(0)
    shape = find_architecture(SHAPE)
    towers = build_towers(shape, texts=lambda: ["no pleural effusion"])
    return export_encoder(towers.model, towers.tokenizer, shape, {}, folder, graphs=True)


def measure(folder: Path, rounds: int) -> None:
    """Print a table of both runtimes."""
    import torch

    from trainer.runtime.encoder import Encoder
    from trainer.runtime.graph_towers import GraphTowers

    torch.set_num_threads(1)
    encoder = Encoder.load(folder, "cpu")
    if not isinstance(encoder.towers, GraphTowers):
        raise SystemExit(f"{folder} has no graphs: run similarity encoders export {folder}")
    graphs, plain = encoder.towers, encoder.torch_towers()
    framing = Framing(encoder.image_size)
    images = np.stack([framing.apply(render(scene(0, n))) for n in range(BATCH)]).astype(np.float32)
    table = Table(title=f"{encoder.name}: one core, {encoder.image_size} px, shortest of {rounds} rounds")
    for column in ("work", "torch", "ONNX Runtime", "ratio", "largest 1 − cosine"):
        table.add_column(column, justify="right")
    slow, fast = turns(partial(plain.images, images), partial(graphs.images, images), rounds)
    table.add_row(
        f"images/s, batches of {BATCH}",
        f"{BATCH / slow:.1f}",
        f"{BATCH / fast:.1f}",
        f"{slow / fast:.2f}",
        f"{difference(plain.images(images), graphs.images(images)):.1e}",
    )
    slow, fast = turns(partial(graphs.patches, images), partial(graphs.images, images), rounds)
    table.add_row("patch vectors, as times of image vectors", "", f"{slow / fast:.2f}", "", "")
    for length in LENGTHS:
        tokens = np.random.default_rng(length).integers(5, 40, (1, length))
        text, graph_text = plain.texts(tokens), graphs.texts(tokens)
        slow, fast = turns(partial(plain.texts, tokens), partial(graphs.texts, tokens), rounds * 5)
        table.add_row(
            f"ms, a text of {length} tokens",
            f"{slow * 1e3:.2f}",
            f"{fast * 1e3:.2f}",
            f"{slow / fast:.2f}",
            f"{difference(text, graph_text):.1e}",
        )
    Console().print(table)


def turns(one: Callable[[], object], other: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Return the shortest processor seconds of each of two calls that take turns, after one round unmeasured.

    Processor time, not the clock's: on a machine that others use as well it is what the call took.
    """
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds + 1):
        for call, taken in zip((one, other), seconds, strict=True):
            start = time.process_time()
            call()
            taken.append(time.process_time() - start)
    return min(seconds[0][1:]), min(seconds[1][1:])


def difference(left: NDArray[np.float32], right: NDArray[np.float32]) -> float:
    """Return the largest 1 − cosine of paired unit rows, in double precision."""
    return float((0.5 * np.square(left.astype(np.float64) - right).sum(axis=1)).max())


if __name__ == "__main__":
    main()
