"""Search by region on phantoms: how often the finding of the query box is found at the box of the hit.

    python -m benchmarks.region_search --encoder runs/phantom

Queries are the findings of phantoms outside the index, each as the box of its mask. A hit is relevant if its
image shows the same finding and the box of the hit overlaps that finding's mask. The table has the share of
queries with a relevant hit among the first five, beside five random images with the query's box, and beside
whole-image search with the query's box. Then the latency of a search by region. The search gets no mask.
"""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe_machine
from corpus.geometry import Box
from corpus.phantom import masks, scene
from corpus.sources.phantom import PhantomSource
from indexer.index import Index
from indexer.ingest.pipeline import add_source
from retrieval.query.query import Query
from retrieval.search import search
from trainer.runtime.encoder import Encoder

TOP = 5
GALLERY_SEED, QUERY_SEED = 21, 22

Mask = NDArray[np.bool_]


@click.command()
@click.option("--data", hidden=True, help="Not needed: phantoms are drawn.")
@click.option("--encoder", "folder", default="runs/phantom", show_default=True, help="Encoder folder.")
@click.option("--count", default=600, show_default=True, help="Images in the index.")
@click.option("--queries", default=120, show_default=True, help="Images to box findings in.")
def main(data: str | None, folder: str, count: int, queries: int) -> None:
    """Measure and print."""
    del data
    encoder = Encoder.load(folder)
    with (
        tempfile.TemporaryDirectory() as folder_,
        Index.open(Path(folder_) / "home", read_only=False) as index,
    ):
        gallery = PhantomSource(count, seed=GALLERY_SEED)
        add_source(index, gallery, encoder, origin="bench", folder=folder, patches=True)
        index.use(encoder)
        boxes = _boxes(queries)
        gallery_masks = [masks(scene(GALLERY_SEED, number)) for number in range(count)]
        title = f"same finding at the box in the first {TOP}, {count} images, {len(boxes)} boxes"
        table = Table(title=title)
        for column in ("finding", "boxes", "by region", "whole image, same box", "by chance"):
            table.add_column(column, justify="left" if column == "finding" else "right")
        by_finding: dict[str, list[tuple[float, float, float]]] = {}
        seconds = []
        rng = np.random.default_rng(0)
        for location, finding, box in boxes:
            began = time.perf_counter()
            by_region = _found(index, Query(image=location, region=box, target="images", k=TOP), box)
            seconds.append(time.perf_counter() - began)
            whole = _found(index, Query(image=location, target="images", k=TOP), box)
            chance = [(int(number), box) for number in rng.integers(0, count, TOP)]
            scores = tuple(
                float(_relevant(gallery_masks, found, finding)) for found in (by_region, whole, chance)
            )
            by_finding.setdefault(finding, []).append((scores[0], scores[1], scores[2]))
        for finding, of in sorted(by_finding.items()):
            table.add_row(finding, str(len(of)), *(f"{value:.2f}" for value in np.mean(of, axis=0)))
        table.add_section()
        every = [scores for of in by_finding.values() for scores in of]
        table.add_row("all", str(len(every)), *(f"{value:.2f}" for value in np.mean(every, axis=0)))
    Console().print(table)
    p50, p95 = np.percentile(seconds, (50, 95)) * 1e3
    Console().print(f"search by region, encoding included: p50 {p50:.0f} ms, p95 {p95:.0f} ms")
    Console().print(describe_machine())


def _boxes(queries: int) -> list[tuple[str, str, Box]]:
    """Return image, finding and the box of its mask."""
    boxes = []
    for number in range(queries):
        for finding, mask in sorted(masks(scene(QUERY_SEED, number)).items()):
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            if rows.size:
                box = Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
                boxes.append((f"phantom://{QUERY_SEED}/{number}", finding, box))
    return boxes


def _found(index: Index, query: Query, box: Box) -> list[tuple[int, Box]]:
    """Return the numbers of the hits' images, each with the box of the hit, else with the query's."""
    found = []
    for hit in search(index, query).hits:
        given = next((item.box for item in hit.evidence if item.box is not None), box)
        found.append((int(str(hit.case.path).rpartition("/")[2]), given))
    return found


def _relevant(
    gallery_masks: Sequence[dict[str, Mask]], found: Sequence[tuple[int, Box]], finding: str
) -> bool:
    for number, box in found:
        mask = gallery_masks[number].get(finding)
        if mask is not None and mask[box.top : box.bottom, box.left : box.right].any():
            return True
    return False


if __name__ == "__main__":
    main()
