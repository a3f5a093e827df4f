"""A boxed finding among phantoms: how often it comes back at the box that the answer gives.

    python -m benchmarks.region_search --encoder runs/phantom

Queries are the findings of drawn images that the index does not hold, each as the box of its mask. A hit is
right where its image shows the same finding and the box that the answer gives meets that finding's mask; the
share of queries with a right hit among the first five stands beside the same for five images and equal boxes
drawn by chance, and beside the search of whole images with the query's own box. Then the time of a search by
region. The search sees no mask.
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
        shown = [masks(scene(GALLERY_SEED, number)) for number in range(count)]
        title = f"same finding at the box in the first {TOP}, {count} images, {len(boxes)} boxes"
        table = Table(title=title)
        for column in ("finding", "boxes", "by region", "whole image, same box", "by chance"):
            table.add_column(column, justify="left" if column == "finding" else "right")
        right: dict[str, list[tuple[float, float, float]]] = {}
        seconds = []
        rng = np.random.default_rng(0)
        for location, finding, box in boxes:
            began = time.perf_counter()
            by_region = _found(index, Query(image=location, region=box, target="images", k=TOP), box)
            seconds.append(time.perf_counter() - began)
            whole = _found(index, Query(image=location, target="images", k=TOP), box)
            chance = [(int(number), box) for number in rng.integers(0, count, TOP)]
            marks = tuple(float(_meets(shown, found, finding)) for found in (by_region, whole, chance))
            right.setdefault(finding, []).append((marks[0], marks[1], marks[2]))
        for finding, of in sorted(right.items()):
            table.add_row(finding, str(len(of)), *(f"{value:.2f}" for value in np.mean(of, axis=0)))
        table.add_section()
        every = [marks for of in right.values() for marks in of]
        table.add_row("all", str(len(every)), *(f"{value:.2f}" for value in np.mean(every, axis=0)))
    Console().print(table)
    p50, p95 = np.percentile(seconds, (50, 95)) * 1e3
    Console().print(f"a search by region, encoding and all: p50 {p50:.0f} ms, p95 {p95:.0f} ms")
    Console().print(describe_machine())


def _boxes(queries: int) -> list[tuple[str, str, Box]]:
    """Image, finding and the box of its mask."""
    boxes = []
    for number in range(queries):
        for finding, mask in sorted(masks(scene(QUERY_SEED, number)).items()):
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            if rows.size:
                box = Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
                boxes.append((f"phantom://{QUERY_SEED}/{number}", finding, box))
    return boxes


def _found(index: Index, query: Query, box: Box) -> list[tuple[int, Box]]:
    """The numbers of the images found, each with the box that the answer gives, else with the query's."""
    found = []
    for hit in search(index, query).hits:
        given = next((item.box for item in hit.evidence if item.box is not None), box)
        found.append((int(str(hit.case.path).rpartition("/")[2]), given))
    return found


def _meets(shown: Sequence[dict[str, Mask]], found: Sequence[tuple[int, Box]], finding: str) -> bool:
    for number, box in found:
        mask = shown[number].get(finding)
        if mask is not None and mask[box.top : box.bottom, box.left : box.right].any():
            return True
    return False


if __name__ == "__main__":
    main()
