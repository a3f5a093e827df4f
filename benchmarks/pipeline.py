"""Images per second through `index add`, beside the model alone and decoding alone.

    python -m benchmarks.pipeline --data ../shared/data --encoder runs/real

First with half of the cores for the model and half for decoding, as where a GPU runs the model: the slower
stage is the bound. Then as `index add` does by default, all cores for both: the stages compete, and
`together` is the rate of both in turn on the same cores.
"""

import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe_machine

if TYPE_CHECKING:
    from trainer.runtime.encoder import Encoder

REAL = Path("runs/real")


@click.command()
@click.option(
    "--data", type=click.Path(path_type=Path, exists=True), required=True, help="Folder of real data."
)
@click.option("--encoder", "name", help="Encoder folder or name (default: runs/real, else an untrained one).")
@click.option("--count", default=640, show_default=True, help="Images of 320 px.")
@click.option("--films", default=320, show_default=True, help="Full-size images.")
@click.option("--cores", default=os.cpu_count() or 1, show_default=True, help="Threads and decode processes.")
@click.option("--device", default="auto", show_default=True, help="Where the model runs.")
def main(data: Path, name: str | None, count: int, films: int, cores: int, device: str) -> None:
    """Measure and print."""
    import torch

    encoder = _encoder(name, device)
    table = Table(title=f"images/s of {encoder.name}")
    for column in ("images", "cores", "model", "decode", "together", "pipeline", "of the slower"):
        table.add_column(column, justify="right")
    small = sorted((data / "nih-chestxray14" / "images").glob("*.png"))[:count]
    with tempfile.TemporaryDirectory() as folder:
        large = _full_size(small[:films], Path(folder))
        for title, radiographs in (("320 px", small), ("2500 × 2048", large)):
            for threads, decoders in ((max(1, cores // 2), max(1, cores // 2)), (cores, cores)):
                shared = "shared" if threads == cores else f"{threads} + {decoders}"
                torch.set_num_threads(threads)
                table.add_row(f"{len(radiographs)} of {title}", shared, *_row(encoder, radiographs, decoders))
    Console().print(table)
    Console().print(describe_machine())


def _encoder(name: str | None, device: str) -> "Encoder":
    from trainer.models.resolve import open_encoder
    from trainer.runtime.encoder import Encoder

    if name is not None or REAL.exists():
        return open_encoder(name or str(REAL), device=device)
    from tests.encoders import build_tiny_encoder

    with tempfile.TemporaryDirectory() as folder:
        return Encoder.load(build_tiny_encoder(Path(folder) / "untrained", image_size=320), device)


def _row(encoder: "Encoder", radiographs: Sequence[Path], workers: int) -> list[str]:
    model = _model_alone(encoder, len(radiographs))
    decode = _decode_alone(encoder, radiographs, workers)
    whole = _pipeline(encoder, radiographs, workers)
    together = 1 / (1 / model + 1 / decode)
    rates = [f"{rate:.1f}" for rate in (model, decode, together, whole)]
    return [*rates, f"{whole / min(model, decode):.2f}"]


def _full_size(radiographs: Sequence[Path], folder: Path) -> list[Path]:
    """Write full-size images from small ones, with noise, so that decoding costs what real ones cost."""
    from PIL import Image

    rng = np.random.default_rng(0)
    made = []
    for number, radiograph in enumerate(radiographs):
        with Image.open(radiograph) as small:
            pixels = np.asarray(small.convert("L").resize((2048, 2500)), dtype=np.float32)
        pixels += rng.normal(0, 3, pixels.shape)
        made.append(folder / f"{radiograph.stem}.{'jpg' if number % 2 else 'png'}")
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(made[-1])
    return made


def _model_alone(encoder: "Encoder", count: int) -> float:
    framed = np.random.default_rng(0).random((64, encoder.image_size, encoder.image_size), dtype=np.float32)
    encoder.encode_framed(framed)
    start = time.perf_counter()
    for low in range(0, count, 64):
        encoder.encode_framed(framed[: min(64, count - low)])
    return count / (time.perf_counter() - start)


def _decode_alone(encoder: "Encoder", radiographs: Sequence[Path], workers: int) -> float:
    from corpus.images.decoder import DecodePool

    with DecodePool(encoder.framing, workers) as pool:
        for warm in [pool.submit(str(radiographs[0])) for _ in range(4 * workers)]:
            warm.result()
        start = time.perf_counter()
        for outcome in [pool.submit(str(radiograph)) for radiograph in radiographs]:
            outcome.result()
        return len(radiographs) / (time.perf_counter() - start)


def _pipeline(encoder: "Encoder", radiographs: Sequence[Path], workers: int) -> float:
    """Return images per second from the first image read to the last commit; process start is excluded."""
    import csv

    from corpus.sources import open_source
    from indexer.index import Index
    from indexer.ingest.added import Added, Stage
    from indexer.ingest.pipeline import add_source

    moments: list[float] = []

    def observe(stage: Stage, _added: Added) -> None:
        if stage in ("read", "committed"):
            moments.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "films.csv"
        with table.open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["study_id", "image"])
            rows.writerows([radiograph.stem, str(radiograph.absolute())] for radiograph in radiographs)
        source = open_source(f"manifest:{table}")
        with Index.open(Path(folder) / "home", read_only=False) as index:
            added = add_source(
                index, source, encoder, origin="bench", folder="", workers=workers, observer=observe
            )
        assert added.embedded["image"] == len(radiographs), added
    return len(radiographs) / (moments[-1] - moments[0])


if __name__ == "__main__":
    main()
