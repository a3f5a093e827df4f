"""Latency of SAM refinement: the first call on an image, and later calls.

    python -m benchmarks.sam

Weights are random: the architecture decides the time, except that random weights draw masks all over the
image, which take longer to resize to a large image than those of a finding. The first call embeds the
image; later calls read the cached embedding and run prompt encoder and decoder only. Beside them the random
walker. The last column is processor time, all cores together, which matters on a busy machine.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from segment_anything import sam_model_registry

from benchmarks.machine import describe_machine
from retrieval.localize.refine.embedding_cache import EmbeddingCache
from retrieval.localize.refine.random_walker import RandomWalkerRefiner
from retrieval.localize.refine.refiner import Refiner
from retrieval.localize.refine.regions import boxes_of
from retrieval.localize.refine.sam import SamRefiner
from retrieval.localize.refine.sam_checkpoint import Checkpoint, TinyVitEncoder, assemble

SIZES = ((512, 512), (1024, 1024), (2500, 2048))
ROUNDS = 15


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", help="not used: images are drawn")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    models = {"ViT-B": sam_model_registry["vit_b"](), "MobileSAM": assemble(TinyVitEncoder())}
    table = Table(title="milliseconds per answer, two regions, boxes as prompts")
    for heading in ("", "image", "first", "cached p50", "cached p95", "processor time"):
        table.add_column(heading, justify="left" if heading in ("", "image") else "right")
    with tempfile.TemporaryDirectory() as scratch:
        for name, model in models.items():
            checkpoint = Checkpoint(model.eval().requires_grad_(False), name, medical=False)
            cache = EmbeddingCache(name, (256, 64, 64), folder=Path(scratch))
            for size in SIZES:
                table.add_row(name, *_measured(SamRefiner(checkpoint, name, cache=cache), size))
        for size in SIZES:
            table.add_row("random walker", *_measured(RandomWalkerRefiner(), size))
    Console().print(table)
    print(describe_machine())


def _measured(refiner: Refiner, size: tuple[int, int]) -> list[str]:
    radiograph, heat = _image(size)
    times, spent = [], []
    for _ in range(ROUNDS + 1):
        began, busy = time.perf_counter(), time.process_time()
        mask = heat > 0.5
        refiner.refine(radiograph, heat, mask, boxes_of(mask))
        times.append(1000 * (time.perf_counter() - began))
        spent.append(1000 * (time.process_time() - busy))
    first, later = times[0], sorted(times[1:])
    p95 = later[min(len(later) - 1, round(0.95 * len(later)))]
    return [
        f"{size[0]} × {size[1]}",
        *(f"{ms:,.0f}" for ms in (first, statistics.median(later), p95, statistics.median(spent[1:]))),
    ]


def _image(size: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return an image of noise, and a map with two regions."""
    height, width = size
    rows, columns = np.mgrid[:height, :width]
    heat = np.zeros(size, np.float32)
    for row, column in ((0.3, 0.3), (0.6, 0.7)):
        away = ((rows / height - row) ** 2 + (columns / width - column) ** 2) / 0.1**2
        heat = np.maximum(heat, np.exp(-away)).astype(np.float32)
    radiograph = np.random.default_rng(0).random(size, np.float32)
    return radiograph, heat


if __name__ == "__main__":
    main()
