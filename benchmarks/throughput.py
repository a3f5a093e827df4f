"""Training throughput: images per second of whole steps beside bare forward and backward passes.

    python -m benchmarks.throughput --data ../shared/data

Bare: the same towers, batch and loss on prepared tensors, in the same run, rounds in turn. Whole: a step of
the trainer with pixels, tokens, targets, clipping and the optimizer. With --batch it takes one step of that
many images in chunks of --chunk instead, and prints the process's peak memory.
"""

import argparse
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe_machine
from corpus.progress import silent
from trainer.runtime.device import choose_device
from trainer.train.config import TrainConfig
from trainer.train.config_file import read_config
from trainer.train.losses import SemanticMatchingLoss
from trainer.train.preparation import prepare
from trainer.train.run import Training
from trainer.train.state import open_run

ROUNDS, STEPS = 5, 3


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--models", type=Path, help="default: models beside the data")
    parser.add_argument("--arch", default="mobilenetv2-minilm")
    parser.add_argument("--batch", type=int, default=0, help="one step of this many images, for its memory")
    parser.add_argument("--chunk", type=int, default=64, help="images per chunk of that step")
    options = parser.parse_args()
    models = options.models or options.data.parent / "models"
    weights = str(models / "mobilenetv2_100-imagenet" / "model.safetensors")
    real = options.arch == "mobilenetv2-minilm"
    settings = {
        "corpus": [f"{n}:{options.data / n}" for n in ("nih-chestxray14", "openi")] if real else [],
        "arch": options.arch,
        "image_weights": weights if real else "",
        "freeze.batch_norm": "frozen",
        "sampling.text_unit": "report",
        "sampling.batch_size": 32,
        "augment.degrees": 0.0,
        "augment.translate": 0.0,
        "augment.scale": 0.0,
    }
    if options.batch:
        settings |= {
            "corpus": [f"phantom:{round(1.5 * options.batch)}"],
            "sampling.batch_size": options.batch,
            "memory.chunk": options.chunk,
        }
    elif not real:
        settings["corpus"] = ["phantom:200"]
    config = read_config(None, settings)
    with (
        tempfile.TemporaryDirectory() as scratch,
        open_run(Path(scratch) / "run", config, resume=False) as folder,
    ):
        device = choose_device("auto")
        prepared = prepare(config, folder, silent, device)
        training = Training(config, prepared, device)
        if options.batch:
            print_memory(training, config)
        else:
            compare(training, device)
    print(describe_machine())


def print_memory(training: Training, config: TrainConfig) -> None:
    """Take one large step and print the peak memory of the process."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    training.take(training.sampler.plan(0)[0])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"{config.arch}: one step of {config.sampling.batch_size:,} images and texts in chunks of "
        f"{config.memory.chunk}: {time.monotonic() - began:.0f} s, peak memory {peak / 2**20:.1f} GiB "
        f"({before / 2**20:.1f} before the step)"
    )


def compare(training: Training, device: torch.device) -> None:
    """Time whole steps and bare passes, in turn."""
    batches = training.sampler.plan(0)
    side, model = training.prepared.train, training.model
    batch = batches[0]
    pixels = side.images.inputs(batch.images)
    tokens = side.texts.tokens(batch.texts)
    loss = SemanticMatchingLoss(0.1)
    similarity_targets = torch.rand(len(batch.images), len(tokens), device=device)
    training.set_modes()

    def bare() -> None:
        model.zero_grad(set_to_none=True)
        radiographs = F.normalize(model.visual(pixels), dim=-1)
        texts = F.normalize(model.text(tokens), dim=-1)
        value: Any = loss(radiographs, texts, model.logit_scale.exp(), similarity=similarity_targets)
        value.backward()

    def whole() -> None:
        training.take(batch)

    ratios, rates = [], []
    for _ in range(ROUNDS + 1):
        seconds = []
        for run in (bare, whole):
            began = time.monotonic()
            for _ in range(STEPS):
                run()
            seconds.append(time.monotonic() - began)
        ratios.append(seconds[0] / seconds[1])
        rates.append([STEPS * len(batch.images) / s for s in seconds])
    ratios, rates = ratios[1:], rates[1:]  # the first round warms up
    table = Table(title=f"training, batch of {len(batch.images)} images and {len(tokens)} text windows")
    for heading in ("", "images/s", "range"):
        table.add_column(heading, justify="right" if heading else "left")
    for column, name in enumerate(("bare forward and backward", "whole training step")):
        values = [rate[column] for rate in rates]
        table.add_row(name, f"{statistics.median(values):.1f}", f"{min(values):.1f} … {max(values):.1f}")
    middle = statistics.median(ratios)
    table.add_row("whole / bare", f"{middle:.2f}", f"{min(ratios):.2f} … {max(ratios):.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
