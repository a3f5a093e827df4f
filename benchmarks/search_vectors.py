"""Filtered search of 100,000 vectors made from real ones: time and recall, beside `QdrantClient(path=)`.

python -m benchmarks.search_vectors --data ../shared/data
"""

import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import UUID

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe_machine
from benchmarks.realistic import Vectors, real_vectors, spread
from indexer.vectors.conditions import Comparison

SHARES = {"50 %": 0.5, "5 %": 0.05, "0.5 %": 0.005}
PEER_QUERIES = 20  # it takes a fifth of a second for each

Search = Callable[[Vectors, str], Sequence[int]]


@click.command()
@click.option(
    "--data", type=click.Path(path_type=Path, exists=True), required=True, help="Folder of real data."
)
@click.option("--count", default=100_000, show_default=True, help="Vectors in the store.")
@click.option("--queries", default=1_000, show_default=True, help="Distinct queries a filter.")
@click.option("--graph", is_flag=True, help="Build the search graph first, whatever the count.")
@click.option("--peer/--no-peer", default=True, show_default=True, help="Measure QdrantClient(path=), too.")
def main(data: Path, count: int, queries: int, graph: bool, peer: bool) -> None:
    """Measure and print."""
    images, texts = real_vectors(data)
    vectors = spread(images, count)
    asked = spread(np.concatenate([texts, images]), queries, seed=1)
    draws = np.random.default_rng(2).random(count)
    table = Table(title=f"{count:,} vectors of {vectors.shape[1]} numbers, {queries:,} queries, ten hits")
    for column in ("store", "filter passes", "p50 ms", "p95 ms", "recall@10"):
        table.add_column(column, justify="right")
    with tempfile.TemporaryDirectory() as folder:
        from indexer.vectors.edge import EdgeStore

        store = EdgeStore(Path(folder), **({"graph_from": 1} if graph else {}))
        _fill_ours(store, vectors, draws)
        store.optimize("bench")

        def ours(query: Vectors, where: str) -> list[int]:
            return [h.id.int - 1 for h in store.search("bench", query, 10, Comparison("finding", "=", where))]

        for name, share in SHARES.items():
            table.add_row("Similarity", name, *_measure(ours, name, asked, vectors, draws < share))
        store.close()
    if peer:
        with tempfile.TemporaryDirectory() as folder:
            search = _peer(Path(folder), vectors, draws)
            for name, share in SHARES.items():
                told = _measure(search, name, asked[:PEER_QUERIES], vectors, draws < share)
                table.add_row("QdrantClient(path=)", name, *told)
    Console().print(table)
    Console().print(describe_machine())


def _payload(draw: float, number: int) -> dict[str, str | float | list[str]]:
    held = [name for name, share in SHARES.items() if draw < share]
    return {"kind": "image", "study": f"s{number}", "age": float(number % 90), "finding": held}


def _fill_ours(store: object, vectors: Vectors, draws: NDArray[np.float64]) -> None:
    from indexer.vectors.edge import EdgeStore
    from indexer.vectors.store import Point

    assert isinstance(store, EdgeStore)
    store.create("bench", vectors.shape[1], {})
    for low in range(0, len(vectors), 2_000):
        numbers = range(low, min(low + 2_000, len(vectors)))
        store.upsert("bench", [Point(UUID(int=n + 1), vectors[n], _payload(draws[n], n)) for n in numbers])
    store.flush("bench")


def _peer(folder: Path, vectors: Vectors, draws: NDArray[np.float64]) -> Search:
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
                payloads=[_payload(draws[n], n) for n in numbers],
            ),
        )

    def search(query: Vectors, where: str) -> list[int]:
        condition = models.FieldCondition(key="finding", match=models.MatchValue(value=where))
        found = client.query_points(
            "bench", query=query.tolist(), limit=10, query_filter=models.Filter(must=[condition])
        )
        return [int(hit.id) for hit in found.points]

    return search


def _measure(
    search: Search, name: str, asked: Vectors, vectors: Vectors, passes: NDArray[np.bool_]
) -> list[str]:
    """p50 and p95 in milliseconds, and recall against an exact search of what passes."""
    allowed = np.flatnonzero(passes)
    among = vectors[allowed]
    seconds, found = [], 0
    for query in asked:
        start = time.perf_counter()
        hits = search(query, name)
        seconds.append(time.perf_counter() - start)
        found += len(set(hits) & set(allowed[np.argsort(-(among @ query))[:10]].tolist()))
    p50, p95 = np.percentile(seconds, (50, 95)) * 1e3
    return [f"{p50:.1f}", f"{p95:.1f}", f"{found / len(asked) / 10:.3f}"]


if __name__ == "__main__":
    main()
