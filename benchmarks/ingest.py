"""Vectors per second written through store, flush, ledger and catalog, beside `QdrantClient(path=)`.

python -m benchmarks.ingest --data ../shared/data
"""

import tempfile
import time
import warnings
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.cohort import FINGERPRINT, write_cohort
from benchmarks.machine import describe_machine
from benchmarks.realistic import Vectors, real_vectors, spread
from indexer.catalog.ledger_records import collection_of
from indexer.index import Index


@click.command()
@click.option(
    "--data", type=click.Path(path_type=Path, exists=True), required=True, help="Folder of real data."
)
@click.option("--count", default=50_000, show_default=True, help="Vectors written.")
@click.option("--step", default=2_048, show_default=True, help="Vectors a commit.")
def main(data: Path, count: int, step: int) -> None:
    """Measure and print."""
    vectors = spread(real_vectors(data)[0], count)
    table = Table(title=f"{count:,} vectors of {vectors.shape[1]} dimensions, written")
    for column in ("writer", "vectors/s", "seconds by stage"):
        table.add_column(column)
    with tempfile.TemporaryDirectory() as folder:
        rate, stages = _ours(Path(folder) / "home", vectors, step)
    by_stage = ", ".join(f"{name} {seconds:.2f}" for name, seconds in stages.items())
    table.add_row("Similarity: store, flush, ledger and catalog", f"{rate:,.0f}", by_stage)
    with tempfile.TemporaryDirectory() as folder:
        peer = min(count, 5_000)
        table.add_row(
            f"QdrantClient(path=), {peer:,} vectors, store alone",
            f"{_peer(Path(folder), vectors[:peer]):,.0f}",
            "",
        )
    Console().print(table)
    Console().print(describe_machine())


def _ours(folder: Path, vectors: Vectors, step: int) -> tuple[float, dict[str, float]]:
    with Index.open(folder, read_only=False) as index:
        stages = write_cohort(index, vectors, [50.0] * len(vectors), step)
        assert index.store.count(collection_of("image", FINGERPRINT)) == len(vectors)
    return len(vectors) / sum(stages.values()), stages


def _peer(folder: Path, vectors: Vectors) -> float:
    from qdrant_client import QdrantClient, models

    warnings.simplefilter("ignore")
    client = QdrantClient(path=str(folder))
    params = models.VectorParams(size=vectors.shape[1], distance=models.Distance.COSINE)
    client.create_collection("bench", vectors_config=params)
    start = time.perf_counter()
    for low in range(0, len(vectors), 256):
        batch = np.arange(low, min(low + 256, len(vectors)))
        points = [
            models.PointStruct(id=int(i), vector=vectors[i].tolist(), payload={"sex": "F", "age": 50})
            for i in batch
        ]
        client.upsert("bench", points)
    seconds = time.perf_counter() - start
    client.close()
    return len(vectors) / seconds


if __name__ == "__main__":
    main()
