"""Vectors written through store, flush, ledger and catalog, a second; beside `QdrantClient(path=)`.

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

from benchmarks.machine import describe_machine
from benchmarks.realistic import Vectors, real_vectors, spread


@click.command()
@click.option(
    "--data", type=click.Path(path_type=Path, exists=True), required=True, help="Folder of real data."
)
@click.option("--count", default=50_000, show_default=True, help="Vectors written.")
@click.option("--step", default=2_048, show_default=True, help="Vectors a commit.")
def main(data: Path, count: int, step: int) -> None:
    """Measure and print."""
    vectors = spread(real_vectors(data)[0], count)
    table = Table(title=f"{count:,} vectors of {vectors.shape[1]} numbers, written")
    for column in ("writer", "vectors/s", "seconds by stage"):
        table.add_column(column)
    with tempfile.TemporaryDirectory() as folder:
        rate, stages = _ours(Path(folder) / "home", vectors, step)
    told = ", ".join(f"{name} {seconds:.2f}" for name, seconds in stages.items())
    table.add_row("Similarity: store, flush, ledger and catalog", f"{rate:,.0f}", told)
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
    from corpus.findings import from_sides
    from corpus.records import ImageRef, Study
    from indexer.catalog import Version
    from indexer.index import Index
    from indexer.ledger import Done, Ledger, NewItem, NewStudy, Step, collection_of
    from indexer.payload import attribute_hash, content_hash, digest, item_payload
    from indexer.vectors.store import Point

    fingerprint = "f" * 64
    stages = dict.fromkeys(("prepare", "vectors", "flush", "ledger"), 0.0)
    with Index.open(folder, read_only=False) as index:
        ledger = Ledger(index.catalog.engine, index.home)
        ledger.register(Version(fingerprint, "bench", vectors.shape[1], "", "active"))
        collection = collection_of("image", fingerprint)
        index.store.create(collection, vectors.shape[1], {})
        findings = from_sides(present=["edema", "nodule"], absent=["pneumothorax"])
        begin = time.perf_counter()
        for start in range(0, len(vectors), step):
            moment = time.perf_counter()
            new, points, done = [], [], {}
            for number in range(start, min(start + step, len(vectors))):
                study_id = f"bench:{number}"
                image = ImageRef(f"{study_id}#film", f"/films/{number}.png", "pa", "DX")
                study = Study(
                    study_id,
                    f"bench:p{number // 3}",
                    "bench",
                    (image,),
                    findings=findings,
                    age=50.0,
                    sex="F",
                    date="2020-03-01",
                )
                point = index.home.point_id(image.item_id)
                payload = item_payload(study, image, index.home, {})
                content = digest(number)
                done["image", point] = Done(
                    content_hash(content, fingerprint), attribute_hash(study, payload)
                )
                points.append(Point(point, vectors[number], payload))
                item = NewItem(image.item_id, point, "image", content, image.location, "pa", "DX", "0:0:0")
                new.append(NewStudy(study, (item,)))
            moment = _spend(stages, "prepare", moment)
            index.store.upsert(collection, points)
            moment = _spend(stages, "vectors", moment)
            index.store.flush(collection)
            moment = _spend(stages, "flush", moment)
            ledger.commit(Step(studies=new, done=done), fingerprint, "bench")
            _spend(stages, "ledger", moment)
        seconds = time.perf_counter() - begin
        assert index.store.count(collection) == len(vectors)
    return len(vectors) / seconds, stages


def _spend(stages: dict[str, float], stage: str, since: float) -> float:
    now = time.perf_counter()
    stages[stage] += now - since
    return now


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
