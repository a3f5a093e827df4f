"""Latency and recall of filtered search over 100,000 realistic vectors, beside `QdrantClient(path=)`.

    python -m benchmarks.search_vectors --data ../shared/data

Ours is all that `similarity search` does after encoding: filter, store, ranking, catalog. The peer searches
bare vectors.
"""

import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.cohort import FINGERPRINT, write_cohort
from benchmarks.machine import describe_machine
from benchmarks.realistic import Vectors, real_vectors, spread
from indexer.catalog.ledger_records import collection_of
from indexer.index import Index
from retrieval.query.query import Query
from retrieval.search import search_vector

FILTERS = {"50 %": 50.0, "5 %": 5.0, "0.5 %": 0.5}
"""Share of the studies that pass → the age below which they are."""
PEER_QUERIES = 20  # it takes a fifth of a second for each

Search = Callable[[Vectors, float], Sequence[int]]


@click.command()
@click.option(
    "--data", type=click.Path(path_type=Path, exists=True), required=True, help="Folder of real data."
)
@click.option("--count", default=100_000, show_default=True, help="Vectors in the store.")
@click.option("--queries", default=1_000, show_default=True, help="Distinct queries per filter.")
@click.option("--peer/--no-peer", default=True, show_default=True, help="Measure QdrantClient(path=), too.")
def main(data: Path, count: int, queries: int, peer: bool) -> None:
    """Measure and print."""
    images, texts = real_vectors(data)
    vectors = spread(images, count)
    query_vectors = spread(np.concatenate([texts, images]), queries, seed=1)
    ages = np.random.default_rng(2).random(count) * 100
    table = Table(
        title=f"{count:,} studies, {vectors.shape[1]} dimensions each, {queries:,} queries, ten hits"
    )
    for column in ("search", "filter passes", "p50 ms", "p95 ms", "recall@10"):
        table.add_column(column, justify="right")
    with tempfile.TemporaryDirectory() as folder, Index.open(Path(folder) / "home", read_only=False) as index:
        write_cohort(index, vectors, ages.tolist(), step=4_096)
        index.store.optimize(collection_of("image", FINGERPRINT))

        def ours(vector: Vectors, below: float) -> list[int]:
            query = Query(text="bench", target="images", where=f"age < {below}")
            answer = search_vector(index, query, "image", vector)
            return [int(hit.case.study_id.partition(":")[2]) for hit in answer.hits]

        for name, below in FILTERS.items():
            table.add_row("Similarity, whole", name, *_measure(ours, below, query_vectors, vectors, ages))
    if peer:
        with tempfile.TemporaryDirectory() as folder:
            search = _peer(Path(folder), vectors, ages)
            for name, below in FILTERS.items():
                cells = _measure(search, below, query_vectors[:PEER_QUERIES], vectors, ages)
                table.add_row("QdrantClient(path=)", name, *cells)
    Console().print(table)
    Console().print(describe_machine())


def _payload(age: float, number: int) -> dict[str, str | float]:
    return {"kind": "image", "study": f"s{number}", "age": age}


def _peer(folder: Path, vectors: Vectors, ages: NDArray[np.float64]) -> Search:
    from qdrant_client import QdrantClient, models

    warnings.simplefilter("ignore")
    client = QdrantClient(path=str(folder), force_disable_check_same_thread=True)
    params = models.VectorParams(size=vectors.shape[1], distance=models.Distance.COSINE)
    client.create_collection("bench", vectors_config=params)
    for low in range(0, len(vectors), 1_000):
        numbers = range(low, min(low + 1_000, len(vectors)))
        client.upsert(
            "bench",
            models.Batch(
                ids=list(numbers),
                vectors=vectors[low : numbers.stop].tolist(),
                payloads=[_payload(float(ages[n]), n) for n in numbers],
            ),
        )

    def search(query: Vectors, below: float) -> list[int]:
        condition = models.FieldCondition(key="age", range=models.Range(lt=below))
        found = client.query_points(
            "bench", query=query.tolist(), limit=10, query_filter=models.Filter(must=[condition])
        )
        return [int(hit.id) for hit in found.points]

    return search


def _measure(
    search: Search, below: float, query_vectors: Vectors, vectors: Vectors, ages: NDArray[np.float64]
) -> list[str]:
    """Return p50 and p95 in milliseconds, and recall against an exact search of what passes."""
    allowed = np.flatnonzero(ages < below)
    among = vectors[allowed]
    seconds, found = [], 0
    for query in query_vectors:
        start = time.perf_counter()
        hits = search(query, below)
        seconds.append(time.perf_counter() - start)
        found += len(set(hits) & set(allowed[np.argsort(-(among @ query))[:10]].tolist()))
    p50, p95 = np.percentile(seconds, (50, 95)) * 1e3
    return [f"{p50:.1f}", f"{p95:.1f}", f"{found / len(query_vectors) / 10:.3f}"]


if __name__ == "__main__":
    main()
